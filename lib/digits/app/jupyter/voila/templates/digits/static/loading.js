// Stands behind the cells, so they are there. The page is shown once JupyterLab's theme is there, too, of which Voila's own
// script tells by calling voila_finish.
window.voila_finish = () => {
  if (!window.themeLoaded) { window.cellLoaded = true; return; }
  document.getElementById("loading")?.remove();
  document.getElementById("rendered_cells").style.display = "";
};
window.voila_finish();
