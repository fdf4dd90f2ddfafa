import * as api from "./api.js";
import * as curve from "./curve.js";
import { Loupe } from "./loupe.js";
import { Stage } from "./stage.js";

const $ = (id) => document.getElementById(id);
const pictures = new Map(); // id -> facts, and what was fetched of it
let about = null; // what the server says about itself
let current = null;
let adapting = null; // the id of the job
let reading = 0;

const detail = () => ($("detail-auto").checked ? "auto" : Number($("detail").value));
const strength = () => Number($("strength").value);
const strengths = () => ["luma", "colour"].map((part) => [part, Number($(part).value)]);
// What the server has to compute: the browser itself makes strengths up to 1 from the output of 1.
const settings = () => ({
  weights: $("weights").value || "start",
  detail: detail(),
  ...Object.fromEntries(strengths().filter(([, value]) => value > 1)),
});
const blend = () => strengths().map(([, value]) => Math.min(1, value));
const hole = () => (about.holes.length ? about.holes[Number($("hole").value)] : null);
const holeName = () => (hole() === null ? "" : String(hole()));
const percent = (share) => `${Math.round(100 * share)} %`;

const stage = new Stage($("stage"), (centre) => loupe.move(centre));
const loupe = new Loupe($("loupe"), settings, fail, (area) => stage.mark(area));

// Messages ---------------------------------------------------------------------------------------------------------

function say(text, share = null) {
  $("status-text").textContent = text;
  $("status-bar").hidden = share === null;
  $("status-bar").value = share ?? 0;
}

function fail(error) {
  if (!(error instanceof api.Refused)) console.error(error);
  $("error").hidden = false;
  const text = $("error").querySelector("p");
  text.textContent = text.textContent ? `${text.textContent}\n${error.message}` : error.message;
}

function forgive() {
  $("error").hidden = true;
  $("error").querySelector("p").textContent = "";
}

// Pictures ---------------------------------------------------------------------------------------------------------

async function take(files) {
  forgive();
  for (const file of files) {
    if (file.size > about.megabytes * 1e6) {
      fail(new api.Refused(`${file.name}: larger than the limit of ${about.megabytes} MB; make it smaller`));
      continue;
    }
    reading += 1;
    say(`Reading ${file.name} …`);
    try {
      const facts = await api.upload(file);
      pictures.set(facts.id, { ...facts, noisy: null, cleans: new Map(), of: null, wanted: null });
      await choose(facts.id);
    } catch (error) {
      fail(error);
      say(current ? "" : "Drop a picture to begin.");
    } finally {
      reading -= 1;
    }
  }
}

async function choose(id) {
  const picture = pictures.get(id);
  picture.noisy ??= await api.samples(picture.before);
  current = picture;
  list();
  document.body.classList.remove("empty");
  $("controls").disabled = $("adapt-start").disabled = false;
  $("facts").textContent =
    `${picture.name}: ${picture.width}\u00a0×\u00a0${picture.height}, ${picture.bits} bits` + (picture.grey ? ", grey" : "") +
    (picture.view[0] < picture.width ? `; shown at ${picture.view[0]}\u00a0×\u00a0${picture.view[1]}, the loupe at full size` : "") +
    (picture.unfit ? `; ${picture.unfit}` : "");
  $("format").replaceChildren(...picture.formats.map((suffix) => new Option(suffix.slice(1).toUpperCase(), suffix)));
  $("format").value = picture.format ?? picture.formats[0];
  stage.show(picture);
  loupe.show(picture);
  repaint();
  refresh();
  measure(picture);
}

async function drop(id) {
  pictures.get(id).wanted = null;
  await api.remove(id).catch(fail);
  pictures.delete(id);
  if (current?.id === id) {
    current = null;
    $("noise").hidden = true;
    $("controls").disabled = $("adapt-start").disabled = true;
    $("facts").textContent = "";
    const next = pictures.keys().next();
    if (next.done) {
      document.body.classList.add("empty");
      say("Drop a picture to begin.");
    } else await choose(next.value);
  }
  list();
}

function list() {
  $("pictures").replaceChildren(...[...pictures.values()].map((picture) => {
    const entry = document.createElement("span");
    entry.className = picture === current ? "chosen" : "";
    const open = document.createElement("button");
    open.type = "button";
    open.textContent = picture.name;
    open.title = picture.name;
    open.onclick = () => choose(picture.id).catch(fail);
    const close = document.createElement("button");
    close.type = "button";
    close.textContent = "×";
    close.setAttribute("aria-label", `Remove ${picture.name}`);
    close.onclick = () => drop(picture.id).catch(fail);
    entry.append(open, close);
    return entry;
  }));
}

// Clean views ------------------------------------------------------------------------------------------------------

async function refresh() {
  const picture = current;
  const wanted = settings();
  const key = JSON.stringify(wanted);
  if (picture.wanted === key) {
    if (picture.cleans.size) say(ready());
    return;
  }
  picture.wanted = key;
  loupe.refresh();
  try {
    const job = await api.compute(picture.id, "view", { settings: wanted });
    const result = await api.follow(job, (state) => {
      if (picture === current && !reading) say(api.inWords(state, "Denoising"), state.share);
    });
    if (picture.wanted !== key) return;
    if (result === null) { // another picture was looked at meanwhile
      picture.wanted = null;
      return;
    }
    const cleans = new Map();
    const names = Object.keys(result.views).sort((a, b) => (b === holeName()) - (a === holeName()));
    for (const name of names) { // the one that is shown first, the others so that the slider finds them
      cleans.set(name, await api.samples(result.views[name]));
      if (picture.wanted !== key) return;
      picture.cleans = cleans;
      picture.of = key; // until then those of other settings are shown
      if (picture === current && name === holeName()) repaint();
    }
    if (picture === current && !reading) say(ready());
  } catch (error) {
    if (picture.wanted !== key) return;
    picture.wanted = null;
    if (picture === current) say("");
    fail(error);
  }
}

const ready = () => (about.holes.length ? "Ready: drag the divider, move the sliders." : "Ready: drag the divider, move the slider.");

function repaint() {
  if (repaint.asked) return;
  repaint.asked = true;
  requestAnimationFrame(() => {
    repaint.asked = false;
    if (current === null) return;
    stage.paint(current.noisy, current.cleans.get(holeName()) ?? null, blend());
    loupe.paint(holeName(), blend());
    const done = current.of === JSON.stringify(settings()) && current.cleans.has(holeName());
    const shown = [current.id, $("weights").value, detail(), holeName(), strength()];
    if (strengths().some(([, value]) => value !== strength())) shown.push(...strengths().map(([, value]) => value));
    document.body.dataset.shown = done ? shown.join(" ") : "";
  });
}
loupe.onready = repaint;

async function measure(picture) {
  if (!about.noise) return;
  $("noise").hidden = !picture.curve;
  try {
    if (!picture.curve) {
      const result = await api.follow(await api.compute(picture.id, "noise", {}), () => {});
      if (result === null) return;
      picture.curve = result;
    }
    if (picture !== current) return;
    curve.draw($("curve"), picture.curve);
    $("noise-text").textContent = curve.inWords(picture.curve);
    $("noise").hidden = false;
  } catch (error) {
    if (picture !== current) return;
    $("curve").replaceChildren();
    $("noise-text").textContent = error.message;
    $("noise").hidden = false;
  }
}

// Full size ----------------------------------------------------------------------------------------------------------

async function download() {
  const picture = current;
  forgive();
  $("download").disabled = true;
  try {
    const all = { ...settings(), strength: strength(), ...Object.fromEntries(strengths()), ...(hole() === null ? {} : { k: hole() }) };
    const job = await api.compute(picture.id, "result", { settings: all, format: $("format").value });
    const result = await api.follow(job, (state) => say(api.inWords(state, "Full size"), state.share));
    if (result === null) return;
    const link = document.createElement("a");
    link.href = api.address(result.file);
    link.download = result.name;
    link.click();
    say(`${result.name}, ${(result.bytes / 1e6).toFixed(1)} MB; ${result.noise}`);
    for (const warning of result.warnings) fail(new api.Refused(`${result.name}: ${warning}`));
  } catch (error) {
    say("");
    fail(error);
  } finally {
    $("download").disabled = false;
  }
}

// Adaptation ---------------------------------------------------------------------------------------------------------

async function adapt() {
  forgive();
  $("adapt-start").hidden = true;
  $("adapt-stop").hidden = $("adapt-bar").hidden = false;
  $("adapt-stop").disabled = false;
  try {
    adapting = await api.adapt(Number($("minutes").value));
    const result = await api.follow(adapting, (state) => {
      $("adapt-bar").value = state.share;
      $("adapt-text").textContent = api.inWords(state, "Adapting");
    });
    if (result?.helped) {
      about = await api.describe();
      weights("adapted");
      if (current) refresh();
    }
    $("adapt-text").textContent = result === null ? "Stopped before it began." : result.message;
  } catch (error) {
    $("adapt-text").textContent = "";
    fail(error);
  } finally {
    adapting = null;
    $("adapt-start").hidden = false;
    $("adapt-stop").hidden = $("adapt-bar").hidden = true;
  }
}

function weights(chosen) {
  $("weights").replaceChildren(...Object.entries(about.weights).map(([id, name]) => new Option(name, id)));
  $("weights").value = chosen;
  $("weights-control").hidden = Object.keys(about.weights).length < 2;
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
  $("error").querySelector("button").onclick = forgive;
  $("hole").oninput = () => {
    label();
    repaint();
  };
  let pending = null;
  const detailed = () => {
    label();
    repaint();
    clearTimeout(pending);
    pending = setTimeout(() => current && refresh(), 250);
  };
  $("strength").oninput = () => {
    $("luma").value = $("colour").value = strength();
    detailed();
  };
  $("luma").oninput = $("colour").oninput = detailed;
  $("detail").oninput = () => {
    $("detail-auto").checked = false;
    detailed();
  };
  $("detail-auto").onchange = detailed;
  $("format").onchange = () => { current.format = $("format").value; };
  $("weights").onchange = () => current && refresh();
  $("download").onclick = download;
  $("adapt-start").onclick = adapt;
  $("adapt-stop").onclick = () => {
    $("adapt-stop").disabled = true;
    if (adapting) api.stop(adapting).catch(fail);
  };
  window.addEventListener("pagehide", () => api.end());
  window.addEventListener("pageshow", (event) => event.persisted && location.reload());
  setInterval(() => api.describe().catch((error) => error.over && fail(error)), 60_000);
}

function label() {
  $("strength-value").textContent = percent(strength());
  for (const [part, value] of strengths()) $(`${part}-value`).textContent = percent(value);
  $("detail-value").textContent = detail() === "auto" ? "auto" : percent(detail());
  $("hole-value").textContent = hole() === "mean" ? "mean of all" : `k = ${hole()}`;
}

// The sliders begin where the command does.
function settle() {
  const own = about.settings;
  for (const part of ["strength", "luma", "colour"]) {
    $(part).max = Math.max(about.strongest, own.strength, own.luma ?? 0, own.colour ?? 0);
    $(part).value = own[part] ?? own.strength;
  }
  $("detail-auto").checked = own.detail === "auto";
  if (own.detail !== "auto") $("detail").value = own.detail;
  $("hole-control").hidden = !about.holes.length;
  $("hole").max = about.holes.length - 1;
  $("hole").value = Math.max(0, about.holes.indexOf(own.k));
  label();
}

async function begin() {
  listen();
  try {
    about = await api.start();
  } catch (error) {
    fail(error);
    say("");
    return;
  }
  weights("start");
  settle();
  $("adapt").hidden = !about.adapt;
  $("kinds").textContent += `. Up to ${about.megapixels} megapixels.`;
  document.body.dataset.ready = "yes";
}

begin();
