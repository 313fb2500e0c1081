// What the controls need from the page: clicks on a chart's marks, the clipboard, results that wait for newer
// ones, and names for what ipywidgets leaves without one. Data values only ever become text, never markup.

const OUTPUT = ".jp-OutputArea-output, .output_subarea";
const PAGE = ".jp-NotebookPanel, body";

function findDrill(target) {
  // Vega's SVG renderer leaves each mark's item at its element.
  for (let node = target; node && node !== document; node = node.parentNode) {
    const drill = node.__data__?.datum?.drill;
    if (typeof drill === "string" && drill) return drill;
    if (node.classList?.contains("vega-embed")) return null;
  }
  return null;
}

function findLabel(output) {
  const marked = output.querySelector("[data-opslib]");
  if (marked) return marked.dataset.opslib;
  const chart = output.querySelector("[role='graphics-document'][aria-label]");
  return chart ? chart.getAttribute("aria-label") : null;
}

function showWaiting(page, waiting) {
  const labels = new Set(waiting);
  for (const output of page.querySelectorAll(OUTPUT)) {
    const waits = labels.size > 0 && labels.has(findLabel(output));
    if (waits === output.classList.contains("opslib-waiting")) continue;
    output.classList.toggle("opslib-waiting", waits);
    // An output that is drawn anew is empty for a moment, and must not let the page jump.
    output.style.minHeight = waits ? `${output.offsetHeight}px` : "";
    if (waits) output.setAttribute("aria-busy", "true");
    else output.removeAttribute("aria-busy");
  }
}

function nameWidgets(page) {
  for (const slider of page.querySelectorAll(".opslib-controls .widget-slider")) {
    const label = slider.querySelector(".widget-label")?.textContent ?? "";
    const readout = slider.querySelector(".widget-readout");
    const handle = slider.querySelector(".noUi-handle");
    if (handle && label) {
      handle.setAttribute("aria-label", label);
      handle.setAttribute("aria-valuetext", readout?.textContent ?? "");
    }
    if (readout && label) readout.setAttribute("aria-label", label);
  }
  for (const status of page.querySelectorAll(".opslib-status")) {
    status.setAttribute("role", "status");
    status.setAttribute("aria-live", "polite");
  }
}

async function copyText(text, source) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // Without a secure connection there is no clipboard for scripts; an old way remains.
    const range = document.createRange();
    range.selectNodeContents(source);
    const selection = getSelection();
    selection.removeAllRanges();
    selection.addRange(range);
    return document.execCommand("copy");
  }
}

function listen(model, shared) {
  const inPage = (node) => shared.page?.isConnected && shared.page.contains(node);
  const onClick = (event) => {
    const drill = inPage(event.target) ? findDrill(event.target) : null;
    if (!drill) return;
    model.set("drill", { text: drill, number: (model.get("drill")?.number ?? 0) + 1 });
    model.save_changes();
  };
  const onMove = (event) => {
    const embed = event.target.closest?.(".vega-embed");
    if (embed && inPage(embed)) embed.style.cursor = findDrill(event.target) ? "pointer" : "";
  };
  const onWaiting = () => shared.page && showWaiting(shared.page, model.get("waiting"));
  document.addEventListener("click", onClick, true);
  document.addEventListener("mousemove", onMove, true);
  model.on("change:waiting", onWaiting);
  return () => {
    document.removeEventListener("click", onClick, true);
    document.removeEventListener("mousemove", onMove, true);
    model.off("change:waiting", onWaiting);
  };
}

function drawCommands(model, el) {
  el.replaceChildren();
  const texts = model.get("texts");
  for (const [name, command] of model.get("commands")) {
    const row = document.createElement("div");
    const code = document.createElement("code");
    code.textContent = command;
    const button = document.createElement("button");
    button.type = "button";
    button.className = "jupyter-button widget-button";
    const label = (texts.copy ?? "").replace("{name}", () => name);
    button.textContent = label;
    button.addEventListener("click", async () => {
      const copied = await copyText(command, code);
      button.textContent = copied ? texts.copied : texts.select;
      setTimeout(() => (button.textContent = label), 1500);
    });
    row.append(button, code);
    el.append(row);
  }
}

function settle(el, shared) {
  // The page is known only once the output has its place in it.
  let tries = 0;
  let cleanup = () => {};
  const look = () => {
    const page = el.isConnected ? el.closest(PAGE) : null;
    if (!page) {
      if (tries++ < 100) setTimeout(look, 100);
      return;
    }
    shared.page = page;
    nameWidgets(page);
    // Further controls may come with any later cell, and readouts change.
    let planned = 0;
    const watcher = new MutationObserver(() => {
      planned ||= setTimeout(() => {
        planned = 0;
        nameWidgets(page);
      }, 100);
    });
    watcher.observe(page, { subtree: true, childList: true });
    cleanup = () => watcher.disconnect();
  };
  look();
  return () => cleanup();
}

export default () => {
  const shared = { page: null };
  return {
    initialize: ({ model }) => listen(model, shared),
    render({ model, el }) {
      el.classList.add("opslib-commands");
      const draw = () => drawCommands(model, el);
      draw();
      model.on("change:commands", draw);
      model.on("change:texts", draw);
      const leave = settle(el, shared);
      return () => {
        model.off("change:commands", draw);
        model.off("change:texts", draw);
        leave();
      };
    },
  };
};
