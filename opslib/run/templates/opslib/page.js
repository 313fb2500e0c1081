// Shows or folds the code of all cells at once, and opens what must be seen on paper.
(() => {
  "use strict";
  const button = document.getElementById("all-code");
  const cells = [...document.querySelectorAll("details.code")];
  if (!button || cells.length === 0) return;
  button.hidden = false;
  button.addEventListener("click", () => {
    const show = button.getAttribute("aria-pressed") !== "true";
    cells.forEach((cell) => { cell.open = show; });
    button.setAttribute("aria-pressed", String(show));
    button.textContent = show ? "Hide all code" : "Show all code";
  });
  // On a narrow screen the contents would push the answer off the page.
  if (matchMedia("(max-width: 60rem)").matches) {
    document.querySelectorAll("nav.contents details").forEach((list) => { list.open = false; });
  }
})();
