"use strict";
(function () {
  const form = document.getElementById("filters");
  const samples = Array.from(document.querySelectorAll("#samples .sample"));
  const search = document.getElementById("search");
  const view = document.getElementById("view");
  const choices = Array.from(form.querySelectorAll("select[data-field]"));
  const found = document.getElementById("found");
  const texts = samples.map((sample) => sample.textContent.toLowerCase());
  function choose() {
    const words = search.value.toLowerCase().trim();
    let shown = 0;
    samples.forEach((sample, place) => {
      const fits = choices.every((one) => !one.value || sample.dataset[one.dataset.field] === one.value);
      sample.hidden = !(fits && texts[place].includes(words));
      shown += sample.hidden ? 0 : 1;
      for (const part of sample.querySelectorAll(".view")) {
        const asked = sample.querySelector(".view.teacher");
        const wanted = view.value === "both" || !asked || part.classList.contains(view.value);
        part.hidden = !wanted;
      }
    });
    found.textContent = shown + " of " + samples.length + " samples shown";
  }
  form.hidden = samples.length === 0;
  form.addEventListener("input", choose);
  form.addEventListener("submit", (event) => event.preventDefault());
  choose();
  const opened = [];
  addEventListener("beforeprint", () => {
    for (const one of document.querySelectorAll("details:not([open])")) { one.open = true; opened.push(one); }
  });
  addEventListener("afterprint", () => { while (opened.length) opened.pop().open = false; });
})();
