"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const unpack = (text, kind) => text && new kind(Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)).buffer);
const offsets = unpack(data.offsets, Int32Array);
const ids = unpack(data.ids, Int16Array);
const mutual = unpack(data.mutual, Uint8Array);
const category = unpack(data.category, Int16Array);
const grade = unpack(data.grade, Int8Array);
const sizes = unpack(data.sizes, Int32Array);
const given = unpack(data.other, Float32Array);
const truth = unpack(data.true, Float32Array);
const pictured = unpack(data.pictured, Int32Array);
const runs = data.runs.map((run) => ({
  predicted: unpack(run.predicted, Float32Array),
  hits: unpack(run.hits, Uint8Array),
  found: unpack(run.found, Uint8Array),
}));
const form = document.getElementById("filters");
const list = document.getElementById("list");
const more = document.getElementById("more");
const STEP = 24;
const count = data.pairs.length;
const kinds = data.kinds.length;
let chosen = [];
let shown = 0;

function choices(name, entries) {
  const select = form.elements[name];
  for (const [value, label] of entries) select.append(new Option(label, value));
  select.parentElement.hidden = !entries.length;
}

const known = [...new Set(ids)].filter((id) => id >= 0).sort((a, b) => a - b);
choices("category", data.categories.map((name, number) => [number, name]));
choices("keypoint", known.map((id) => [id, `missed ${id}`]));
const grades = [];
if (grade) {
  data.grades.forEach((name, k) => {
    const values = new Set();
    for (let pair = 0; pair < count; pair++) values.add(grade[4 * pair + k]);
    for (const value of [...values].filter((v) => v >= 0).sort()) grades.push([`${k},${value}`, `${name.replaceAll("_", " ")} ${value}`]);
  });
}
choices("grade", grades);
choices("kind", data.kinds.slice(1).map((name, k) => [k + 1, `has: ${name}`]));

const score = (run, pair) => {
  let all = 0;
  for (let k = 0; k < kinds; k++) all += run.found[pair * kinds + k];
  return all ? run.found[pair * kinds] / all : 0;
};

function apply() {
  const wanted = Object.fromEntries(new FormData(form));
  const [axis, value] = wanted.grade.split(",").map(Number);
  const fits = (pair) => {
    if (wanted.category && category[pair] !== +wanted.category) return false;
    if (wanted.grade && grade[4 * pair + axis] !== value) return false;
    if (wanted.kind && !runs.some((run) => run.found[pair * kinds + +wanted.kind])) return false;
    if (wanted.keypoint) {
      for (let k = offsets[pair]; k < offsets[pair + 1]; k++) {
        if (ids[k] === +wanted.keypoint && mutual[k] && runs.some((run) => !run.hits[k])) return true;
      }
      return false;
    }
    return true;
  };
  chosen = [];
  for (let pair = 0; pair < count; pair++) if (fits(pair)) chosen.push(pair);
  const last = runs[runs.length - 1];
  const keys = {
    worst: (pair) => score(runs[0], pair),
    best: (pair) => -score(runs[0], pair),
    gain: (pair) => score(runs[0], pair) - score(last, pair),
    loss: (pair) => score(last, pair) - score(runs[0], pair),
  };
  const key = keys[wanted.order];
  if (key) chosen = chosen.map((pair) => [key(pair), pair]).sort((a, b) => a[0] - b[0]).map(([, pair]) => pair);
  list.replaceChildren();
  shown = 0;
  add();
  form.querySelector("output").value = `${chosen.length} of ${count} pairs`;
}

function add() {
  list.append(...chosen.slice(shown, shown + STEP).map(item));
  shown = Math.min(shown + STEP, chosen.length);
  more.hidden = shown >= chosen.length;
}

function svg(name, attributes, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

function item(pair) {
  const entry = document.createElement("li");
  const heading = document.createElement("h2");
  const parts = runs.map((run, k) => {
    const told = data.kinds.map((name, n) => [run.found[pair * kinds + n], name]).filter(([n]) => n);
    return `${runs.length > 1 ? `${data.names[k]}: ` : ""}${told.map(([n, name]) => `${n} ${name}`).join(", ")}`;
  });
  heading.textContent = `${data.pairs[pair]} (${data.categories[category[pair]]}): ${parts.join("; ")}`;
  const both = document.createElement("div");
  both.className = "both";
  both.append(picture(pair, 0), picture(pair, 1));
  entry.append(heading, both);
  return entry;
}

function picture(pair, side) {
  const [width, height] = [sizes[4 * pair + 2 * side], sizes[4 * pair + 2 * side + 1]];
  const r = Math.max(width, height) / 55;
  const label = side ? "true and predicted points" : "given points";
  const drawn = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label });
  if (pictured) drawn.append(svg("image", { href: data.images[pictured[2 * pair + side]], width, height, preserveAspectRatio: "none" }));
  for (let k = offsets[pair]; k < offsets[pair + 1]; k++) {
    if (!mutual[k]) continue;
    const [x, y] = side ? [truth[2 * k], truth[2 * k + 1]] : [given[2 * k], given[2 * k + 1]];
    if (side) {
      runs.forEach((run, n) => {
        const line = { x1: x, y1: y, x2: run.predicted[2 * k], y2: run.predicted[2 * k + 1], "stroke-width": r / 2.5 };
        const met = run.hits[k] ? "hit" : "miss";
        drawn.append(svg("line", { ...line, class: met, "stroke-dasharray": n ? r : "none" }));
        drawn.append(svg("circle", { cx: line.x2, cy: line.y2, r: r / 1.8, class: `end ${met}`, "stroke-width": r / 5 }));
      });
      drawn.append(svg("circle", { cx: x, cy: y, r, class: "true", "stroke-width": r / 2.5 }));
    } else {
      drawn.append(svg("circle", { cx: x, cy: y, r, class: "given" }));
    }
    const name = ids[k] >= 0 ? ids[k] : k - offsets[pair];
    drawn.append(svg("text", { x: x + r, y: y - r, "font-size": 2.4 * r, "stroke-width": r / 3 }, String(name)));
  }
  return drawn;
}

more.addEventListener("click", () => {
  const first = shown;
  add();
  const next = list.children[first];
  next.tabIndex = -1;
  next.focus();
});
form.addEventListener("input", apply);
form.addEventListener("submit", (event) => event.preventDefault());
form.addEventListener("reset", () => setTimeout(apply));
apply();
