// Where a picture is denoised: a byte for each pixel that is shown, 255 where it is, 0 where it stays as it is.

const STEPS_BACK = 10; // strokes that can be undone

export class Mask {
  constructor(width, height, values = null) {
    this.width = width;
    this.height = height;
    this.values = values ?? new Uint8Array(width * height).fill(255);
    this.before = []; // values, as they were before each stroke
    this.layer = null; // how much of the stroke under way lies on each pixel, 0 to 1
  }

  // White all over, so no mask is needed.
  get isBlank() {
    return this.values.every((value) => value === 255);
  }

  begin() {
    this.before.push(this.values.slice());
    if (this.before.length > STEPS_BACK) this.before.shift();
    this.layer = new Float32Array(this.values.length);
  }

  // A disc moved from one point to another, in pixels; its outer half fades out. Gives the area that it may change.
  brush([x0, y0], [x1, y1], radius, amount) {
    const [dx, dy] = [x1 - x0, y1 - y0];
    const length = dx * dx + dy * dy;
    const top = Math.max(0, Math.floor(Math.min(y0, y1) - radius));
    const bottom = Math.min(this.height, Math.ceil(Math.max(y0, y1) + radius) + 1);
    const left = Math.max(0, Math.floor(Math.min(x0, x1) - radius));
    const right = Math.min(this.width, Math.ceil(Math.max(x0, x1) + radius) + 1);
    for (let y = top; y < bottom; y += 1) {
      for (let x = left; x < right; x += 1) {
        const [px, py] = [x + 0.5 - x0, y + 0.5 - y0];
        const along = length ? Math.min(1, Math.max(0, (px * dx + py * dy) / length)) : 0;
        const distance = Math.hypot(px - along * dx, py - along * dy);
        this.lay(y * this.width + x, Math.min(1, 2 - (2 * distance) / radius), amount);
      }
    }
    return [left, top, Math.max(0, right - left), Math.max(0, bottom - top)];
  }

  // In whole before the first point, not at all beyond the second.
  gradient([x0, y0], [x1, y1], amount) {
    this.layer.fill(0);
    this.values.set(this.before.at(-1));
    const [dx, dy] = [x1 - x0, y1 - y0];
    const length = dx * dx + dy * dy;
    if (!length) return;
    for (let y = 0, at = 0; y < this.height; y += 1) {
      for (let x = 0; x < this.width; x += 1, at += 1) {
        this.lay(at, Math.min(1, 1 - ((x + 0.5 - x0) * dx + (y + 0.5 - y0) * dy) / length), amount);
      }
    }
  }

  lay(at, share, amount) {
    if (share <= this.layer[at]) return;
    this.layer[at] = share;
    const under = this.before.at(-1)[at];
    this.values[at] = Math.round(under + share * (255 * amount - under));
  }

  undo() {
    this.values = this.before.pop() ?? this.values;
  }

  invert() {
    this.begin();
    this.values.forEach((value, at) => { this.values[at] = 255 - value; });
  }

  clear() {
    this.begin();
    this.values.fill(255);
  }

  // The mask of [left, top, width, height] of a picture of this size, between its pixels interpolated as by the server.
  part([left, top, wide, high], { width, height }) {
    const part = new Uint8Array(wide * high);
    const columns = places(left, wide, width, this.width);
    const rows = places(top, high, height, this.height);
    let to = 0;
    for (const [y, next, below] of rows) {
      const [first, second] = [y * this.width, next * this.width];
      for (const [x, beside, right] of columns) {
        const upper = this.values[first + x] * (1 - right) + this.values[first + beside] * right;
        const lower = this.values[second + x] * (1 - right) + this.values[second + beside] * right;
        part[to] = Math.round(upper * (1 - below) + lower * below);
        to += 1;
      }
    }
    return part;
  }
}

// Of each pixel of a line the two pixels of the mask around it, and how near it is to the second.
function places(start, number, full, own) {
  return Array.from({ length: number }, (_, index) => {
    const at = Math.min(own - 1, Math.max(0, ((start + index + 0.5) * own) / full - 0.5));
    const first = Math.floor(at);
    return [first, Math.min(own - 1, first + 1), at - first];
  });
}
