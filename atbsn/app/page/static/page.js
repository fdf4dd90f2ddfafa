// The page: which pictures there are, and which is shown.

import { Adaptation } from "./adaptation.js";
import * as api from "./api.js";
import { $, state } from "./dom.js";
import { Downloads } from "./downloads.js";
import { keep, kept } from "./keep.js";
import { Loupe } from "./loupe.js";
import { announce, fail, forgive, note, say } from "./messages.js";
import { Regions } from "./regions.js";
import * as settings from "./settings.js";
import { Stage } from "./stage.js";
import { Views } from "./views.js";

const NOTHING = "Drop a picture to begin.";
const SIGN = 30_000; // milliseconds between two signs to the server that the page is open

const { pictures } = state;
const stage = new Stage($("stage"), (centre) => loupe.move(centre));
const loupe = new Loupe($("loupe"), settings.settings, fail, (area) => stage.mark(area));
const views = new Views(stage, loupe);
const regions = new Regions($("regions"), choseTool, (area) => views.repaint(area));
const downloads = new Downloads(regions, () => enable());
const adaptation = new Adaptation(() => state.current && views.refresh());
loupe.onready = () => views.repaint();

// Pictures -----------------------------------------------------------------------------------------------------------

const opened = (facts) => ({ ...facts, noisy: null, cleans: new Map(), of: null, wanted: null, mask: null, masked: false });

async function take(files) {
  if (state.about === null) return;
  forgive();
  let isFirst = true;
  for (const file of files) {
    if (file.size > state.about.megabytes * 1e6) {
      fail(new api.Refused(`${file.name}: larger than the limit of ${state.about.megabytes} MB; make it smaller`));
      continue;
    }
    views.reading += 1;
    say(`Reading ${file.name} …`);
    try {
      const facts = await api.upload(file);
      pictures.set(facts.id, opened(facts));
      if (isFirst) await choose(facts.id);
      else list();
      isFirst = false;
    } catch (error) {
      fail(error);
      say(state.current ? "" : NOTHING);
    } finally {
      views.reading -= 1;
    }
  }
  if (state.current?.cleans.size) views.refresh(); // says what is to be said of it
}

async function choose(id) {
  const picture = pictures.get(id);
  picture.noisy ??= await api.samples(picture.before);
  if (picture.removed) return;
  state.current = picture;
  list();
  document.body.classList.remove("empty");
  enable();
  $("facts").textContent =
    `${picture.name}: ${picture.width}\u00a0×\u00a0${picture.height}, ${picture.bits} bits` + (picture.grey ? ", grey" : "") +
    (picture.view[0] < picture.width ? `; shown at ${picture.view[0]}\u00a0×\u00a0${picture.view[1]}, the loupe at full size` : "") +
    (picture.unfit ? `; ${picture.unfit}` : "");
  downloads.offer(picture);
  regions.offer();
  stage.show(picture);
  loupe.show(picture);
  views.repaint();
  views.refresh();
  views.measure(picture);
  announce(`${picture.name}, ${[...pictures.keys()].indexOf(id) + 1} of ${pictures.size}, is shown.`);
}

async function remove(id) {
  const picture = pictures.get(id);
  picture.removed = true;
  picture.wanted = null;
  pictures.delete(id);
  list();
  if (state.current === picture) {
    state.current = null;
    $("noise").hidden = true;
    $("facts").textContent = "";
    enable();
    loupe.show(null);
    const next = pictures.keys().next();
    if (next.done) {
      document.body.classList.add("empty");
      $("choose").focus();
      say(NOTHING);
    } else await choose(next.value).catch(fail);
  }
  const { message, mattered } = await api.remove(id);
  if (mattered) note(message);
  else announce(message);
}

function list() {
  const focused = document.activeElement; // the list is made anew under the focus
  const isWithin = $("pictures").contains(focused);
  $("pictures").replaceChildren(...[...pictures.values()].map((picture) => {
    const entry = document.createElement("span");
    entry.className = picture === state.current ? "chosen" : "";
    const open = document.createElement("button");
    open.type = "button";
    open.textContent = picture.name;
    open.title = picture.name;
    open.dataset.picture = picture.id;
    if (picture === state.current) open.setAttribute("aria-current", "true");
    open.onclick = () => choose(picture.id).catch(fail);
    const close = document.createElement("button");
    close.type = "button";
    close.textContent = "×";
    close.setAttribute("aria-label", `Remove ${picture.name}`);
    close.onclick = () => remove(picture.id).catch(fail);
    entry.append(open, close);
    return entry;
  }));
  const same = $("pictures").querySelector(`[data-picture="${focused.dataset.picture}"]`);
  if (isWithin) (same ?? $("pictures").querySelector("[data-picture]"))?.focus();
  downloads.count();
  remember();
}

function enable() {
  const isNone = state.current === null;
  $("controls").disabled = $("adapt-start").disabled = isNone;
  $("regions").disabled = isNone || downloads.isBusy; // a download takes the masks as they are
}

function choseTool(tool) {
  stage.tool = loupe.tool = tool;
  document.body.classList.toggle("painting", tool !== null);
  views.repaint();
}

// What a reload would lose -------------------------------------------------------------------------------------------

function remember() {
  if (state.about === null) return;
  const formats = [...pictures.values()].filter((picture) => picture.format).map(({ id, format }) => [id, format]);
  keep({ token: state.about.token, picture: state.current?.id, formats, sliders: settings.positions() });
}

async function restore(before) {
  const formats = new Map(before.formats);
  for (const facts of state.about.pictures) {
    const picture = { ...opened(facts), format: formats.get(facts.id) };
    if (facts.mask) await regions.restore(picture, facts.mask);
    pictures.set(facts.id, picture);
  }
  if (pictures.size) await choose(pictures.has(before.picture) ? before.picture : pictures.keys().next().value);
  const { adapt, all, result } = state.about.jobs;
  if (adapt) adaptation.run(async () => adapt);
  if (all ?? result) downloads.goOn(all ?? result);
}

// The page itself ------------------------------------------------------------------------------------------------------

function listen() {
  const dragged = (event) => [...event.dataTransfer.types].includes("Files");
  window.addEventListener("dragover", (event) => {
    event.preventDefault();
    if (dragged(event)) document.body.classList.add("dragging");
  });
  window.addEventListener("dragleave", (event) => {
    if (event.relatedTarget === null) document.body.classList.remove("dragging");
  });
  window.addEventListener("drop", (event) => {
    event.preventDefault();
    document.body.classList.remove("dragging");
    take(event.dataTransfer.files);
  });
  $("add").onclick = $("choose").onclick = () => $("file").click();
  $("file").onchange = () => {
    const files = [...$("file").files];
    $("file").value = "";
    take(files);
  };
  for (const box of [$("error"), $("note")]) box.querySelector("button").onclick = forgive;
  settings.listen(() => views.repaint(), () => state.current && views.refresh());
  window.addEventListener("pagehide", () => {
    remember();
    api.leave();
  });
  window.addEventListener("pageshow", (event) => event.persisted && location.reload());
  setInterval(() => api.describe().catch((error) => error.over && fail(error)), SIGN);
}

async function begin() {
  const before = kept();
  listen();
  try {
    state.about = before.token ? await api.comeBack(before.token) : null;
    if (state.about === null && before.picture) {
      note("The pictures of before are deleted: the page was closed for long, or the server was started anew.");
    }
    const isBack = state.about !== null;
    state.about ??= await api.start();
    settings.settle(isBack ? before.sliders : null);
    $("adapt").hidden = !state.about.adapt;
    $("kinds").textContent = `${state.about.formats.join(", ")}. Up to ${state.about.megapixels} megapixels.`;
    remember();
    if (isBack) await restore(before);
  } catch (error) {
    fail(error);
    say("");
    return;
  }
  document.body.dataset.ready = "yes";
}

begin();
