// What the page shows of an answer and of the controls. Pure rendering: values in, the page's elements changed; who reads,
// a kernel or this browser, does not matter here. Text goes in as text, never as markup.
const view = (() => {
"use strict";

const SIZE = 280; // pixels of the canvas from top to bottom, the unit of boxes
const LABEL = [50, 18], BARE = 22; // width and height of a box's label in those, on a phone; width without a percentage
const MANY = 9; // digits with whose percentages there is room on the pad
const FIRST = /^(2026|\d|letter-a|heart)$/; // examples that are seen before one asks for more
const MOST_CANDIDATES = 3; // that are named when the network is not sure; more would help nobody
const REASONS = { blank: "Nothing to read", unsure: "Not sure", "not a digit": "Not a digit, I think" };

// <name attributes>content</name>; content: elements and texts.
function element(name, attributes = {}, ...content) {
  const made = /^(svg|path|rect|polyline)$/.test(name) ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) if (value !== null && value !== false) made.setAttribute(key, value === true ? "" : value);
  made.append(...content);
  return made;
}

// A share as a percentage that never claims certainty.
const percent = share => share > 0.999 ? "over 99.9%" : share >= 0.99 ? `${(100 * share).toFixed(1)}%` : `${(100 * share).toFixed(0)}%`;
const short = share => share > 0.99 ? ">99%" : `${(100 * share).toFixed(0)}%`;
const ofDigit = part => /\d/.test(part.text) ? short(part.confidence) : ""; // a minus has none
const trust = part => part.reason ? "digits-doubtful" : "digits-sure";
const least = answer => answer.parts.reduce((a, b) => (!b.reason - !a.reason || b.confidence - a.confidence) < 0 ? b : a);
const lowest = answer => percent(Math.min(...answer.parts.map(part => part.confidence)));
const atLeast = answer => answer.parts.length === 1 ? "" : lowest(answer).startsWith("over") ? "each " : "each at least ";

// Which digits one doubtful digit may be, "7 or 1"; "" when that says nothing or too much to help.
function either(answer) {
  const digits = answer.parts[answer.chosen].candidates;
  if (answer.parts.length > 1 || answer.reason !== "unsure" || digits.length < 2 || digits.length > MOST_CANDIDATES) return "";
  return `${digits.slice(0, -1).join(", ")} or ${digits[digits.length - 1]}`;
}

// The part that is withheld for what is around it, as a minus is, or strokes that touch; undefined for none.
const doubted = answer => answer.parts.find(part => part.doubt && part.reason === answer.reason);

// The answer as a sentence, for screen readers.
function spoken(answer) {
  if (!answer.text) return "";
  const number = answer.text.split("\n").map(line => [...line].join(" ")).join(", below it "), choice = either(answer);
  if (answer.reason) return `${REASONS[answer.reason]}${[choice, doubted(answer)?.doubt].filter(Boolean).map(words => `: ${words}`).join("")}. Best guess ${number}.`;
  return `${number}, ${atLeast(answer)}${lowest(answer)} sure.`;
}

function verdict(answer) {
  if (!answer.text) return ["Your answer appears here while you draw."];
  if (!answer.reason) return [atLeast(answer), element("strong", {}, lowest(answer)), " sure"];
  const part = least(answer), choice = either(answer), doubt = doubted(answer)?.doubt;
  const guess = doubt ? `${doubt}; read as ${answer.text.replaceAll("\n", " / ")}` : answer.reason === "not a digit" ? `closest digit: ${part.text}` // a share of the ten would say the opposite
    : `best guess ${part.text}, ${percent(part.confidence)}`;
  return [element("strong", { class: "digits-no" }, REASONS[answer.reason]), choice ? `${choice}, ${guess}` : guess];
}

// The number, large; with several digits each can be chosen.
function figure(answer) {
  if (answer.parts.length < 2) return [element("span", { class: answer.text ? trust(answer.parts[0]) : "digits-none" }, answer.text || "?")];
  return answer.parts.flatMap((part, index) => [...part.line > answer.parts[Math.max(index - 1, 0)].line ? [element("i")] : [], element("button", {
    type: "button", class: `digits-part ${trust(part)}`, "data-do": JSON.stringify(["part", index]),
    "aria-pressed": String(index === answer.chosen),
  }, element("span", {}, part.text), element("small", {}, ofDigit(part)),
  element("span", { class: "digits-hidden" }, `, digit ${index + 1} of ${answer.parts.length}`))]);
}

function bars(list, part) {
  if (!list.children.length) list.append(...Array.from({ length: 10 }, (_, digit) =>
    element("li", {}, element("b", {}, String(digit)), element("i", {}, element("s")), element("span"))));
  [...list.children].forEach((row, digit) => {
    const share = part?.probabilities[digit] ?? 0;
    row.classList.toggle("digits-best", digit === part?.digit);
    row.querySelector("s").style.width = `${(100 * share).toFixed(1)}%`;
    if (row.lastChild.textContent !== short(share)) row.lastChild.textContent = short(share);
  });
}

// image: 784 bytes in Base64, or nothing for a blank.
function pixels(canvas, image) {
  const context = canvas.getContext("2d"), made = context.createImageData(28, 28), bytes = image ? atob(image) : "";
  for (let k = 0, at = 0; k < 784; k++, at += 4) {
    made.data[at] = made.data[at + 1] = made.data[at + 2] = bytes.charCodeAt(k) || 0;
    made.data[at + 3] = 255;
  }
  context.putImageData(made, 0, 0);
}

// answer: {seq, text, reason, points, seconds, source, chosen, parts: [{text, digit, confidence, probabilities, reason,
// candidates, box, image, line, doubt}]}.
function answer(root, found) {
  const place = root.querySelector(".digits-answer"), part = found.parts[found.chosen];
  if (!place) return;
  Object.assign(place.dataset, {
    digit: part?.text ?? "", confidence: (part?.confidence ?? 0).toFixed(4), accepted: String(!found.reason), reason: found.reason,
    points: found.points, text: found.text, source: found.source, seq: found.seq, say: spoken(found) });
  const large = place.querySelector(".digits-figure"), several = found.parts.length > 1;
  large.classList.toggle("digits-several", several);
  large.classList.toggle("digits-lines", found.text.includes("\n"));
  const lines = found.text.split("\n"), longest = Math.max(...lines.map(line => line.length));
  large.style.setProperty("--count", Math.max(longest, 2.2 * lines.length));
  if (several) large.removeAttribute("aria-hidden"); else large.setAttribute("aria-hidden", "true");
  large.replaceChildren(...figure(found));
  place.querySelector(".digits-verdict").replaceChildren(...verdict(found));
  bars(place.querySelector(".digits-bars"), part);
  pixels(place.querySelector(".digits-seen canvas"), part?.image);
  place.querySelector(".digits-what").textContent = found.source === "photo" ? "cut out of your picture" : "your path, drawn again with an even pen";
  const drop = root.querySelector(".digits-drop");
  if (drop) {
    drop.hidden = found.source !== "photo" || !several;
    drop.dataset.do = JSON.stringify(["drop", found.chosen]);
    drop.textContent = `Leave out the ${part?.text}`;
  }
  place.querySelector(".digits-took").textContent = found.text && found.seconds ? `Read in ${(1000 * found.seconds).toFixed(1)} ms.` : "";
}

// Boxes around the ink when several digits are read, or around all of them in the picture {name, src, size} that was uploaded,
// which fits into the pad; brush, across: how wide the ink and the pad are.
function marks(place, found, picture, brush, across = SIZE) {
  if (!place) return;
  const fit = picture ? Math.min(across / picture.size[0], SIZE / picture.size[1]) : 1, rim = picture ? 2 : brush / 2;
  const onPad = (value, k) => picture ? ([across, SIZE][k % 2] - fit * picture.size[k % 2]) / 2 + fit * value : value;
  const kept = place.querySelector("img"), boxes = picture ? [kept?.src === picture.src ? kept
    : element("img", { class: "digits-preview", src: picture.src, alt: `Your picture ${picture.name}` })] : [];
  const many = found.parts.length > MANY, wide = many ? BARE : LABEL[0];
  let before = -SIZE, low = false;
  if (picture ? found.source === "photo" : found.parts.length > 1) found.parts.forEach((part, index) => {
    if (!part.box) return;
    const [left, top, right, bottom] = part.box.map((value, k) => onPad(value, k) + (k < 2 ? -rim : rim));
    if (part.line !== found.parts[Math.max(index - 1, 0)].line) before = -SIZE;
    low = left - before < wide && !low; // a label stands above its box, below where it would cover the one before
    const inside = low ? bottom > SIZE - LABEL[1] : top < LABEL[1];
    const kinds = ["digits-box", trust(part), low && "digits-low", inside && "digits-inner", left > across - wide && "digits-end", index === found.chosen && "digits-chosen"];
    const box = element("div", { class: kinds.filter(Boolean).join(" ") }, element("span", {}, many ? part.text : `${part.text} ${ofDigit(part)}`));
    const share = (value, whole) => `${(100 * value / whole).toFixed(1)}%`;
    Object.assign(box.style, { left: share(left, across), top: share(top, SIZE), width: share(right - left, across), height: share(bottom - top, SIZE) });
    boxes.push(box);
    before = left;
  });
  place.replaceChildren(...boxes);
}

// What each part of the ink does for the answer: {digit, image: 784 bytes in Base64, effect: 784 numbers in [-1, 1], for,
// against: where most, in words}; null when there is nothing to explain, undefined for none.
function reasons(place, found) {
  if (!place) return;
  if (found === undefined) { place.replaceChildren(); return; }
  const answer = found ? found.digit : "it", cells = [], bytes = found ? atob(found.image) : "";
  for (let k = 0; k < bytes.length; k++) {
    const x = k % 28, y = Math.floor(k / 28), ink = bytes.charCodeAt(k) / 255, effect = found.effect[k], at = { x, y, width: 1, height: 1 };
    if (ink <= 0.1) continue;
    cells.push(element("rect", { class: "digits-ink", opacity: (0.35 * ink).toFixed(2), ...at }));
    if (Math.abs(effect) >= 0.05) cells.push(element("rect", { class: effect > 0 ? "digits-for" : "digits-against", opacity: Math.min(Math.abs(effect) ** 0.6, 1).toFixed(2), ...at }));
    if (effect <= -0.15) cells.push(element("path", { class: "digits-hatch", d: `M${x} ${y + 1}l1 -1` }));
  }
  const most = !found ? "Draw something first."
    : ["for", "against"].filter(side => found[side]).map(side => `Most ${side} it: ${found[side]}.`).join(" ") || "No part stands out.";
  const key = (side, words) => element("p", {}, element("b", { class: `digits-key digits-${side}` }), words);
  place.replaceChildren(element("figure", { class: "digits-map" },
    element("svg", { viewBox: "0 0 28 28", role: "img", "aria-label": `What speaks for and against ${answer}. ${most}` },
      element("rect", { class: "digits-paper", width: 28, height: 28 }), ...cells),
    element("figcaption", {}, key("for", `speaks for ${answer}`), key("against", `speaks against ${answer} (hatched)`), element("p", {}, most))));
}

// A line for the visitor: {kind: "note" or "error", text}, or nothing.
const message = line => line?.text ? [element("p", { class: `digits-message digits-${line.kind === "resend" ? "error" : line.kind}`, role: line.kind === "note" ? "status" : "alert" }, line.text)] : [];

// What became of a verdict: a line, the question whether it may be kept ("consent"), the promise before it, or what holds
// since it was given ("agreed").
function told(place, line) {
  if (!place || place.dataset.line === JSON.stringify(line)) return;
  place.dataset.line = JSON.stringify(line);
  const button = (kind, words, agreed) => element("button", { type: "button", class: `digits-${kind}`, "data-do": JSON.stringify(["consent", agreed]) }, words);
  place.replaceChildren(...line.kind === "consent" ? [element("div", { class: "digits-consent", role: "group", tabindex: -1, "aria-labelledby": "digits-consent-text" },
    element("p", { id: "digits-consent-text" }, element("strong", {}, "May this be kept? "), line.text),
    element("div", { class: "digits-verdicts" }, button("agree", "Agree and send", true), button("decline", "Do not keep it", false)))]
    : line.kind === "agreed" ? [element("p", { class: "digits-promise", role: "status" }, line.text, " ", button("withdraw", "Take back all that I gave", false))]
      : line.kind === "promise" ? [element("p", { class: "digits-promise" }, line.text)] : message(line));
}

// Of digits drawn by people: [share answered, share of those right, n], or nothing where it was not measured.
function meaning(place, shares) {
  if (!place) return;
  const [answered, right] = (shares ?? []).map(share => element("strong", {}, `${(100 * share).toFixed(1)}%`));
  place.replaceChildren(...shares ? ["Of digits drawn by people, it answers ", answered, ", and of those ", right, " are right.",
    shares[2] ? ` (${String(shares[2]).replace(/\B(?=(\d{3})+$)/g, ",")} digits of unseen writers)` : ""]
    : ["What this means for digits drawn by people was not measured in this run for this network file."]);
}

// Once: what the page is set up with. setup: {notice, limit, examples: [{name, title, strokes}]}.
function set(root, { notice, limit, examples }) {
  const find = name => root.querySelector(".digits-" + name);
  const warning = find("notice");
  if (warning) { warning.textContent = notice; warning.hidden = !notice; }
  if (find("upload")) {
    find("upload").querySelector("input").dataset.limit = limit;
    find("limit").textContent = `${(limit / 1e6).toFixed(0)} MB`;
  }
  find("wrongs")?.append(...[...Array(10).keys(), null].map(digit => element("button", {
    type: "button", class: "digits-wrong", "data-do": JSON.stringify(["verdict", "wrong", digit]), "data-label": digit ?? "",
    "aria-label": `${digit ?? "no digit"}, wrong answer`,
  }, digit === null ? "no digit" : String(digit))));
  const line = stroke => element("polyline", { points: stroke.filter((_, k) => k % 2 === 0 || k === stroke.length - 1).map(([x, y]) => `${x.toFixed(0)},${y.toFixed(0)}`).join(" ") });
  const sorted = [...examples].sort((a, b) => FIRST.test(b.name) - FIRST.test(a.name) || (b.name === "2026") - (a.name === "2026"));
  find("gallery")?.append(...sorted.map(({ name, title, strokes }) => element("button", {
    type: "button", class: "digits-example", "data-do": JSON.stringify(["example", name]), title, "aria-label": `Example: ${title}`,
  }, element("svg", { viewBox: `0 0 ${SIZE} ${SIZE}`, "aria-hidden": "true" }, ...strokes.map(line)))));
  if (find("bars")) bars(find("bars"), undefined);
}

// How things stand: {note, told, meaning, models: [[name, label]], model, facts: [[name, value]], …}.
function state(root, now, before = {}) {
  const find = name => root.querySelector(".digits-" + name), changed = name => JSON.stringify(now[name]) !== JSON.stringify(before[name]);
  if (changed("note")) find("say")?.replaceChildren(...message(now.note));
  told(find("told"), now.told);
  if (changed("meaning")) meaning(find("meaning"), now.meaning);
  if (changed("models") && find("model")) find("model").replaceChildren(...now.models.map(([name, label]) =>
    element("option", { value: name, selected: name === now.model }, label)));
  if (changed("facts")) find("facts")?.replaceChildren(...now.facts.map(([name, value]) =>
    element("div", {}, element("dt", {}, name), element("dd", {}, value))));
}

return { answer, marks, reasons, set, state };
})();
