// The picture as a whole: before under after, and a divider between them.

import { drag } from "./drag.js";
import { paint, shade } from "./samples.js";

export class Stage {
  // `onPoint` is told where the pointer is while it moves the loupe, in shares of the picture.
  constructor(section, onPoint) {
    this.section = section;
    this.frame = section.querySelector("#frame");
    this.before = section.querySelector("#before");
    this.after = section.querySelector("#after");
    this.left = section.querySelector("#left-alone");
    this.divider = section.querySelector("#divider");
    this.place = section.querySelector("#place");
    this.onPoint = onPoint;
    this.tool = null; // while there is one, the pointer paints
    this.picture = null;
    this.painted = null;
    this.area = null;
    this.divide(50);
    new ResizeObserver(() => this.fit()).observe(section);
    this.divider.addEventListener("pointerdown", (event) => {
      drag(event, (e) => this.divide(100 * this.at(e)[0]));
      this.divider.focus({ preventScroll: true });
    });
    this.divider.addEventListener("keydown", (event) => this.key(event));
    this.frame.addEventListener("pointerdown", (event) => this.point(event));
    this.frame.addEventListener("pointermove", (event) => this.ring(event));
  }

  show(picture) {
    this.picture = picture;
    this.painted = null;
    this.before.setAttribute("aria-label", `${picture.name}, before`);
    this.after.setAttribute("aria-label", `${picture.name}, after`);
    this.fit();
  }

  // As large as there is room for, small pictures at most four times.
  fit() {
    if (this.picture === null) return;
    const [width, height] = this.picture.view;
    const room = this.section.getBoundingClientRect();
    const scale = Math.min(room.width / width, room.height / height, 4);
    this.frame.style.width = `${width * scale}px`;
    this.frame.style.height = `${height * scale}px`;
    this.frame.style.left = `${(room.width - width * scale) / 2}px`;
    this.frame.style.top = `${(room.height - height * scale) / 2}px`;
    this.frame.classList.toggle("enlarged", scale > 1);
    this.mark(this.area);
  }

  // `area` is what has changed of the mask since it was painted the last time; null: all may have changed.
  paint(noisy, clean, strengths, mask, area = null) {
    const [width, height] = this.picture.view;
    const all = [0, 0, width, height];
    this.left.hidden = this.tool === null || !mask;
    if (this.painted === noisy && area !== null) {
      if (area[2] === 0 || area[3] === 0) return; // beside the picture
      const values = mask.part(area, { width, height });
      paint(this.after, noisy, clean, strengths, width, area, values, area);
      if (!this.left.hidden) shade(this.left, values, area[2], area[3], area);
      return;
    }
    if (this.painted !== noisy) paint(this.before, noisy, null, [0, 0], width, all);
    this.painted = noisy;
    paint(this.after, noisy, clean, strengths, width, all, mask?.values);
    if (!this.left.hidden) shade(this.left, mask.values, width, height);
  }

  // Where the loupe is: [left, top, width, height] in the picture's pixels.
  mark(area) {
    this.area = area;
    this.place.hidden = area === null;
    if (area === null || this.picture === null) return;
    const { width, height } = this.picture;
    const [left, top, wide, high] = area;
    Object.assign(this.place.style, {
      left: `${(100 * left) / width}%`,
      top: `${(100 * top) / height}%`,
      width: `${(100 * wide) / width}%`,
      height: `${(100 * high) / height}%`,
    });
  }

  divide(percent) {
    this.percent = Math.min(100, Math.max(0, percent));
    this.divider.style.left = `${this.percent}%`;
    this.divider.setAttribute("aria-valuenow", String(Math.round(this.percent)));
    this.after.style.clipPath = `inset(0 0 0 ${this.percent}%)`;
  }

  key(event) {
    const step = { ArrowLeft: -2, ArrowRight: 2, PageDown: -10, PageUp: 10, Home: -100, End: 100 }[event.key];
    if (step === undefined) return;
    event.preventDefault();
    this.divide(this.percent + step);
  }

  at(event) {
    const frame = this.frame.getBoundingClientRect();
    return [(event.clientX - frame.left) / frame.width, (event.clientY - frame.top) / frame.height];
  }

  // How large the brush is.
  ring(event) {
    const ring = this.frame.querySelector("#ring");
    ring.hidden = !this.tool?.diameter;
    if (ring.hidden) return;
    const [x, y] = this.at(event);
    const side = this.tool.diameter * Math.max(this.frame.clientWidth, this.frame.clientHeight);
    Object.assign(ring.style, { left: `${100 * x}%`, top: `${100 * y}%`, width: `${side}px`, height: `${side}px` });
  }

  point(event) {
    if (event.button !== 0 || this.divider.contains(event.target)) return;
    if (this.tool !== null) {
      this.tool.begin(this.at(event));
      drag(event, (e) => this.tool?.move(this.at(e)), () => this.tool?.end());
      return;
    }
    const point = (e) => this.onPoint(this.at(e));
    point(event);
    if (event.pointerType === "mouse") drag(event, point);
  }
}
