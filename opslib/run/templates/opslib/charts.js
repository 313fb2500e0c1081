// Replaces each static drawing by its interactive chart. If anything here fails, the drawings stay.
(async () => {
  "use strict";
  const packed = document.getElementById("chart-bundle");
  if (!packed || typeof DecompressionStream === "undefined") return;
  const bytes = Uint8Array.from(atob(packed.textContent), (c) => c.charCodeAt(0));
  const plain = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  new Function(await new Response(plain).text())();

  const refuse = () => Promise.reject(new Error("This page loads nothing."));
  const loader = { load: refuse, sanitize: refuse, http: refuse, file: refuse };

  const draw = async (figure) => {
    const place = figure.querySelector(".live");
    const drawing = figure.querySelector(".static");
    const spec = JSON.parse(figure.querySelector(".spec").textContent);
    place.hidden = false;
    try {
      await globalThis.opslibEmbed(place, spec, {
        mode: "vega", actions: false, renderer: "svg", loader, tooltip: { theme: "light" }, ast: false,
      });
      figure.classList.add("is-live");
    } catch (error) {
      place.hidden = true;
      place.textContent = "";
      drawing.title = "Static drawing: " + error.message;
    }
  };
  for (const figure of document.querySelectorAll("figure.chart")) await draw(figure);
  document.documentElement.dataset.charts = "ready";
})();
