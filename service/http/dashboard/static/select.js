// A form with ticks: its buttons say how many are ticked, and wait for the first.
"use strict";

for (const form of document.querySelectorAll("form[data-select]")) {
  const boxes = () => [...form.querySelectorAll("input[type=checkbox][name]")];
  const words = (count) => `${count} ${count === 1 ? "letter" : "letters"}`;
  const tell = () => {
    const count = boxes().filter((box) => box.checked).length;
    for (const button of form.querySelectorAll("[data-count]")) {
      button.disabled = !count;
      button.textContent = button.dataset.count.replace("%", count ? words(count) : "the selected");
    }
    for (const text of form.querySelectorAll("[data-count-text]")) {
      text.textContent = text.dataset.countText.replace("%", count ? words(count) : "What is selected");
    }
    const all = form.querySelector("[data-all]");
    if (all) { all.checked = count > 0 && count === boxes().length; all.indeterminate = count > 0 && !all.checked; }
  };
  form.addEventListener("change", (event) => {
    if (event.target.matches("[data-all]")) for (const box of boxes()) box.checked = event.target.checked;
    tell();
  });
  tell();
}
