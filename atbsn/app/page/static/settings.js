// The sliders: one set of settings for all pictures.

import { $, percent, state } from "./dom.js";

const SLIDERS = ["strength", "luma", "colour", "detail", "hole"];

export const detail = () => ($("detail-auto").checked ? "auto" : Number($("detail").value));
export const strength = () => Number($("strength").value);
export const strengths = () => ["luma", "colour"].map((part) => [part, Number($(part).value)]);
export const hole = () => (state.about.holes.length ? state.about.holes[Number($("hole").value)] : null);
export const holeName = () => (hole() === null ? "" : String(hole()));

// What the browser paints of the server's output of strength 1: [luma, colour].
export const blend = () => strengths().map(([, value]) => Math.min(1, value));

// What the server has to compute for that.
export const settings = () => ({
  weights: $("weights").value || "start",
  detail: detail(),
  ...Object.fromEntries(strengths().filter(([, value]) => value > 1)),
});

// What a file is to be made with.
export const allSettings = () => ({
  ...settings(),
  strength: strength(),
  ...Object.fromEntries(strengths()),
  ...(hole() === null ? {} : { k: hole() }),
});

// In words, for the tests to wait for.
export function shown() {
  const words = [$("weights").value, detail(), holeName(), strength()];
  if (strengths().some(([, value]) => value !== strength())) words.push(...strengths().map(([, value]) => value));
  return words.join(" ");
}

export const positions = () => ({
  ...Object.fromEntries(SLIDERS.map((id) => [id, $(id).value])),
  auto: $("detail-auto").checked,
  weights: $("weights").value,
});

export function offerWeights(chosen) {
  $("weights").replaceChildren(...Object.entries(state.about.weights).map(([id, name]) => new Option(name, id)));
  $("weights").value = chosen in state.about.weights ? chosen : "start";
  $("weights-control").hidden = Object.keys(state.about.weights).length < 2;
}

// The sliders begin where the command does, or where they were.
export function settle(before) {
  const own = state.about.settings;
  for (const part of ["strength", "luma", "colour"]) {
    $(part).max = Math.max(state.about.strongest, own.strength, own.luma ?? 0, own.colour ?? 0);
    $(part).value = own[part] ?? own.strength;
  }
  $("detail-auto").checked = own.detail === "auto";
  if (own.detail !== "auto") $("detail").value = own.detail;
  $("hole-control").hidden = !state.about.holes.length;
  $("hole").max = state.about.holes.length - 1;
  $("hole").value = Math.max(0, state.about.holes.indexOf(own.k));
  if (before) {
    for (const id of SLIDERS) $(id).value = before[id];
    $("detail-auto").checked = before.auto;
  }
  offerWeights(before?.weights ?? "start");
  label();
}

function tell(id, text) {
  $(`${id}-value`).textContent = text;
  $(id).setAttribute("aria-valuetext", text);
}

function label() {
  tell("strength", percent(strength()));
  for (const [part, value] of strengths()) tell(part, percent(value));
  tell("detail", detail() === "auto" ? "auto" : percent(detail()));
  tell("hole", hole() === "mean" ? "mean of all" : `k = ${hole()}`);
}

// `onPaint` follows at once what the browser can do alone, `onCompute` what the server has to.
export function listen(onPaint, onCompute) {
  let pending = null;
  const changed = () => {
    label();
    onPaint();
    clearTimeout(pending);
    pending = setTimeout(onCompute, 250);
  };
  $("hole").oninput = () => {
    label();
    onPaint();
  };
  $("strength").oninput = () => {
    $("luma").value = $("colour").value = strength();
    changed();
  };
  $("luma").oninput = $("colour").oninput = changed;
  $("detail").oninput = () => {
    $("detail-auto").checked = false;
    changed();
  };
  $("detail-auto").onchange = changed;
  $("weights").onchange = onCompute;
}
