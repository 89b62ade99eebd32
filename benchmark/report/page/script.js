"use strict";
// The page reads in full without this: it filters runs, and shows a figure's runs without leaving its place.
const form = document.getElementById("filters");
if (form) {
  const counted = form.querySelector("output");
  const filtered = [...document.querySelectorAll("[data-model], [data-data]")].filter((e) => !e.closest("#filters"));
  const apply = () => {
    const wanted = [...new FormData(form)].filter(([, value]) => value);
    for (const element of filtered) {
      const off = wanted.some(
        ([name, value]) => name in element.dataset && !element.dataset[name].split(" ").includes(value),
      );
      element.classList.toggle("off", off);
    }
    for (const section of document.querySelectorAll(".leaderboard, .printed")) {
      section.classList.toggle("bare", !section.querySelector("tbody tr[data-model]:not(.off)"));
    }
    const runs = document.querySelectorAll(".run");
    const shown = [...runs].filter((run) => !run.classList.contains("off")).length;
    counted.textContent = wanted.length ? `${shown} of ${runs.length} runs shown` : "";
  };
  form.hidden = false;
  form.addEventListener("change", apply);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(apply));
  apply();
}

const dialog = document.getElementById("provenance");
document.addEventListener("click", (event) => {
  const link = event.target.closest("a[data-runs]");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey || !dialog.showModal) return;
  event.preventDefault();
  const place = dialog.querySelector("div");
  place.replaceChildren();
  if (link.dataset.note) place.append(Object.assign(document.createElement("p"), { textContent: link.dataset.note }));
  for (const number of link.dataset.runs.trim().split(" ")) {
    const body = document.getElementById(`run-${number}`).cloneNode(true);
    body.removeAttribute("id");
    place.append(body);
  }
  dialog.querySelector("h2").textContent = link.dataset.title;
  dialog.showModal();
  dialog.scrollTop = 0;
});
dialog.addEventListener("click", (event) => {
  if (event.target === dialog) dialog.close(); // the backdrop
});
