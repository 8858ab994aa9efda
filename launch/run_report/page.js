"use strict";
// Curves: the values of the step that is nearest to the pointer.
for (const figure of document.querySelectorAll("figure.curve")) {
  const { area, series } = JSON.parse(figure.dataset.curve);
  const drawing = figure.querySelector("svg"), readout = figure.querySelector(".readout");
  const cursor = document.createElementNS("http://www.w3.org/2000/svg", "line");
  cursor.setAttribute("class", "cursor");
  drawing.append(cursor);
  const show = (event) => {
    const box = drawing.getBoundingClientRect();
    const x = ((event.clientX - box.left) / box.width) * area.width;
    const step = area.low + ((x - area.left) / (area.right - area.left)) * (area.high - area.low);
    const nearest = (steps) => steps.reduce((best, value, i) => (Math.abs(value - step) < Math.abs(steps[best] - step) ? i : best), 0);
    const found = series.map((each) => [each, nearest(each.steps)]);
    const at = found[0][0].steps[found[0][1]];
    const place = area.left + ((at - area.low) / (area.high - area.low || 1)) * (area.right - area.left);
    for (const [name, value] of [["x1", place], ["x2", place], ["y1", 10], ["y2", 216]]) cursor.setAttribute(name, value);
    const text = found.map(([each, i]) => `${each.name} ${each.values[i] === null ? "-" : Number(each.values[i].toPrecision(5))}`);
    readout.textContent = `step ${at}: ${text.join(", ")}`;
  };
  drawing.addEventListener("pointermove", show);
  drawing.addEventListener("pointerdown", show);
  drawing.addEventListener("pointerleave", () => { readout.textContent = ""; cursor.removeAttribute("x1"); cursor.removeAttribute("x2"); });
}
// Images: enlarged, and exchanged in place with the arrow keys, so that differences show.
const dialog = document.querySelector("dialog");
let shown = [], number = 0;
const turn = (by) => {
  number = (number + by + shown.length) % shown.length;
  const image = shown[number].querySelector("img"), large = dialog.querySelector("img");
  large.src = image.src;
  large.alt = image.alt;
  dialog.querySelector("p").textContent = `${image.alt} (${number + 1} of ${shown.length}; arrow keys change the image)`;
};
for (const row of document.querySelectorAll(".pictures")) {
  const buttons = [...row.querySelectorAll("button")];
  buttons.forEach((button, i) => button.addEventListener("click", () => { shown = buttons; number = i; turn(0); dialog.showModal(); }));
}
if (dialog) {
  dialog.addEventListener("keydown", (event) => {
    if (event.key === "ArrowRight") turn(1);
    if (event.key === "ArrowLeft") turn(-1);
  });
  dialog.querySelector("img").addEventListener("click", () => turn(1));
}
