// Views: RGB samples in units of 1/64 grey value, not clipped (atbsn/app/page/views.py).

export const STEPS = 64;

const LUMA = [0.299, 0.587, 0.114]; // of R'G'B' (ITU-R BT.601)

// Paints clean' = noisy + colour d + (luma - colour) Y(d), with d = clean - noisy and Y its luma, clipped, and of that
// noisy + m (clean' - noisy), rounded half up, as the server does. `strengths` is [luma, colour], each up to 1; `mask`
// has 255 m of the pixels of the area, or is null: m = 1. `area` is [left, top, width, height] of the view; the canvas
// gets its size, or, with `place`, has it painted there, at [left, top, ...], and keeps the rest.
export function paint(canvas, noisy, clean, strengths, rowLength, area, mask = null, place = null) {
  const [luma, colour] = strengths;
  const [left, top, width, height] = area;
  if (place === null) fit(canvas, width, height);
  const context = canvas.getContext("2d", { alpha: false });
  const image = context.createImageData(width, height);
  const out = new Uint32Array(image.data.buffer); // little-endian: 0xAABBGGRR
  const whole = clean === null || (luma === 0 && colour === 0);
  for (let y = 0, to = 0; y < height; y += 1) {
    let from = ((top + y) * rowLength + left) * 3;
    for (let x = 0; x < width; x += 1, from += 3, to += 1) {
      let red = noisy[from];
      let green = noisy[from + 1];
      let blue = noisy[from + 2];
      if (!whole) {
        const share = mask === null ? 1 : mask[to] / 255;
        const [r, g, b] = [clean[from] - red, clean[from + 1] - green, clean[from + 2] - blue];
        const grey = luma === colour ? 0 : (luma - colour) * (LUMA[0] * r + LUMA[1] * g + LUMA[2] * b);
        red += share * (clip(red + colour * r + grey) - red);
        green += share * (clip(green + colour * g + grey) - green);
        blue += share * (clip(blue + colour * b + grey) - blue);
      }
      red = clip(red + STEPS / 2) >> 6;
      green = clip(green + STEPS / 2) >> 6;
      blue = clip(blue + STEPS / 2) >> 6;
      out[to] = 0xff000000 | (blue << 16) | (green << 8) | red;
    }
  }
  context.putImageData(image, ...corner(place));
}

const corner = (place) => (place === null ? [0, 0] : place.slice(0, 2));

function fit(canvas, width, height) {
  if (canvas.width === width && canvas.height === height) return;
  canvas.width = width;
  canvas.height = height;
}

const WHITE = 255 * STEPS;
const clip = (value) => (value < 0 ? 0 : value > WHITE ? WHITE : value);

// Shades what a mask leaves alone: `values` are those of an area of this size, whose place in the canvas is as above.
export function shade(canvas, values, width, height, place = null) {
  if (place === null) fit(canvas, width, height);
  const context = canvas.getContext("2d");
  const image = context.createImageData(width, height);
  const out = new Uint32Array(image.data.buffer);
  for (let at = 0; at < out.length; at += 1) out[at] = (((255 - values[at]) >> 1) << 24) | 0x2828e6; // red
  context.putImageData(image, ...corner(place));
}
