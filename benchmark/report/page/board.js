"use strict";
// The page reads in full without this: it filters rows and sorts tables, by native controls that keyboards reach.
const form = document.getElementById("filters");
const counted = form.querySelector("output");
const sections = [...document.querySelectorAll(".board")];

function apply() {
  const wanted = Object.fromEntries(new FormData(form));
  const text = wanted.text.trim().toLowerCase();
  let shown = 0;
  for (const section of sections) {
    const here = ["data", "protocol"].every((name) => !wanted[name] || section.dataset[name] === wanted[name]);
    let left = 0;
    for (const row of section.querySelectorAll("tbody tr")) {
      const on =
        here &&
        ["kind", "supervision"].every((name) => !wanted[name] || row.dataset[name] === wanted[name]) &&
        (!wanted.clean || row.dataset.flags === "0") &&
        (!text || row.cells[0].textContent.toLowerCase().includes(text));
      row.classList.toggle("off", !on);
      left += on;
    }
    section.classList.toggle("off", !left);
    shown += left;
  }
  counted.value = `${shown} rows`;
}

function sort(header) {
  const down = header.ariaSort !== "descending";
  for (const other of header.parentElement.cells) other.removeAttribute("aria-sort");
  header.ariaSort = down ? "descending" : "ascending";
  const column = header.cellIndex;
  const body = header.closest("table").tBodies[0];
  const number = header.dataset.sort === "number";
  const value = (row) => {
    const cell = row.cells[column];
    return number ? parseFloat(cell.dataset.value ?? "NaN") : cell.textContent.trim().toLowerCase();
  };
  const order = (a, b) => (a < b ? -1 : a > b ? 1 : 0) * (down ? -1 : 1);
  const rows = [...body.rows].map((row) => [value(row), row]);
  // What has no value stays last, whichever way.
  const empty = ([v]) => (number ? Number.isNaN(v) : v === "");
  rows.sort((a, b) => empty(a) - empty(b) || (empty(a) ? 0 : order(a[0], b[0])));
  body.append(...rows.map(([, row]) => row));
}

for (const header of document.querySelectorAll("th[data-sort]")) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = header.textContent;
  header.replaceChildren(button);
  button.addEventListener("click", () => sort(header));
}
form.hidden = false;
form.addEventListener("input", apply);
form.addEventListener("submit", (event) => event.preventDefault());
form.addEventListener("reset", () => setTimeout(apply));
apply();
