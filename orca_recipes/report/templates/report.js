"use strict";
(function () {
  const form = document.getElementById("filters");
  const samples = Array.from(document.querySelectorAll("#samples .sample"));
  const search = document.getElementById("search");
  const view = document.getElementById("view");
  const choices = Array.from(form.querySelectorAll("select[data-field]"));
  const found = document.getElementById("found");
  const read = (part) => part.textContent.toLowerCase();
  const texts = samples.map((sample) => Array.from(sample.querySelectorAll("h3, .about, pre"), read));
  // Fewer are opened by a search, so that what was found is seen.
  const MOST_OPENED = 8;
  function choose() {
    const words = search.value.toLowerCase().trim();
    const shown = samples.filter((sample, place) => {
      const fits = choices.every((one) => !one.value || sample.dataset[one.dataset.field] === one.value);
      sample.hidden = !(fits && texts[place].some((text) => text.includes(words)));
      for (const part of sample.querySelectorAll(".view")) {
        const asked = sample.querySelector(".view.teacher");
        part.hidden = view.value !== "both" && asked !== null && !part.classList.contains(view.value);
      }
      return !sample.hidden;
    });
    found.textContent = shown.length + " of " + samples.length + " samples shown";
    if (words && shown.length <= MOST_OPENED) { open(shown, true); }
    mark(words ? shown : [], words);
  }
  function open(some, is) {
    for (const sample of some) { sample.querySelector("details").open = is; }
  }
  function mark(some, words) {
    if (!window.Highlight || !CSS.highlights) { return; }
    const ranges = new Highlight();
    for (const part of some.flatMap((sample) => Array.from(sample.querySelectorAll("h3, .about, pre")))) {
      const walk = document.createTreeWalker(part, NodeFilter.SHOW_TEXT);
      for (let node = walk.nextNode(); node; node = walk.nextNode()) {
        const text = node.data.toLowerCase();
        // Lower case of some letters is longer: places would be of another text.
        for (let at = text.length === node.data.length ? text.indexOf(words) : -1; at >= 0; at = text.indexOf(words, at + words.length)) {
          const range = new Range();
          range.setStart(node, at);
          range.setEnd(node, at + words.length);
          ranges.add(range);
        }
      }
    }
    CSS.highlights.set("found", ranges);
  }
  form.hidden = samples.length === 0;
  form.addEventListener("input", choose);
  form.addEventListener("submit", (event) => event.preventDefault());
  document.getElementById("open").addEventListener("click", () => open(samples.filter((sample) => !sample.hidden), true));
  document.getElementById("close").addEventListener("click", () => open(samples, false));
  choose();
  const opened = [];
  addEventListener("beforeprint", () => {
    for (const one of document.querySelectorAll("details:not([open], .numbers)")) { one.open = true; opened.push(one); }
  });
  addEventListener("afterprint", () => { while (opened.length) opened.pop().open = false; });
})();
