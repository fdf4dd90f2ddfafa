// Has the server compute what the picture looks like, and paints it.

import * as api from "./api.js";
import * as curve from "./curve.js";
import { $, state } from "./dom.js";
import { fail, say } from "./messages.js";
import { blend, holeName, settings, shown } from "./settings.js";

export class Views {
  constructor(stage, loupe) {
    this.stage = stage;
    this.loupe = loupe;
    this.isAsked = false;
    this.changed = null; // of the mask, since it was painted
    this.reading = 0; // files that are being handed in, of which the page speaks meanwhile
  }

  async refresh() {
    const picture = state.current;
    const wanted = settings();
    const key = JSON.stringify(wanted);
    if (picture.wanted === key) {
      if (picture.cleans.size) say(ready());
      return;
    }
    picture.wanted = key;
    this.loupe.refresh();
    const isShown = () => picture === state.current && !this.reading;
    try {
      const job = await api.compute(picture.id, "view", { settings: wanted });
      const result = await api.follow(job, (job_) => isShown() && say(api.inWords(job_, "Denoising"), job_.share));
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
        if (picture !== state.current || name !== holeName()) continue;
        this.repaint();
        if (isShown()) say(ready()); // now: when the others are there, it may speak of a download
      }
    } catch (error) {
      if (picture.wanted !== key || picture.removed) return;
      picture.wanted = null;
      if (picture === state.current) say("");
      fail(error);
    }
  }

  // `area` as for the stage.
  repaint(area = null) {
    this.changed = this.isAsked ? around(this.changed, area) : area;
    if (this.isAsked) return;
    this.isAsked = true;
    requestAnimationFrame(() => {
      this.isAsked = false;
      const picture = state.current;
      if (picture === null) return;
      this.stage.paint(picture.noisy, picture.cleans.get(holeName()) ?? null, blend(), picture.mask, this.changed);
      this.loupe.paint(holeName(), blend(), picture.mask);
      const done = picture.of === JSON.stringify(settings()) && picture.cleans.has(holeName());
      document.body.dataset.shown = done ? `${picture.id} ${shown()}` : "";
    });
  }

  // The noise curve.
  async measure(picture) {
    if (!state.about.noise) return;
    $("noise").hidden = !picture.curve;
    try {
      if (!picture.curve) {
        const result = await api.follow(await api.compute(picture.id, "noise", {}), () => {});
        if (result === null) return;
        picture.curve = result;
      }
      if (picture !== state.current) return;
      curve.draw($("curve"), picture.curve);
      $("noise-text").textContent = curve.inWords(picture.curve);
      $("noise").hidden = false;
    } catch (error) {
      if (picture !== state.current) return;
      $("curve").replaceChildren();
      $("noise-text").textContent = error.message;
      $("noise").hidden = false;
    }
  }
}

// The smallest area that holds both; null is all there is.
function around(one, other) {
  if (one === null || other === null) return null;
  const [left, top] = [Math.min(one[0], other[0]), Math.min(one[1], other[1])];
  const right = Math.max(one[0] + one[2], other[0] + other[2]);
  const bottom = Math.max(one[1] + one[3], other[1] + other[3]);
  return [left, top, right - left, bottom - top];
}

const ready = () => `Ready: drag the divider, move the slider${state.about.holes.length ? "s" : ""}.`;
