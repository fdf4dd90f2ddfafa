// Views: RGB samples in units of 1/64 grey value, not clipped (atbsn/app/page/views.py).

export const STEPS = 64;

const LUMA = [0.299, 0.587, 0.114]; // of R'G'B' (ITU-R BT.601)

// Paints noisy + colour d + (luma - colour) Y(d) with d = clean - noisy and Y its luma, rounded half up and clipped, as
// the server does. `strengths` is [luma, colour], each up to 1.
// `area` is [left, top, width, height] of the view; the canvas gets its size.
export function paint(canvas, noisy, clean, strengths, rowLength, area) {
  const [luma, colour] = strengths;
  const [left, top, width, height] = area;
  if (canvas.width !== width || canvas.height !== height) {
    canvas.width = width;
    canvas.height = height;
  }
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
        const [r, g, b] = [clean[from] - red, clean[from + 1] - green, clean[from + 2] - blue];
        const grey = luma === colour ? 0 : (luma - colour) * (LUMA[0] * r + LUMA[1] * g + LUMA[2] * b);
        red += colour * r + grey;
        green += colour * g + grey;
        blue += colour * b + grey;
      }
      red = (red + STEPS / 2) >> 6;
      green = (green + STEPS / 2) >> 6;
      blue = (blue + STEPS / 2) >> 6;
      red = red < 0 ? 0 : red > 255 ? 255 : red;
      green = green < 0 ? 0 : green > 255 ? 255 : green;
      blue = blue < 0 ? 0 : blue > 255 ? 255 : blue;
      out[to] = 0xff000000 | (blue << 16) | (green << 8) | red;
    }
  }
  context.putImageData(image, 0, 0);
}
