// A part of the picture at 1:1 and larger, before and after. Where the whole picture is shown scaled down, the server
// computes the part from the full size.

import * as api from "./api.js";
import { paint } from "./samples.js";

const MOST = 512; // pixels of a side that the server gives at once

export class Loupe {
  constructor(section, settings, onError, onMove) {
    this.section = section;
    this.figures = [...section.querySelectorAll("figure")];
    this.canvases = [...section.querySelectorAll("canvas")];
    this.settings = settings;
    this.onError = onError;
    this.onMove = onMove;
    this.onready = () => {};
    this.picture = null;
    this.zoom = 1;
    this.centre = [0.5, 0.5];
    this.part = null; // { key, area, noisy, cleans } of a picture that is shown scaled down
    this.pending = null;
    for (const button of section.querySelectorAll("#zooms button")) {
      button.onclick = () => {
        this.zoom = Number(button.dataset.zoom);
        for (const other of section.querySelectorAll("#zooms button")) {
          other.setAttribute("aria-pressed", String(other === button));
        }
        this.refresh();
      };
    }
    new ResizeObserver(() => this.refresh()).observe(section);
    this.figures.forEach((figure) => figure.addEventListener("pointerdown", (event) => this.pan(event, figure)));
  }

  show(picture) {
    this.picture = picture;
    this.part = null;
    this.centre = [0.5, 0.5];
    this.refresh();
  }

  move(centre) {
    this.centre = centre.map((value) => Math.min(1, Math.max(0, value)));
    this.refresh();
  }

  // Whole pixels that fit into a pane, around the centre, within the picture.
  area() {
    const { width, height } = this.picture;
    const pane = this.figures[0].getBoundingClientRect();
    const wide = Math.max(1, Math.min(Math.ceil(pane.width / this.zoom), width, MOST));
    const high = Math.max(1, Math.min(Math.ceil(pane.height / this.zoom), height, MOST));
    const left = Math.round(this.centre[0] * width - wide / 2);
    const top = Math.round(this.centre[1] * height - high / 2);
    return [Math.min(Math.max(0, left), width - wide), Math.min(Math.max(0, top), height - high), wide, high];
  }

  get scaledDown() {
    return this.picture.view[0] !== this.picture.width || this.picture.view[1] !== this.picture.height;
  }

  refresh() {
    if (this.picture === null) return;
    const area = this.area();
    this.onMove(area);
    this.onready();
    if (!this.scaledDown) return;
    clearTimeout(this.pending);
    this.pending = setTimeout(() => this.fetch(this.picture, area).catch(this.onError), 120);
  }

  async fetch(picture, area) {
    const settings = this.settings();
    const key = JSON.stringify([picture.id, area, settings]);
    if (this.part?.key === key) return;
    this.section.classList.add("waiting");
    const part = { key, picture, area, noisy: await api.region(picture.id, area), cleans: new Map() };
    if (this.picture !== picture || String(this.area()) !== String(area)) return;
    this.part = part;
    this.onready();
    const job = await api.compute(picture.id, "view", { settings, region: area });
    const result = await api.follow(job, () => {});
    if (result === null || this.part !== part) return;
    for (const [name, file] of Object.entries(result.views)) part.cleans.set(name, await api.samples(file));
    this.section.classList.remove("waiting");
    this.onready();
  }

  paint(hole, strengths) {
    const [before, after] = this.canvases;
    const area = this.area();
    const scaled = this.scaledDown;
    const part = this.part?.picture === this.picture ? this.part : null;
    let noisy = this.picture.noisy;
    let clean = this.picture.cleans.get(hole) ?? null;
    let row = this.picture.view[0];
    let shown = area;
    if (scaled) {
      if (part === null) return;
      ({ noisy } = part);
      clean = part.cleans.get(hole) ?? null;
      row = part.area[2];
      shown = [0, 0, part.area[2], part.area[3]];
    }
    if (!scaled) this.section.classList.toggle("waiting", clean === null);
    paint(before, noisy, null, [0, 0], row, shown);
    paint(after, noisy, clean, strengths, row, shown);
    for (const canvas of this.canvases) {
      canvas.style.width = `${shown[2] * this.zoom}px`;
      canvas.style.height = `${shown[3] * this.zoom}px`;
    }
  }

  // Dragging the magnified part moves it under the pane.
  pan(event, figure) {
    if (event.button !== 0 || this.picture === null) return;
    event.preventDefault();
    figure.setPointerCapture(event.pointerId);
    let last = [event.clientX, event.clientY];
    const move = (e) => {
      const { width, height } = this.picture;
      const step = [(last[0] - e.clientX) / this.zoom / width, (last[1] - e.clientY) / this.zoom / height];
      last = [e.clientX, e.clientY];
      this.move([this.centre[0] + step[0], this.centre[1] + step[1]]);
    };
    const end = () => {
      figure.removeEventListener("pointermove", move);
      figure.removeEventListener("pointerup", end);
      figure.removeEventListener("pointercancel", end);
    };
    figure.addEventListener("pointermove", move);
    figure.addEventListener("pointerup", end);
    figure.addEventListener("pointercancel", end);
  }
}
