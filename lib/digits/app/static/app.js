// The page's side of the app: ink under the pointer at once, everything that happens reported to the kernel.
//
// The kernel owns the drawing. What the pen does is shown here until the kernel has drawn it too, and goes to the kernel
// through ipycanvas's key event, whose key may be any text: one JSON message for all that happened since the last one.
// The kernel answers with the number of the last message that it has dealt with (data-seq); when it does not, it is gone,
// and the page says so. While several messages are unanswered, moves of the pen wait and go together: a busy server gets
// fewer and longer messages, and every answer is about ink that is as new as it can be.
(() => {
"use strict";
window.digitsApp?.stop(); // the cell was run again

const SIZE = 280; // the pad's height, the unit of all coordinates, as in the kernel
const FRAME = 15; // milliseconds between two messages at least
const WINDOW = 3, BUSY = 250; // with so many unanswered ones moves wait, but never longer than so many milliseconds
const LOST = 4000; // milliseconds: nothing was answered for so long: the line or the kernel is gone
const HUNG = 20000; // the same, of a kernel that is there, or while a file is sent
const PING = 3000, AWAKE = 600000; // how often to ask whether it is there, and for how long after the last sign of life
const LINGER = 120; // ink stays here for so long after the kernel has drawn it: the browser needs a moment to show that
const PIECE = 32768; // bytes of a file in one message: a third of a second at 1 Mbit/s
const SMALL = 300000, LONGEST = 2000; // bytes of a picture that is sent as it is; pixels of one that is made smaller
const TRIES = 3; // to send a file
const KEPT = "digits-ink"; // where the ink is kept over a reload
const LINK = /^#(ink|wide)=((?:[0-9a-z]{4})+(?:-(?:[0-9a-z]{4})+){0,199})$/, LONGEST_LINK = 20000; // a drawing in an address, of 200 strokes; characters
const REPLAY = 1100; // milliseconds that an example takes to be drawn
const QUIET = 900; // without a new answer for so long, it is read out

const calm = matchMedia("(prefers-reduced-motion: reduce)");
const stopper = new AbortController();
const listen = (target, types, handler, options = {}) => {
  for (const type of types.split(" ")) target.addEventListener(type, handler, { signal: stopper.signal, ...options });
};
let seq = Date.now(); // numbers of messages only ever grow, also over a reload
const apps = new Map();

class App {
  constructor(root) {
    this.root = root;
    this.pad = root.querySelector(".digits-pad");
    this.canvas = this.pad.querySelector("canvas");
    this.queue = []; // what was not sent yet
    this.sent = []; // {seq, at} of what is not dealt with yet
    this.ink = []; // strokes that the kernel may not have drawn yet
    this.pen = null; // the pointer that draws
    this.state = {};
    this.seen = {}; // the elements that the data below was read from
    this.found = { parts: [] }; // the answer
    this.wide = false;
    this.kept = []; // strokes that the kernel has told of, null while nobody knows
    this.since = []; // and those that came after
    this.lastSent = this.lastAction = this.heard = this.toggled = 0;
    this.asked = this.asker = null; // the question about feedback, and what had the focus before
    this.overlay = document.createElement("canvas");
    this.overlay.className = "digits-overlay";
    this.overlay.setAttribute("aria-hidden", "true");
    this.pad.append(this.overlay);
    if (document.body.dataset.voila) this.root.setAttribute("role", "main");
    this.canvas.setAttribute("role", "img");
    this.canvas.setAttribute("aria-label", "Drawing pad. Draw with a mouse, a finger or a pen; with the keyboard, use the examples.");
    this.resizer = new ResizeObserver(() => this.fit());
    this.resizer.observe(this.pad);
    this.watch = setInterval(() => this.check(), 500);
    const setup = JSON.parse(this.root.querySelector(".digits-setup").dataset.setup);
    this.examples = new Map(setup.examples.map(one => [one.name, one.strokes]));
    view.set(this.root, setup);
    const known = document.body.dataset.voila && location.protocol.startsWith("http"); // others can open this address
    for (const part of this.root.querySelectorAll(".digits-link")) part.hidden = !known;
    this.bind();
    this.fit();
    this.read();
    this.report("hello");
  }

  stop() {
    this.finish();
    clearInterval(this.watch);
    this.resizer.disconnect();
    this.overlay.remove();
  }

  // --- The pen ------------------------------------------------------------------------------------------------------

  bind() {
    const pad = this.pad;
    // ipycanvas would report these too, swallow the wheel and every key, and be a second truth about the ink
    listen(pad, "mousedown mousemove mouseup mouseout wheel keydown touchstart touchmove touchend touchcancel", event => {
      if (!event.isTrusted) return;
      event.stopPropagation();
      if (event.type.startsWith("touch") && event.cancelable) event.preventDefault();
    }, { capture: true, passive: false });
    listen(pad, "pointerdown", event => this.down(event));
    listen(pad, "pointermove", event => this.move(event));
    listen(pad, "pointerup", event => this.up(event));
    listen(pad, "pointercancel lostpointercapture", event => this.up(event));
    listen(pad, "pointerleave", () => this.pen || this.ring(null));
    listen(pad, "contextmenu dragstart", event => event.preventDefault());
    listen(window, "blur", () => this.pen && this.end());
    listen(window, "scroll resize", () => { this.box = null; }, { capture: true });
    listen(this.root, "click", event => this.click(event));
    listen(this.root, "input change", event => this.input(event));
  }

  // Where the canvas lies is asked once a stroke: the page would be laid out for it, and the answer wait.
  place(event) {
    if (!this.pen) this.box = null;
    const box = this.box ??= this.canvas.getBoundingClientRect();
    return [Math.min((event.clientX - box.left) * SIZE / box.height, this.width), (event.clientY - box.top) * SIZE / box.height];
  }

  get width() { return this.wide ? 2 * SIZE : SIZE; }

  marks() { view.marks(this.root.querySelector(".digits-marks"), this.found, this.picture, this.state.brush, this.width); }

  // The pad twice as wide, or as before: the canvas is always wide.
  widen(wide) {
    if (wide === this.wide) return;
    this.wide = wide;
    this.root.classList.toggle("digits-is-wide", wide);
    this.root.querySelector(".digits-wide")?.setAttribute("aria-pressed", wide);
    this.fit();
    this.marks();
  }

  down(event) {
    const eraserEnd = event.pointerType === "pen" && (event.buttons & 32);
    if (event.button > 0 && !eraserEnd) return;
    event.preventDefault();
    if (this.pen && !(event.pointerType === "pen" && this.pen.type === "touch")) return; // a second finger, or a palm
    if (this.pen) this.end();
    try { this.pad.setPointerCapture(event.pointerId); } catch { /* an event made by a script has no pointer */ }
    this.pad.classList.add("digits-by-pointer"); // no focus ring around a pad that is being drawn on
    this.canvas.focus({ preventScroll: true });
    this.finish();
    const tool = eraserEnd ? "eraser" : null;
    const [x, y] = this.place(event);
    this.pen = { id: event.pointerId, type: event.pointerType, x, y };
    this.stroke = { tool: tool ?? this.state.tool ?? "pen", points: [[x, y]], last: Infinity };
    this.ink.push(this.stroke);
    this.root.classList.add("digits-has-ink");
    this.root.classList.remove("digits-has-photo");
    this.note("");
    this.segment(this.stroke, 0);
    if (this.stroke.tool === "eraser") this.kept = null; else this.since.push(this.stroke);
    this.report("down", x, y, tool);
  }

  move(event) {
    if (!this.pen) return this.ring(event);
    if (event.pointerId !== this.pen.id) return;
    const merged = event.getCoalescedEvents?.() ?? [];
    this.extend((merged.length ? merged : [event]).map(one => this.place(one)));
    if (this.stroke.tool === "eraser") this.ring(event);
  }

  extend(points) {
    const from = this.stroke.points.length - 1;
    this.stroke.points.push(...points);
    [this.pen.x, this.pen.y] = points[points.length - 1];
    this.segment(this.stroke, from);
    const last = this.queue[this.queue.length - 1];
    if (last?.[0] === "move") last.push(...points.flat()); else this.report("move", ...points.flat());
    this.flush();
  }

  up(event) {
    if (!this.pen || event.pointerId !== this.pen.id) return;
    const [x, y] = this.place(event);
    if (event.type === "pointerup" && Math.hypot(x - this.pen.x, y - this.pen.y) > 0.5) this.extend([[x, y]]);
    this.end();
  }

  end() {
    this.pen = null;
    this.report("up");
    this.flush(true);
    this.stroke.last = seq;
  }

  // Other strokes instead of what is on the pad; a step for undo if it is to be remembered.
  put(remember, strokes) {
    this.clean();
    if (strokes.some(beyond)) this.widen(true);
    const last = this.queue[this.queue.length - 1]; // one that waits is out of date, but for what it says about undo
    if (last?.[0] === "put") remember = this.queue.pop()[1] || remember;
    this.report("put", remember, ...strokes.map(flat));
    this.ink = strokes.map(points => ({ tool: "pen", points, last: this.queue.length ? seq + 1 : seq }));
    this.since = [...this.ink];
    this.repaint();
  }

  // An example, stroke by stroke, as if somebody drew it.
  play(strokes) {
    const total = strokes.reduce((sum, stroke) => sum + stroke.length, 0), started = performance.now();
    const step = first => {
      const share = calm.matches ? 1 : (performance.now() - started) / REPLAY;
      let left = share < 1 ? Math.max(Math.round(share * total), 1) : total;
      this.put(first, strokes.map(stroke => stroke.slice(0, Math.max((left -= stroke.length) + stroke.length, 0))).filter(stroke => stroke.length));
      if (share < 1) this.playing = setTimeout(step, FRAME, false);
      else this.playing = this.rest = null;
    };
    this.rest = strokes;
    step(true);
  }

  // Whatever else is done comes after all of the example.
  finish() {
    clearTimeout(this.playing);
    if (this.rest) this.put(false, this.rest);
    this.playing = this.rest = null;
  }

  // --- Ink on this side of the wire -----------------------------------------------------------------------------------

  fit() {
    const box = this.canvas.getBoundingClientRect(), ratio = window.devicePixelRatio || 1;
    const [width, height] = [box.width, box.height].map(side => Math.max(Math.round(side * ratio), 1));
    if (this.overlay.width !== width || this.overlay.height !== height) Object.assign(this.overlay, { width, height });
    this.context = this.overlay.getContext("2d");
    this.context.setTransform(height / SIZE, 0, 0, height / SIZE, 0, 0);
    this.context.lineCap = this.context.lineJoin = "round";
    this.repaint();
  }

  repaint() {
    this.context.clearRect(0, 0, this.width, SIZE);
    for (const stroke of this.ink) this.segment(stroke, 0);
  }

  segment(stroke, from) {
    const context = this.context, points = stroke.points, rubber = stroke.tool === "eraser";
    stroke.colour ??= getComputedStyle(this.root).getPropertyValue(rubber ? "--digits-paper" : "--digits-pen"); // slow, too
    context.strokeStyle = context.fillStyle = stroke.colour;
    context.lineWidth = (rubber ? this.state.eraser : this.state.brush) || 14;
    context.beginPath();
    if (points.length === 1) {
      context.arc(...points[0], context.lineWidth / 2, 0, 2 * Math.PI);
      context.fill();
    } else {
      points.slice(from).forEach((point, index) => index ? context.lineTo(...point) : context.moveTo(...point));
      context.stroke();
    }
  }

  ring(event) {
    if (!this.marker) {
      this.marker = document.createElement("i");
      this.marker.className = "digits-ring";
      this.pad.append(this.marker);
    }
    const rubber = event && (this.pen ? this.stroke.tool : this.state.tool) === "eraser";
    this.marker.hidden = !rubber;
    if (!rubber) return;
    const [x, y] = this.place(event);
    Object.assign(this.marker.style, { left: `${100 * x / this.width}%`, top: `${100 * y / SIZE}%`, width: `${100 * this.state.eraser / this.width}%` });
  }

  // --- To the kernel and back -----------------------------------------------------------------------------------------

  report(name, ...values) {
    this.queue.push([name, ...values]);
    this.lastAction = name === "ping" ? this.lastAction : performance.now();
    this.flush(!["move", "up", "put"].includes(name));
  }

  flush(now = false) {
    clearTimeout(this.timer);
    if (!this.queue.length) return;
    const wait = this.lastSent + (this.sent.length < WINDOW ? FRAME : BUSY) - performance.now();
    if (!now && wait > 0 && !this.root.reader) {
      this.timer = setTimeout(() => this.flush(), wait);
      return;
    }
    seq += 1;
    this.lastSent = performance.now();
    this.sent.push({ seq, at: performance.now() });
    const message = { seq, ops: this.queue.splice(0) };
    if (this.root.reader) this.root.reader.receive(message); // a page without a kernel: local.js
    else this.canvas.dispatchEvent(new KeyboardEvent("keydown", { key: JSON.stringify(message) }));
  }

  // What the kernel has said since: each piece of data is an element that is made anew when it changes.
  read() {
    const given = {}, fresh = {};
    for (const kind of ["state", "reading", "picture", "reasons", "kept"]) {
      const element = this.root.querySelector(`.digits-${kind}[data-${kind}]`);
      fresh[kind] = element !== this.seen[kind];
      this.seen[kind] = element;
      if (fresh[kind]) given[kind] = element ? JSON.parse(element.dataset[kind]) : undefined;
    }
    if (!Object.values(fresh).some(Boolean) || !this.seen.state || !this.seen.reading) return;
    const before = this.state;
    if (fresh.state) {
      const mine = given.state.seq < this.toggled && { why: before.why, tool: before.tool }; // newer than what it knows
      view.state(this.root, this.state = { ...given.state, ...mine }, before);
      if (this.state.note.kind === "resend" && before.note?.kind !== "resend" && this.resend) { this.resend(); this.resend = null; }
    }
    if (fresh.picture) this.picture = given.picture;
    if (fresh.reading) view.answer(this.root, this.found = given.reading);
    if (fresh.reasons) {
      view.reasons(this.root.querySelector(".digits-map-place"), given.reasons);
      const words = this.tells && this.root.querySelector(".digits-map figcaption p:last-child")?.textContent;
      if (words) { this.say(words); this.tells = false; }
    }
    this.marks();
    const dealt = Math.max(this.state.seq, this.found.seq);
    seq = Math.max(seq, dealt); // the clock was put back since the last load
    if (this.sent.some(message => message.seq <= dealt)) this.heard = performance.now();
    this.sent = this.sent.filter(message => message.seq > dealt);
    if (!this.sent.length) this.answered();
    if (fresh.kept) {
      const { seq: told, strokes } = given.kept ?? { seq: 0, strokes: [] };
      this.kept = strokes.map(pairs);
      if (this.kept.some(beyond)) this.widen(true);
      this.since = this.since.filter(stroke => stroke.last > told);
      this.keep();
    }
    const drawn = this.ink.filter(stroke => stroke.last <= dealt);
    if (drawn.length) setTimeout(() => {
      this.ink = this.ink.filter(stroke => !drawn.includes(stroke));
      this.repaint();
    }, LINGER);
    this.question();
    this.mirror();
    this.flush();
  }

  // Everything is answered. What was on its way when the line broke is drawn again.
  answered() {
    const mine = this.banner || !this.root.dataset.ready ? this.mine() : [];
    if (this.banner && mine?.flat().length > this.found.points && !this.pen) this.put(false, mine);
    this.lost("");
    if (this.root.dataset.ready) return;
    this.root.dataset.ready = "true";
    this.open() || this.restore();
  }

  // The drawing that came with the address is drawn, and taken out of it: a reload shows what was made of it.
  open() {
    if (!document.body.dataset.voila || !/^#(ink|wide)=/.test(location.hash)) return false;
    const strokes = location.hash.length <= LONGEST_LINK && unpacked(location.hash);
    history.replaceState(null, "", location.pathname + location.search);
    if (!strokes) { this.note("The drawing in this link is damaged.", true); return false; }
    this.finish();
    this.play(strokes);
    return true;
  }

  restore() {
    if (document.body.dataset.voila && !this.state.ink) {
      try {
        const strokes = JSON.parse(sessionStorage[KEPT] ?? "[]").map(pairs);
        if (strokes.length) this.put(false, strokes);
      } catch { /* there is no such place, or it holds something else */ }
    }
  }

  // The ink as far as it is known here: what the kernel told, and what was drawn since; null when some was rubbed out.
  // While an example is played, all of it.
  mine() { return this.rest ?? (this.kept && [...this.kept, ...this.since.map(stroke => stroke.points)]); }

  keep() {
    const strokes = this.root.dataset.ready && this.mine(); // before, what the last page kept is still to be put back
    try { if (strokes) sessionStorage[KEPT] = JSON.stringify(strokes.map(flat)); } catch { /* nothing can be kept here */ }
  }

  // Of several digits one is looked at, and judged.
  question() {
    const title = this.root.querySelector("#digits-feedback-title"), { parts, chosen } = this.found;
    const text = parts.length > 1 ? `Was the ${parts[chosen].text} right?` : "Was it right?";
    if (title && title.textContent !== text) title.textContent = text;
    const all = this.root.querySelector(".digits-all");
    if (all) [all.hidden, all.textContent] = [parts.length < 2, `All ${Math.max(parts.length, 2)} right`];
  }

  // The keyboard and the eye follow to the question whether feedback may be kept, and back when it is answered.
  consent() {
    const box = this.root.querySelector(".digits-consent");
    if (box === this.asked) return;
    if (box) {
      this.asker = document.activeElement;
      box.focus({ preventScroll: true });
      box.scrollIntoView({ block: "nearest", behavior: calm.matches ? "auto" : "smooth" });
    } else if (document.activeElement === document.body) this.asker?.focus({ preventScroll: true });
    this.asked = box;
  }

  mirror() {
    const { state, root } = this, find = name => root.querySelector(".digits-" + name);
    root.classList.toggle("digits-has-ink", state.ink || this.ink.length > 0);
    root.classList.toggle("digits-has-photo", state.photo && !this.ink.length);
    root.classList.toggle("digits-erasing", state.tool === "eraser");
    for (const name of ["undo", "redo"]) find(name)?.setAttribute("aria-disabled", !state[name]);
    find("eraser")?.setAttribute("aria-pressed", state.tool === "eraser");
    find("why")?.setAttribute("aria-pressed", state.why);
    if (this.sent.length || this.queue.length) return; // what is under way would be taken back for a moment
    for (const name of ["brush", "threshold", "model"]) {
      const control = find(name);
      if (control && document.activeElement !== control && control.value !== String(state[name])) {
        control.value = state[name];
        this.tell(control);
      }
    }
  }

  // A slider's value in words, where the number says little.
  tell(control) {
    const output = control.parentElement.querySelector("output");
    if (output) control.setAttribute("aria-valuetext", output.textContent = `${Math.round(100 * control.value)}%`);
  }

  check() {
    const now = performance.now(), oldest = this.sent[0]; // no clock that anybody can set
    const silent = oldest ? now - Math.max(oldest.at, this.heard) : 0;
    if (silent > (this.sending ? HUNG : LOST)) this.miss(silent);
    const awake = document.visibilityState === "visible" && now - this.lastAction < AWAKE;
    if ((awake && !oldest || this.banner) && now - this.lastSent > PING) this.report("ping");
  }

  // The page is looked at again, or touched: is anybody there?
  wake() {
    if (document.visibilityState === "visible" && performance.now() - this.lastSent > PING) this.report("ping");
  }

  // Nothing was answered for a while: the line may be broken, or the kernel gone, which the server knows.
  async miss(silent) {
    if (performance.now() - (this.probed ?? -PING) < PING) return;
    this.probed = performance.now();
    const config = JSON.parse(document.getElementById("jupyter-config-data")?.textContent ?? "{}");
    let gone = silent > HUNG;
    if (config.kernelId) {
      try {
        const reply = await fetch(`${config.baseUrl}api/kernels/${config.kernelId}`, { cache: "no-store", signal: AbortSignal.timeout(PING) });
        gone ||= !reply.ok;
      } catch { gone = false; }
    } else gone = true;
    if (this.sent.length) this.lost(gone ? "stopped" : "reconnecting");
  }

  // Whoever starts something from further down wants to watch it.
  reveal() {
    const box = this.pad.getBoundingClientRect();
    if (box.top < 0 || box.bottom > window.innerHeight)
      this.pad.scrollIntoView({ block: "start", behavior: calm.matches ? "auto" : "smooth" });
  }

  // "reconnecting" while the line is broken, "stopped" when the kernel is gone, "" when all is well.
  lost(how) {
    if (how === (this.banner?.dataset.how ?? "")) return;
    this.banner?.remove();
    this.banner = null;
    this.root.classList.toggle("digits-is-lost", how === "stopped");
    if (!how) return;
    this.banner = document.createElement("div");
    this.banner.className = "digits-lost";
    this.banner.dataset.how = how;
    this.banner.setAttribute("role", how === "stopped" ? "alert" : "status");
    this.banner.innerHTML = how === "stopped"
      ? "<p><strong>The reader has stopped.</strong> The program behind this page does not answer any more. Reload the page to get a new "
        + "one; your drawing stays.</p><button type=button class=digits-reload>Reload</button>"
      : "<p><strong>Reconnecting …</strong> You can go on drawing: it is read when the connection is back.</p>";
    this.banner.querySelector("button")?.addEventListener("click", () => location.reload());
    this.root.prepend(this.banner);
    this.banner.style.marginBottom = `${-this.banner.offsetHeight}px`; // the pad must not move under the pen
  }

  // --- Controls ---------------------------------------------------------------------------------------------------------

  click(event) {
    const button = event.target.closest("[data-do], [data-toggle], [data-edit], [data-send]");
    if (!button || !this.root.contains(button) || button.getAttribute("aria-disabled") === "true") return;
    if (button.dataset.edit) this.edit(button).catch(() => this.note("This browser cannot change the picture.", true));
    else if (button.dataset.send) this.send(button);
    else if (button.dataset.toggle) this.toggle(button.dataset.toggle); else this.act(JSON.parse(button.dataset.do));
  }

  toggle(name) {
    if (name === "why") {
      this.tells = !this.state.why;
      if (this.state.why) this.say("Reasons hidden");
      this.change("why", !this.state.why);
    } else if (name === "tool") {
      const tool = this.state.tool === "eraser" ? "pen" : "eraser";
      this.say(tool === "eraser" ? "Eraser" : "Pen");
      this.change("tool", tool);
    } else if (name === "wide") {
      if (this.wide && this.mine()?.some(beyond)) this.note("There is ink on the right. Undo it or clear the pad first.", true);
      else { this.widen(!this.wide); this.say(this.wide ? "Wide pad" : "Square pad"); }
    } else {
      const more = this.root.querySelector(".digits-more"), open = this.root.querySelector(".digits-gallery").classList.toggle("digits-open");
      more.setAttribute("aria-expanded", open);
      more.textContent = open ? "Fewer examples" : "More examples";
    }
  }

  // Shown at once: a second press may come before the answer to the first.
  change(name, value) {
    this.report(name, this.state[name] = value);
    this.toggled = seq;
  }

  // For those who hear the page: said at once, before the answer.
  say(text) {
    const line = this.root.querySelector(".digits-live");
    if (line) line.textContent = text;
    if (speech) announce(this.root); // an answer that waits is read out after this, not over it
  }

  // In a row of buttons the arrow keys go from one to the next.
  arrow(event) {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1, Home: -99, End: 99 }[event.key];
    const row = event.target.closest?.("[role=toolbar], .digits-gallery, .digits-verdicts, .digits-several");
    if (!step || !row || event.target.type === "range") return false;
    const buttons = [...row.querySelectorAll("button")].filter(button => button.offsetParent);
    buttons[Math.min(Math.max(buttons.indexOf(event.target) + step, 0), buttons.length - 1)]?.focus();
    return true;
  }

  act(operation) {
    const [name, value] = operation;
    if (["clear", "undo", "redo", "example"].includes(name)) {
      if (this.pen) this.end();
      this.finish();
      this.note("");
    }
    if (name === "example") {
      this.widen(false);
      this.reveal();
      this.play(this.examples.get(value));
      return;
    }
    if (name === "clear") this.clean();
    else if (["undo", "redo"].includes(name)) { this.ink = []; this.kept = null; this.repaint(); }
    const said = { undo: "Undone", redo: "Redone", clear: "The pad is empty" }[name];
    if (said) this.say(said);
    this.report(...operation);
  }

  // Nothing is on the pad, at once.
  clean() {
    this.ink = [];
    this.kept = [];
    this.since = [];
    this.repaint();
    this.canvas.getContext("2d").clearRect(0, 0, this.canvas.width, this.canvas.height);
  }

  input(event) {
    const control = event.target;
    if (control.type === "file") {
      if (event.type === "change") { this.upload(control.files[0]); control.value = ""; }
    } else if (control.dataset.set && (event.type === "input" || control.tagName === "SELECT")) {
      if (control.tagName === "SELECT" && event.type === "input") return;
      this.set(control);
    }
  }

  set(control) {
    const name = control.dataset.set, number = control.type === "range";
    this.tell(control);
    this.queue = this.queue.filter(operation => operation[0] !== name);
    this.queue.push([name, number ? Number(control.value) : control.value]);
    this.lastAction = performance.now();
    this.flush(!number);
  }

  key(event) {
    this.pad.classList.remove("digits-by-pointer");
    if (this.arrow(event)) return true;
    if (event.key === "Escape" && this.marking) { this.leave(); return true; }
    const key = event.key.toLowerCase(), command = event.ctrlKey || event.metaKey;
    if (event.altKey || (command && !["z", "y"].includes(key))) return false;
    if (!command && this.root.querySelector(".digits-keys")?.checked === false) return false;
    const name = command && key === "z" && event.shiftKey ? "redo" : { z: "undo", y: "redo", c: "clear", e: "eraser", w: "why" }[key];
    const button = name && this.root.querySelector(".digits-" + name);
    if (button) button.click();
    else if ("[]".includes(key)) {
      const brush = this.root.querySelector(".digits-brush");
      brush.value = Number(brush.value) + (key === "[" ? -2 : 2);
      this.say(`Brush size ${brush.value}`);
      this.set(brush);
    } else return false;
    return true;
  }

  // The drawing to send: as a link that holds it, or as a picture with its answer.
  async send(button) {
    const strokes = this.mine() ?? [], told = this.root.querySelector(".digits-sent");
    if (!strokes.length) told.value = "Draw something first.";
    else if (button.dataset.send === "picture") {
      const number = this.found.text.replaceAll("\n", " / "), sure = this.root.querySelector(".digits-verdict").innerText.replaceAll("\n", ": ");
      const file = { href: card(this.canvas, 3 * this.width, number, sure).toDataURL(), download: `${number.replace(/[^\d.-]+/g, "_") || "drawing"}.png` };
      Object.assign(document.createElement("a"), file).click();
      told.value = "The picture is saved.";
    } else {
      const link = location.href.replace(/#.*/, "") + packed(strokes);
      if (link.length > LONGEST_LINK) told.value = "This is too long for a link.";
      else told.value = await navigator.clipboard?.writeText(link).then(() => "The link is copied.", () => "") || link; // to copy by hand
    }
  }

  // --- Files ------------------------------------------------------------------------------------------------------------

  dropping(yes) { this.root.classList.toggle("digits-dropping", yes); }

  note(text, problem = false) {
    const note = this.root.querySelector(".digits-upload-note");
    if (!note) return;
    if (text) this.root.querySelector(".digits-notes .digits-message")?.remove(); // of what was before
    note.textContent = text;
    note.classList.toggle("digits-error", problem);
  }

  // Turn the chosen picture by a quarter, or have a part of it marked on the pad; the new picture is read.
  async edit(button) {
    const { name } = this.picked, picture = await createImageBitmap(this.picked, UPRIGHT), { width, height } = picture;
    const read = async (canvas, upright) => this.upload(new File([await blob(canvas, "image/png")], name), upright);
    if (button.dataset.edit === "turn") return read(painted(picture, undefined, 1, 1), true);
    const open = !this.marking;
    this.leave();
    if (!open) return;
    button.setAttribute("aria-pressed", true);
    const shown = painted(picture, undefined, Math.min(800 / Math.max(width, height), 1)), plain = painted(shown);
    const context = shown.getContext("2d"), place = this.marking = document.createElement("div");
    place.className = "digits-marking";
    place.append(shown);
    this.pad.append(place);
    this.reveal();
    this.note("Mark the part that is to be read: drag over the picture.");
    const at = event => {
      const box = shown.getBoundingClientRect(), inside = (value, most) => Math.min(Math.max(value, 0), most);
      return [inside((event.clientX - box.left) / box.width, 1), inside((event.clientY - box.top) / box.height, 1)];
    };
    let from = null;
    listen(place, "pointerdown pointermove pointerup pointercancel", event => {
      event.stopPropagation(); // nothing is drawn meanwhile
      event.preventDefault();
      if (event.type === "pointerdown") { from = at(event); place.setPointerCapture(event.pointerId); }
      if (!from) return;
      const [x, y] = at(event), [left, top] = [Math.min(x, from[0]), Math.min(y, from[1])], [w, h] = [Math.abs(x - from[0]), Math.abs(y - from[1])];
      context.drawImage(plain, 0, 0);
      context.strokeStyle = getComputedStyle(shown).color;
      context.lineWidth = 3;
      context.strokeRect(left * shown.width, top * shown.height, w * shown.width, h * shown.height);
      if (event.type === "pointercancel") from = null;
      if (event.type !== "pointerup") return;
      from = null;
      if (w * width < 8 || h * height < 8) return; // a touch is no part
      this.leave();
      read(painted(picture, [left * width, top * height, w * width, h * height]), this.upright);
    });
  }

  // The picture that is being marked is put away.
  leave() {
    if (!this.marking) return;
    this.marking.remove();
    this.marking = null;
    this.note("");
    this.root.querySelector(".digits-cut")?.setAttribute("aria-pressed", false);
  }

  // Send a file; again when it did not arrive in one piece.
  async upload(file, upright = false, tries = TRIES) {
    const input = this.root.querySelector(".digits-upload input"), progress = this.root.querySelector(".digits-progress");
    if (!file || !input) return;
    const limit = Number(input.dataset.limit), megabytes = bytes => (bytes / 1e6).toFixed(1).replace(/\.0$/, "") + " MB";
    const mine = this.sending = Symbol(file.name);
    Object.assign(this, { picked: file, upright }); // what a hand has turned is turned no more
    this.leave();
    for (const button of this.root.querySelectorAll("[data-edit]")) button.hidden = false;
    this.finish();
    this.reveal();
    this.note(`Sending ${file.name} …`);
    progress.removeAttribute("value");
    progress.hidden = false;
    try {
      const small = await smaller(file);
      if (small.size > limit) {
        this.note(`${file.name} has ${megabytes(file.size)}; at most ${megabytes(limit)} can be read. Send a smaller copy or a part of it.`, true);
        return;
      }
      this.resend = tries > 1 && (() => this.upload(file, upright, tries - 1));
      progress.max = Math.max(small.size, 1);
      for (let offset = 0; offset === 0 || offset < small.size; offset += PIECE) {
        const piece = await base64(small.slice(offset, offset + PIECE));
        if (this.sending !== mine) return; // another one was chosen
        this.report("file", file.name.slice(0, 200), small.size, offset, piece, upright);
        while (this.sent.length > 3 && !this.stopped) await new Promise(done => setTimeout(done, 20)); // never a long queue
        if (this.stopped) break;
        progress.value = offset + PIECE;
      }
      while (this.sent.length && !this.stopped) await new Promise(done => setTimeout(done, 20));
      this.note(this.stopped ? `${file.name} was not sent: the reader has stopped.` : "", this.stopped);
    } catch {
      this.note(`${file.name} cannot be read by this browser.`, true);
    } finally {
      if (this.sending === mine) { this.sending = null; progress.hidden = true; }
    }
  }

  get stopped() { return this.banner?.dataset.how === "stopped"; }
}

const pairs = flat => Array.from({ length: flat.length / 2 }, (_, k) => [flat[2 * k], flat[2 * k + 1]]);
const flat = stroke => stroke.flat().map(value => Math.round(10 * value) / 10);

const beyond = stroke => stroke.some(([x]) => x > SIZE); // on a wide pad's right half

// A drawing in an address: quarters of a pixel, halves of a wide one, two digits to the base of 36 each; null for none.
const parts = kind => kind === "wide" ? 2 : 4;
function packed(strokes) {
  const kind = strokes.some(beyond) ? "wide" : "ink", two = value => Math.round(parts(kind) * value).toString(36).padStart(2, "0");
  return `#${kind}=` + strokes.map(stroke => stroke.flat().map(two).join("")).join("-");
}
function unpacked(hash) {
  const [, kind, text] = LINK.exec(hash) ?? [];
  return text?.split("-").map(stroke => pairs(stroke.match(/../g).map(two => parseInt(two, 36) / parts(kind)))) ?? null;
}

// What is on the pad, on white, with what it was read as.
function card(ink, width, number, sure) {
  const canvas = Object.assign(document.createElement("canvas"), { width, height: 960 }), context = canvas.getContext("2d");
  context.fillStyle = "#fff";
  context.fillRect(0, 0, width, 960);
  context.drawImage(ink, 0, 0);
  context.fillStyle = "#15181c";
  context.textAlign = "center";
  context.font = "600 44px system-ui, sans-serif";
  context.fillText(number ? `Read as ${number}` : "", width / 2, 890, 800);
  context.font = "26px system-ui, sans-serif";
  context.fillText(sure, width / 2, 935, 800);
  return canvas;
}

const UPRIGHT = { imageOrientation: "from-image" };
const blob = (canvas, type) => new Promise(done => canvas.toBlob(done, type, 0.85));

// A part [left, top, width, height] of a picture on white, made smaller, turned by a quarter to the right if need be.
function painted(picture, [left, top, width, height] = [0, 0, picture.width, picture.height], scale = 1, quarter = 0) {
  const canvas = document.createElement("canvas"), [w, h] = [width, height].map(side => Math.max(Math.round(side * scale), 1));
  [canvas.width, canvas.height] = quarter ? [h, w] : [w, h];
  const context = canvas.getContext("2d");
  context.fillStyle = "#fff"; // under what is transparent
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.imageSmoothingQuality = "high";
  if (quarter) { context.translate(h, 0); context.rotate(Math.PI / 2); }
  context.drawImage(picture, left, top, width, height, 0, 0, w, h);
  return canvas;
}

// A photograph as small as it can be read, upright: a slow line would take half a minute for 2.4 MB.
async function smaller(file) {
  if (file.size < SMALL) return file;
  try {
    const picture = await createImageBitmap(file, UPRIGHT), scale = Math.min(LONGEST / Math.max(picture.width, picture.height), 1);
    const small = await blob(painted(picture, undefined, scale), "image/jpeg");
    return small?.size < file.size ? small : file;
  } catch { return file; } // a format that this browser does not know
}

const base64 = piece => new Promise((done, failed) => {
  const reader = new FileReader();
  reader.onload = () => done(reader.result.slice(reader.result.indexOf(",") + 1));
  reader.onerror = failed;
  reader.readAsDataURL(piece);
});

// --- For all apps on the page -------------------------------------------------------------------------------------------

// The app that an event is for: the one it happened in; on a page of its own the only one, in a notebook none.
const appAt = target => [...apps.values()].find(app => app.root.contains(target))
  ?? (document.body.dataset.voila ? [...apps.values()][0] : null);

listen(window, "keydown", event => {
  const target = event.target;
  if (!event.isTrusted || target.closest?.("input:not([type=range], [type=checkbox]), select, textarea, [contenteditable]")) return;
  if (!appAt(target)?.key(event)) return;
  event.preventDefault();
  event.stopImmediatePropagation();
}, { capture: true });

listen(document, "visibilitychange pointerdown pointermove", () => apps.forEach(app => app.wake()));
listen(window, "online focus", () => apps.forEach(app => app.wake()));
listen(window, "hashchange", () => apps.forEach(app => app.open()));
listen(window, "pagehide", () => apps.forEach(app => app.keep()));

listen(document, "paste", event => {
  const file = event.clipboardData?.files?.[0];
  if (file) appAt(event.target)?.upload(file);
});

listen(document, "dragover drop", event => {
  const app = appAt(event.target);
  if (!app || !event.dataTransfer?.types.includes("Files")) return;
  event.preventDefault(); // a picture that is dropped beside the app would take the page's place
  app.dropping(event.type === "dragover");
  if (event.type === "drop") app.upload(event.dataTransfer.files[0]);
});
listen(document, "dragleave", event => event.relatedTarget || apps.forEach(app => app.dropping(false)));

let speech = 0;
function announce(root) {
  const text = root.querySelector(".digits-answer")?.dataset.say || "", line = root.querySelector(".digits-live");
  clearTimeout(speech);
  speech = setTimeout(() => { speech = 0; if (line && text && line.textContent !== text) line.textContent = text; }, QUIET);
}

const observer = new MutationObserver(records => {
  for (const canvas of document.querySelectorAll(".digits-app .digits-pad canvas:first-of-type")) {
    const root = canvas.closest(".digits-app");
    if (!apps.has(root) && !canvas.classList.contains("digits-overlay")) apps.set(root, new App(root));
  }
  for (const [root, app] of apps) {
    if (!root.isConnected) { app.stop(); apps.delete(root); continue; }
    app.read();
    app.consent();
    if (records.some(record => record.target.closest?.(".digits-result"))) announce(root);
    keepFocus(root);
  }
});
observer.observe(document.documentElement, { childList: true, subtree: true });

// Controls that are made anew, with every answer or model: keep the keyboard on the one that had it.
const REMADE = ".digits-part, .digits-model", named = control => control.dataset.do ?? control.dataset.set;
let focused = null;
listen(document, "focusin pointerdown", event => {
  const control = event.type === "focusin" && event.target.closest?.(REMADE);
  focused = control ? named(control) : null;
}, { capture: true });
function keepFocus(root) {
  if (focused && document.activeElement === document.body)
    [...root.querySelectorAll(REMADE)].find(control => named(control) === focused)?.focus();
}

window.digitsApp = { apps, stop() { observer.disconnect(); stopper.abort(); for (const app of apps.values()) app.stop(); } };
})();
