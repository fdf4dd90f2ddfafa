// A part of the picture at 1:1 and larger, before and after. Where the whole picture is shown scaled down, the server
// computes the part from the full size.

import * as api from "./api.js";
import { drag } from "./drag.js";
import { announce } from "./messages.js";
import { paint } from "./samples.js";

const MOST = 512; // pixels of a side that the server gives at once
const STEP = 0.1; // of a pane that an arrow key moves the loupe by
const FAR = 0.9; // the same with Shift
const ZOOMS = [1, 2, 4];
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

export class Loupe {
  constructor(section, settings, onError, onMove) {
    this.section = section;
    this.panes = section.querySelector("#panes");
    this.figures = [...section.querySelectorAll("figure")];
    this.canvases = [...section.querySelectorAll("canvas")];
    this.settings = settings;
    this.onError = onError;
    this.onMove = onMove;
    this.onready = () => {};
    this.tool = null; // while there is one, the pointer and Space paint
    this.picture = null;
    this.zoom = 1;
    this.centre = [0.5, 0.5];
    this.part = null; // { key, area, noisy, cleans } of a picture that is shown scaled down
    this.pending = null;
    this.telling = null;
    this.buttons = [...section.querySelectorAll("#zooms button")];
    for (const button of this.buttons) button.onclick = () => this.magnify(Number(button.dataset.zoom));
    new ResizeObserver(() => this.refresh()).observe(section);
    this.figures.forEach((figure) => figure.addEventListener("pointerdown", (event) => this.point(event, figure)));
    this.panes.addEventListener("keydown", (event) => this.key(event));
  }

  // `picture` is null when there is none any more.
  show(picture) {
    this.picture = picture;
    this.part = null;
    this.centre = [0.5, 0.5];
    if (picture !== null) {
      this.canvases[0].setAttribute("aria-label", `Part of ${picture.name}, before`);
      this.canvases[1].setAttribute("aria-label", `Part of ${picture.name}, after`);
    }
    this.refresh();
  }

  move(centre) {
    this.centre = centre.map((value) => Math.min(1, Math.max(0, value)));
    this.refresh();
  }

  magnify(zoom) {
    this.zoom = zoom;
    for (const button of this.buttons) button.setAttribute("aria-pressed", String(Number(button.dataset.zoom) === zoom));
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
    clearTimeout(this.pending);
    if (this.picture === null) return;
    const { picture } = this;
    const area = this.area();
    this.onMove(area);
    this.onready();
    if (!this.scaledDown) return;
    const failed = (error) => this.picture === picture && this.onError(error);
    this.pending = setTimeout(() => this.fetch(picture, area).catch(failed), 120);
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

  paint(hole, strengths, mask) {
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
    paint(after, noisy, clean, strengths, row, shown, mask?.part(scaled ? part.area : area, this.picture));
    for (const canvas of this.canvases) {
      canvas.style.width = `${shown[2] * this.zoom}px`;
      canvas.style.height = `${shown[3] * this.zoom}px`;
    }
  }

  // Where the pointer is, in shares of the picture.
  at(event, figure) {
    const pane = figure.getBoundingClientRect();
    const [left, top] = this.area();
    const { width, height } = this.picture;
    return [
      (left + (event.clientX - pane.left) / this.zoom) / width,
      (top + (event.clientY - pane.top) / this.zoom) / height,
    ];
  }

  // Dragging the magnified part moves it under the pane, or paints on it.
  point(event, figure) {
    if (event.button !== 0 || this.picture === null) return;
    this.panes.focus({ preventScroll: true });
    if (this.tool !== null) {
      this.tool.begin(this.at(event, figure));
      drag(event, (e) => this.tool?.move(this.at(e, figure)), () => this.tool?.end());
      return;
    }
    let last = [event.clientX, event.clientY];
    drag(event, (e) => {
      const { width, height } = this.picture;
      const step = [(last[0] - e.clientX) / this.zoom / width, (last[1] - e.clientY) / this.zoom / height];
      last = [e.clientX, e.clientY];
      this.move([this.centre[0] + step[0], this.centre[1] + step[1]]);
    });
  }

  key(event) {
    if (this.picture === null || event.ctrlKey || event.metaKey || event.altKey) return;
    const arrow = ARROWS[event.key];
    if (arrow) this.step(arrow, event.shiftKey ? FAR : STEP);
    else if (event.key === "Home") this.move([0.5, 0.5]);
    else if (event.key === "+" || event.key === "=") this.magnify(ZOOMS[Math.min(ZOOMS.length - 1, ZOOMS.indexOf(this.zoom) + 1)]);
    else if (event.key === "-") this.magnify(ZOOMS[Math.max(0, ZOOMS.indexOf(this.zoom) - 1)]);
    else if (event.key === " " && this.tool !== null) this.tool.touch(this.middle());
    else return;
    event.preventDefault();
    if (event.key !== " ") this.tell();
  }

  // By this share of what is shown, from the middle of what is shown: at a border that is not where it was asked to go.
  step([right, down], share) {
    const { width, height } = this.picture;
    const [, , wide, high] = this.area();
    const [x, y] = this.middle();
    this.move([x + (right * share * wide) / width, y + (down * share * high) / height]);
  }

  middle() {
    const { width, height } = this.picture;
    const [left, top, wide, high] = this.area();
    return [(left + wide / 2) / width, (top + high / 2) / height];
  }

  // Where it is, once the keys rest.
  tell() {
    clearTimeout(this.telling);
    this.telling = setTimeout(() => {
      if (this.picture === null) return;
      const [x, y] = this.middle().map((value) => Math.round(100 * value));
      announce(`Loupe at ${x} % from the left, ${y} % from the top, ${this.zoom}:1`);
    }, 300);
  }
}
