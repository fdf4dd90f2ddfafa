// The noise curve: level against intensity, for red, green and blue.

const SPACE = "http://www.w3.org/2000/svg";
const LEFT = 26, RIGHT = 292, TOP = 8, BOTTOM = 108;

function add(svg, name, attributes, text = null) {
  const element = document.createElementNS(SPACE, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== null) element.textContent = text;
  svg.append(element);
}

export function draw(svg, curve) {
  svg.replaceChildren();
  const most = Math.max(...curve.level.flat());
  const step = [0.5, 1, 2, 5, 10, 20, 50].find((size) => most / size <= 4) || 100;
  const end = step * Math.max(1, Math.ceil(most / step));
  const x = (intensity) => LEFT + ((RIGHT - LEFT) * intensity) / 255;
  const y = (level) => BOTTOM - ((BOTTOM - TOP) * level) / end;
  add(svg, "path", { class: "axis", d: `M${LEFT} ${TOP}V${BOTTOM}H${RIGHT}` });
  for (let level = 0; level <= end; level += step) {
    add(svg, "text", { x: LEFT - 5, y: y(level) + 3, "text-anchor": "end" }, String(level));
  }
  for (const [intensity, anchor, text] of [[0, "start", "black"], [127, "middle", "intensity"], [255, "end", "white"]]) {
    add(svg, "text", { x: x(intensity), y: BOTTOM + 14, "text-anchor": anchor }, text);
  }
  ["red", "green", "blue"].forEach((name, channel) => {
    const points = curve.intensity.map((intensity, i) => `${x(intensity).toFixed(1)},${y(curve.level[channel][i]).toFixed(1)}`);
    add(svg, "polyline", { class: `level ${name}`, points: points.join(" ") });
  });
}

export function inWords(curve) {
  const middle = Math.floor(curve.intensity.length / 2);
  const level = curve.level.reduce((sum, channel) => sum + channel[middle], 0) / 3;
  const alike = curve.correlation > 0.15 ? ` Neighbouring pixels share it (correlation ${curve.correlation.toFixed(2)}).` : "";
  return `Standard deviation in grey values of 255; ${level.toFixed(1)} at middle grey.${alike}`;
}
