// The reader in the browser, in the kernel's place: it takes the page's messages, keeps the ink with its history, reads it
// and answers with the same data. Nothing is asked of a server. See app/app.py and app/pad.py, whose messages these are.
const local = (() => {
"use strict";

const SIZE = ink.CANVAS, WIDTH = ink.WIDEST * SIZE;
const MOST_POINTS = 5000, MOST_STROKES = 200; // of a drawing
const MOST_STEPS = 100; // that can be undone
const MOST_KNOWN = 500; // answers that are remembered: of a drawing that grows only the last digit changes
const GLANCE = 100; // milliseconds between two looks inside: the answer comes first
const REST = 300; // milliseconds without new ink before the map of reasons is made
const COLOUR = "#15181c"; // of the ink; the style sheet inverts it in the dark

const soon = () => new Promise(done => { // the page has its turn; a timer would wait for four milliseconds
  const { port1, port2 } = new MessageChannel();
  port1.onmessage = () => { port1.close(); done(); };
  port2.postMessage(null);
});
const pairs = values => Array.from({ length: values.length / 2 }, (_, k) => [values[2 * k], values[2 * k + 1]]);
const bytes = image => btoa(String.fromCharCode(...image.map(value => 255 * value)));

// What is left of a stroke where `rubbed` is 0: the stroke itself, or its pieces.
function cut(stroke, rubbed) {
  const fine = stroke.flatMap(([x, y], k) => { // points at most 2 pixels apart; own: one of the stroke's
    const [u, v] = stroke[k + 1] ?? [x, y], n = Math.max(Math.ceil(Math.hypot(u - x, v - y) / 2), 1);
    return Array.from({ length: n }, (_, i) => ({ point: [x + (u - x) * i / n, y + (v - y) * i / n], own: i === 0 }));
  });
  const pieces = [[]], kept = ({ point: [x, y] }) => !rubbed[Math.min(Math.floor(y), SIZE - 1) * WIDTH + Math.min(Math.floor(x), WIDTH - 1)];
  if (fine.every(kept)) return [stroke];
  for (const one of fine) if (kept(one)) pieces[pieces.length - 1].push(one); else pieces.push([]);
  return pieces.filter(piece => piece.length > 1) // a single point would be a speck
    .map(piece => piece.filter(({ own }, k) => own || k === 0 || k === piece.length - 1).map(({ point }) => point));
}

// The maps of a layer, one for each filter; bright where it found what it looks for.
function drawMaps(canvas, { side, channels, values }) {
  const columns = Math.min(channels, 20), rows = Math.ceil(channels / columns), context = canvas.getContext("2d"), most = Math.max(...values, 1e-9);
  const width = columns * (side + 1) - 1, height = rows * (side + 1) - 1, image = context.createImageData(width, height);
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height }); // which lays the page out anew
  for (let y = 0, k = 0; y < side; y++) for (let x = 0; x < side; x++) for (let c = 0; c < channels; c++, k++) {
    const row = y + Math.floor(c / columns) * (side + 1), column = x + (c % columns) * (side + 1), light = 255 * Math.sqrt(values[k] / most);
    const at = 4 * (row * width + column);
    image.data[at] = image.data[at + 1] = image.data[at + 2] = light;
    image.data[at + 3] = 255;
  }
  context.putImageData(image, 0, 0);
}

class Reader {
  // setup: {models: {name: as network.unpacked takes it, with label and meaning}, chosen, facts}
  constructor(root, setup) {
    Object.assign(this, { root, setup, strokes: [], past: [], future: [], tool: "pen", brush: 14, seq: 0, note: "", why: false, parts: [] });
    this.canvas = root.querySelector(".digits-pad > canvas");
    this.inside = root.querySelector(".digits-inside");
    if (this.inside) {
      this.inside.open = matchMedia("(min-width: 861px)").matches; // a phone has no time and no room for it
      this.inside.addEventListener("toggle", () => this.look());
    }
    this.limit = setup.models[setup.chosen].calibration.accept_confidence;
    this.choose(setup.chosen);
  }

  // One message of app.js: {seq, ops: [[name, …values], …]}. The page has its turn before the answer is worked out.
  receive({ seq, ops }) {
    this.seq = seq;
    for (const [name, ...values] of ops) this[`do_${name}`]?.(...values);
    if (!this.due) this.due = soon().then(() => { this.due = null; this.answer(); });
  }

  do_down(x, y, tool) {
    this.note = "";
    this.down = tool ?? this.tool;
    if (this.down === "pen" && this.full(1, 1)) return;
    this.remember();
    if (this.down === "pen") this.strokes = [...this.strokes, ink.clipped([[[x, y]]])[0]];
    this.last = [x, y];
    if (this.down === "eraser") this.erase([this.last]);
  }

  do_move(...values) {
    const points = pairs(values);
    if (this.down === "eraser") this.erase([this.last, ...points]);
    else if (this.down && !this.full(points.length, 0)) {
      const stroke = this.strokes[this.strokes.length - 1];
      this.strokes = [...this.strokes.slice(0, -1), [...stroke, ...ink.clipped([points])[0]]];
    }
    this.last = points[points.length - 1];
  }

  do_up() {
    this.down = null;
    this.paint();
  }

  do_undo() { this.step(this.past, this.future); }

  do_redo() { this.step(this.future, this.past); }

  do_clear() { this.do_put(true); }

  do_put(remember, ...strokes) {
    this.note = "";
    this.down = null;
    if (remember && (this.strokes.length || strokes.length)) this.remember();
    this.strokes = ink.clipped(strokes.map(pairs));
    this.paint();
  }

  do_tool(tool) { this.tool = tool; }

  do_brush(width) {
    this.brush = width;
    this.paint();
  }

  do_part(index) { if (this.parts[index]) this.chosen = index; }

  do_threshold(value) { this.limit = value; }

  do_model(name) { if (this.setup.models[name]) this.choose(name); }

  do_why(wanted) { this.why = wanted; }

  // --- The ink and its history: strokes are never changed in place ------------------------------------------------------

  remember() {
    this.past = [...this.past.slice(1 - MOST_STEPS), this.strokes];
    this.future = [];
  }

  step(source, target) {
    this.down = null;
    if (!source.length) return;
    target.push(this.strokes);
    this.strokes = source.pop();
    this.paint();
  }

  full(points, strokes) {
    if (this.strokes.flat().length + points <= MOST_POINTS && this.strokes.length + strokes <= MOST_STROKES) return false;
    this.down = null;
    this.note = "The pad is full. Undo a stroke or clear it to go on drawing.";
    return true;
  }

  get eraser() { return Math.max(1.6 * this.brush, 24); }

  erase(path) {
    const rubbed = ink.rasterize(ink.clipped([path]), SIZE, this.eraser, WIDTH), left = this.strokes.flatMap(stroke => cut(stroke, rubbed));
    if (left.length === this.strokes.length && left.every((stroke, k) => stroke === this.strokes[k])) return;
    this.strokes = left;
    this.paint();
  }

  paint() {
    const context = this.canvas.getContext("2d"), scale = this.canvas.height / SIZE;
    context.setTransform(scale, 0, 0, scale, 0, 0);
    context.clearRect(0, 0, WIDTH, SIZE);
    context.lineCap = context.lineJoin = "round";
    context.strokeStyle = COLOUR;
    context.lineWidth = this.brush;
    for (const stroke of this.strokes) {
      context.beginPath();
      for (const point of [stroke[0], ...stroke]) context.lineTo(...point); // a line of no length is a dot
      context.stroke();
    }
  }

  // --- The answer -------------------------------------------------------------------------------------------------------

  // A model is unpacked when it is chosen. Until then the page can be drawn on, and the answer waits.
  async choose(name) {
    clearTimeout(this.rest);
    Object.assign(this, { name, model: null, known: new Map(), read: null, seen: null });
    const model = await network.unpacked(this.setup.models[name]);
    if (this.name !== name) return; // another one was chosen meanwhile
    this.model = model;
    this.answer();
    setTimeout(() => this.model === model && this.predict(this.setup.examples[0].strokes), GLANCE); // compiled before somebody draws
  }

  predict(strokes) {
    const key = JSON.stringify(strokes), found = this.known.get(key) ?? network.predictStrokes(this.model, strokes);
    this.known.delete(key); // the newest last
    this.known.set(key, found);
    if (this.known.size > MOST_KNOWN) this.known.delete(this.known.keys().next().value);
    return found;
  }

  // Everything that the page shows; the ink is read again only when it changed.
  answer() {
    if (!this.model) return;
    if (this.read !== this.strokes) {
      const started = performance.now();
      Object.assign(this, segmentation.read(this.strokes, strokes => this.predict(strokes)));
      this.seconds = (performance.now() - started) / 1000;
      this.read = this.strokes;
    }
    const parts = this.parts.map(({ box, line, mark, doubt, prediction }) => ({
      ...prediction, text: mark || String(prediction.digit), line, doubt, box, image: bytes(prediction.image),
      reason: network.reasonAt(prediction, this.limit) || (doubt && "unsure") }));
    const text = segmentation.textOf(this.parts), points = this.strokes.flat().length;
    this.put("reading", { seq: this.seq, text, reason: text ? parts.map(part => part.reason).find(Boolean) ?? "" : "blank",
      points, seconds: this.seconds, source: "drawing", chosen: this.chosen, parts });
    this.say();
    clearTimeout(this.rest);
    this.rest = setTimeout(() => this.explain(), REST);
    this.looking ??= setTimeout(() => { this.looking = null; this.look(); }, GLANCE);
  }

  // What the first layers make of the digit that is looked at.
  look() {
    if (!this.model || !this.inside?.open || this.seen === this.part?.image) return;
    this.seen = this.part?.image;
    const canvases = [...this.inside.querySelectorAll("canvas")], layers = this.model.layers.slice(0, canvases.length);
    const [, ...maps] = network.activations({ layers }, this.seen ?? new Float32Array(784));
    canvases.forEach((canvas, k) => drawMaps(canvas, maps[k]));
  }

  get part() { return this.parts[this.chosen]?.prediction; }

  say() {
    const { meaning } = this.setup.models[this.name], at = Math.min(Math.round(100 * this.limit), 99);
    this.put("state", {
      seq: this.seq, ink: this.strokes.length > 0, photo: false, brush: this.brush, eraser: this.eraser, tool: this.tool,
      undo: this.past.length > 0, redo: this.future.length > 0, threshold: this.limit, why: this.why,
      model: this.name, models: Object.entries(this.setup.models).map(([name, { label }]) => [name, label]),
      meaning: meaning && [meaning.answered[at], meaning.right[at], meaning.n], facts: this.setup.facts,
      note: { kind: this.note ? "error" : "note", text: this.note }, told: { kind: "note", text: "" } });
  }

  async explain() {
    const finished = this.down === "pen" ? this.strokes.slice(0, -1) : this.strokes;
    this.put("kept", { seq: this.seq, strokes: finished.map(stroke => stroke.flat()) }); // which app.js keeps over a reload
    const part = this.part, model = this.model;
    if (!this.why || !part) { this.put("reasons", this.why ? null : undefined); return; }
    const effect = await occlusion.effects(model, part.image, part.digit, async () => { await soon(); return this.why && this.part === part && this.model === model; });
    if (!effect) return; // there is newer ink
    const most = Math.max(...effect.map(Math.abs), 1e-9), round = value => Math.round(1000 * value / most) / 1000;
    this.put("reasons", { digit: part.digit, image: bytes(part.image), effect: Array.from(effect, round),
      for: occlusion.region(part.image, effect, 1), against: occlusion.region(part.image, effect, -1) });
  }

  // As the kernel does: an element that is made anew; none for undefined.
  put(kind, value) {
    const old = this.root.querySelector(`.digits-${kind}[data-${kind}]`), made = document.createElement("i");
    if (value === undefined) { old?.remove(); return; }
    Object.assign(made, { className: `digits-${kind}`, hidden: true }).dataset[kind] = JSON.stringify(value);
    if (old) old.replaceWith(made); else this.root.append(made);
  }
}

// Begin on this page: app.js sees the canvas, which is not there before.
function start() {
  const root = document.querySelector(".digits-app"), models = JSON.parse(document.getElementById("digits-models").textContent);
  const canvas = Object.assign(document.createElement("canvas"), { width: 3 * WIDTH, height: 3 * SIZE });
  root.querySelector(".digits-pad").prepend(canvas);
  root.reader = new Reader(root, { models, ...JSON.parse(root.querySelector(".digits-setup").dataset.setup) });
}

return { Reader, start };
})();
