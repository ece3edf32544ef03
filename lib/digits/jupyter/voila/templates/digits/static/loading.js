// Stands before the cells and looks after the loading screen until the pad can be used. Cells are shown once JupyterLab's
// theme is there, too, of which Voila's own script tells by calling voila_finish; the screen stays on top of them until the
// app's script has heard from its kernel, and says what is the matter when that takes long, whatever the reason.
(() => {
"use strict";
const SLOW = 6000, LONG = 30000; // milliseconds; on a line of 1.5 Mbit/s a first visit takes 12 seconds
const screen = document.getElementById("loading"), words = screen.querySelector("p");

setTimeout(() => { words.textContent = "Still loading: your connection is slow, or many people are here …"; }, SLOW);
setTimeout(() => { words.textContent = "This takes too long."; screen.querySelector("a").hidden = false; }, LONG);

const done = () => {
  watch.disconnect();
  screen.remove();
};
const watch = new MutationObserver(() => document.querySelector(".digits-app[data-ready=true]") && done());
watch.observe(document, { subtree: true, attributes: true, attributeFilter: ["data-ready"] });

window.voila_finish = () => {
  if (!window.themeLoaded) { window.cellLoaded = true; return; }
  document.getElementById("rendered_cells").style.display = "";
};
document.addEventListener("DOMContentLoaded", () => {
  window.voila_finish();
  const widgets = [...document.querySelectorAll("#rendered_cells script")].some(one => one.text.includes("widget-view+json"));
  if (!widgets) done(); // the notebook failed, and its cells say why
});

// The widget manager looks for a model every 100 ms for two seconds, then says "model not found", and does not look again when
// all of them have come during the last 100: on a line of 1.5 Mbit/s that is when they come. Voila sets this name before it
// shows the first widget.
Object.defineProperty(window, "jupyterapp", { set({ widgetManager: manager }) {
  const find = manager.get_model.bind(manager);
  manager.get_model = id => find(id).catch(error => { if (manager.has_model(id)) return find(id); throw error; });
} });
})();
