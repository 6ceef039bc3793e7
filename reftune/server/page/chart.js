// The curve of the loss.

const SVG = "http://www.w3.org/2000/svg";
const [LEFT, RIGHT, TOP, BOTTOM] = [38, 392, 10, 144];

function draw(tag, attributes, text = "") {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.textContent = text;
  return element;
}

/** Draw points {step, loss}, in order, on an axis of so many steps. */
export function drawChart(svg, points, steps) {
  if (!points.length) {
    svg.replaceChildren();
    return;
  }
  const highest = roundUp(Math.max(...points.map(({ loss }) => loss), 0.1));
  const x = (step) => LEFT + ((RIGHT - LEFT) * step) / Math.max(steps, 1);
  const y = (loss) => BOTTOM - ((BOTTOM - TOP) * loss) / highest;
  const parts = [];
  for (const share of [0, 0.5, 1]) {
    const at = y(share * highest);
    parts.push(draw("line", { class: "grid", x1: LEFT, x2: RIGHT, y1: at, y2: at }));
    const label = String(Number((share * highest).toPrecision(3)));
    parts.push(draw("text", { x: LEFT - 6, y: at + 4, "text-anchor": "end" }, label));
  }
  parts.push(draw("text", { x: LEFT, y: 163 }, "loss"));
  parts.push(draw("text", { x: RIGHT, y: 163, "text-anchor": "end" }, `${steps} steps`));
  const line = points.map(({ step, loss }) => `${x(step)},${y(loss)}`).join(" ");
  const last = points.at(-1);
  parts.push(draw("polyline", { class: "curve", points: line }));
  parts.push(draw("circle", { class: "tip", cx: x(last.step), cy: y(last.loss), r: 4 }));
  svg.replaceChildren(...parts);
  const [from, to] = [points[0].loss, last.loss].map((loss) => loss.toFixed(2));
  svg.setAttribute("aria-label", `Loss: from ${from} to ${to} in ${last.step} of ${steps} steps`);
}

/** Round up to 1, 2, 4, 5, 6 or 8 times a power of ten, so that half of it is short to write. */
function roundUp(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  const factor = [1, 2, 4, 5, 6, 8, 10].find((one) => value <= one * power * 1.000001);
  return factor * power;
}
