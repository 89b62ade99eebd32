"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
const source = document.getElementById("source");
const maps = document.getElementById("maps");
const told = document.getElementById("told");
const stages = [...document.querySelectorAll(".target")];
const models = data.models.map((model) => ({
  ...model,
  matches: new Uint16Array(bytes(model.matches).buffer),
  similarities: model.similarities && bytes(model.similarities),
}));
for (const stage of stages) stage.querySelector("img").src = TARGET;

// Black through orange to white: rising in brightness, whichever colours an eye tells apart.
const palette = Array.from({ length: 256 }, (_, value) => {
  const t = value / 255;
  return [255 * Math.min(1, 1.7 * t), 255 * Math.max(0, 1.5 * t - 0.35), 255 * Math.max(0, 3 * t - 2)];
});
let point = null;

const clamp = (value, most) => Math.min(Math.max(value, 0), most);

// Where the point at (x, y) of the source lies in the target, in its pixels: between the four nearest of the grid.
function matched(model, x, y) {
  const n = data.grid;
  const u = clamp((x / data.source[0]) * n - 0.5, n - 1);
  const v = clamp((y / data.source[1]) * n - 0.5, n - 1);
  const [i, j] = [Math.min(Math.floor(u), n - 2), Math.min(Math.floor(v), n - 2)];
  const [a, b] = [u - i, v - j];
  const at = (column, row, axis) => model.matches[2 * (row * n + column) + axis] / 65535;
  return [0, 1].map((axis) => {
    const corners = [at(i, j, axis), at(i + 1, j, axis), at(i, j + 1, axis), at(i + 1, j + 1, axis)];
    const spread = Math.max(...corners) - Math.min(...corners);
    const nearest = corners[(a > 0.5) + 2 * (b > 0.5)];
    const mean = (1 - b) * ((1 - a) * corners[0] + a * corners[1]) + b * ((1 - a) * corners[2] + a * corners[3]);
    return (spread > 0.15 ? nearest : mean) * data.target[axis]; // neighbours that part are not averaged
  });
}

function cellOf(model, side, x, y) {
  const [sx, sy, ox, oy] = model.places[side];
  const cell = (part) => clamp(Math.floor(part * model.cells), model.cells - 1);
  return [cell(x * sx + ox), cell(y * sy + oy)];
}

function draw(model, canvas) {
  canvas.hidden = !model.similarities || !maps.checked;
  if (canvas.hidden) return;
  const n = model.cells;
  const [column, row] = cellOf(model, 0, ...point);
  const start = (row * n + column) * n * n;
  const own = model.similarities.subarray(start, start + n * n);
  const low = Math.min(...own);
  const high = Math.max(...own, low + 1);
  const [sx, sy, ox, oy] = model.places[1];
  canvas.width = 64;
  canvas.height = Math.max(1, Math.round((64 * data.target[1]) / data.target[0]));
  const context = canvas.getContext("2d");
  const picture = context.createImageData(canvas.width, canvas.height);
  for (let y = 0; y < canvas.height; y++) {
    for (let x = 0; x < canvas.width; x++) {
      const px = ((x + 0.5) / canvas.width) * data.target[0] * sx + ox;
      const py = ((y + 0.5) / canvas.height) * data.target[1] * sy + oy;
      const u = clamp(px * n - 0.5, n - 1);
      const v = clamp(py * n - 0.5, n - 1);
      const [i, j] = [Math.min(Math.floor(u), n - 2), Math.min(Math.floor(v), n - 2)];
      const [a, b] = [u - i, v - j];
      const k = j * n + i;
      const value = (1 - b) * ((1 - a) * own[k] + a * own[k + 1]) + b * ((1 - a) * own[k + n] + a * own[k + n + 1]);
      const colour = palette[Math.round((255 * (value - low)) / (high - low))];
      picture.data.set([...colour, 255], 4 * (y * canvas.width + x));
    }
  }
  context.putImageData(picture, 0, 0);
}

function put(mark, [x, y], [width, height]) {
  mark.hidden = false;
  mark.style.left = `${(100 * x) / width}%`;
  mark.style.top = `${(100 * y) / height}%`;
}

function show(x, y, say) {
  point = [clamp(x, data.source[0]), clamp(y, data.source[1])];
  put(source.querySelector(".mark"), point, data.source);
  const lines = models.map((model, number) => {
    const found = matched(model, ...point);
    const stage = stages[number];
    put(stage.querySelector(".mark"), found, data.target);
    draw(model, stage.querySelector("canvas"));
    let words = found.map((v) => v.toFixed(0)).join(", ");
    if (model.similarities) {
      const n = model.cells;
      const [[i, j], [k, l]] = [cellOf(model, 0, ...point), cellOf(model, 1, ...found)];
      const value = model.similarities[((j * n + i) * n + l) * n + k] / 255;
      words += `, similarity ${(model.low + value * (model.high - model.low)).toFixed(2)}`;
    }
    stage.parentElement.querySelector(".told").textContent = `at ${words}`;
    return `${model.name} at ${words}`;
  });
  if (say) told.textContent = `${point.map((v) => v.toFixed(0)).join(", ")}: ${lines.join("; ")}`;
}

function pointed(event, say) {
  const box = source.querySelector("img").getBoundingClientRect();
  const part = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
  for (const button of points.children) button.ariaPressed = "false";
  show(part[0] * data.source[0], part[1] * data.source[1], say);
}

source.addEventListener("pointermove", (event) => pointed(event, false));
source.addEventListener("pointerdown", (event) => pointed(event, true));
source.addEventListener("keydown", (event) => {
  const step = Math.max(...data.source) / (event.shiftKey ? 20 : 200);
  const [dx, dy] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key] ?? [0, 0];
  if (!dx && !dy) return;
  event.preventDefault();
  show(point[0] + dx * step, point[1] + dy * step, true);
});
maps.addEventListener("input", () => show(...point, false));

const points = document.getElementById("points");
data.points.forEach(([x, y], number) => {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = number + 1;
  button.ariaLabel = `Point ${number + 1} at ${x.toFixed(0)}, ${y.toFixed(0)}`;
  button.ariaPressed = "false";
  button.addEventListener("click", () => {
    for (const other of points.children) other.ariaPressed = String(other === button);
    show(x, y, true);
  });
  points.append(button);
});
if (data.points.length) points.firstElementChild.click();
else show(data.source[0] / 2, data.source[1] / 2, true);
