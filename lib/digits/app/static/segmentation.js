// Strokes on the pad to digits, line by line: the twin of recognizer/segmentation.py, whose comments say why.
const segmentation = (() => {
"use strict";

const FARTHEST = 0.3, WIDEST = 2, MOST_STROKES = 6, MOST_PIECES = 24, SPECK = 0.08;
const WEIGHTS = [-12.6, -1.6, -18.6, -19.6, 10.2], CONFIDENCE_WEIGHT = 2.8, REFUSED_WEIGHT = -1.2;
const HOPELESS = 12, CUT_COST = 3, NARROWEST_PAIR = 0.7, LEAST_SHARE = 0.5;
const LINE_GAP = 0.1, CLEAR_GAP = 0.35, RING_GAPS = [0.25, 0.5], LEAST_LINE = 0.35, RAISED = 0.65, SMALL = 0.5, APART = 0.06;
const TOUCH = 0.06, SURE = 0.95, LETTER = 1.2, POINT = 0.12, RULE = "_", STRAIGHT = 1.25;
const MARKS = { "-": "a minus: only digits are read", ",": "a comma: only digits are read", ".": "a point: only digits are read", "/": "a slash: only digits are read" };
const EXPONENT = "one is small and off the line, like an exponent", LIKE_LETTER = "strokes that touch may be a letter";
const EXTRA = "there is more than the digit needs", RINGS = "two rings may be an 8 or two lines";
const JOINED = "one stroke runs through two digits: lift the pen between them";
const CUTS = [[0, 1], [0.5, 0.5], [1, 1], [0, 0]];

const { clip, bounds, clipped } = ink;
const sum = values => values.reduce((a, b) => a + b, 0);
const round = value => { // half to even, as Python's
  const down = Math.floor(value), rest = value - down;
  return rest < 0.5 ? down : rest > 0.5 ? down + 1 : down + (down % 2);
};

function median(values) {
  const sorted = [...values].sort((a, b) => a - b), n = sorted.length;
  return n % 2 ? sorted[(n - 1) / 2] : (sorted[n / 2 - 1] + sorted[n / 2]) / 2;
}

const joined = boxes => [
  Math.min(...boxes.map(box => box[0])), Math.min(...boxes.map(box => box[1])),
  Math.max(...boxes.map(box => box[2])), Math.max(...boxes.map(box => box[3]))];

// The usual height of a digit: the median over runs of strokes that overlap in x.
function rowHeight(boxes) {
  if (!boxes.length) return 1;
  const runs = [];
  for (const box of [...boxes].sort((a, b) => a[0] - b[0])) {
    if (runs.length && box[0] <= runs[runs.length - 1][2]) runs.push(joined([runs.pop(), box]));
    else runs.push(box);
  }
  const heights = runs.map(run => run[3] - run[1]), tallest = Math.max(...heights);
  return Math.max(median(heights.filter(height => height >= tallest / 2)), median(runs.map(run => run[2] - run[0])) / 6, 1);
}

function isSpeck(boxes, k, height) {
  const [left, top, right, bottom] = boxes[k];
  if (boxes.length < 2 || Math.max(right - left, bottom - top) > SPECK * height) return false;
  return boxes.every((other, i) => i === k || Math.max(other[0] - right, left - other[2]) > FARTHEST * height);
}

// How far each stroke, from the second on, begins to the right of all before it.
function gaps(group) {
  let end = group[0][2];
  return group.slice(1).map(box => {
    const gap = box[0] - end;
    end = Math.max(end, box[2]);
    return gap;
  });
}

// Of the height that two boxes span, how much both have; none when one is in the middle of the other, as a slash in its zero.
function sharedHeight(a, b) {
  const away = Math.abs(a[0] + a[2] - b[0] - b[2]);
  if (2 * away <= Math.max(a[2] - a[0], b[2] - b[0])) return 0;
  const shared = Math.min(a[3], b[3]) - Math.max(a[1], b[1]);
  return Math.max(shared, 0) / Math.max(Math.max(a[3], b[3]) - Math.min(a[1], b[1]), 1e-9);
}

// How unlike one whole digit a group of boxes is: the score by geometry.
function geometry(group, height) {
  const [left, top, right, bottom] = joined(group);
  const features = [
    Math.max((right - left) / height - 1, 0),
    clip(1 - (bottom - top) / height, 0, 0.5),
    sum(gaps(group).map(gap => clip(gap / height, -0.5, 0.5))),
    sum(group.slice(1).map((box, k) => Math.max(...group.slice(0, k + 1).map(other => sharedHeight(box, other))))),
    group.length - 1];
  return sum(features.map((value, k) => WEIGHTS[k] * value));
}

// Groups [i, j) of neighbours that could be one digit with their score, by their right ends.
function candidates(boxes, height) {
  const n = boxes.length, alone = [0];
  for (const box of boxes) alone.push(alone[alone.length - 1] + geometry([box], height));
  const found = [];
  for (let j = 1; j <= n; j++) for (let i = Math.max(j - MOST_STROKES, 0); i < j; i++) {
    const group = boxes.slice(i, j), score = geometry(group, height), [left, , right] = joined(group);
    if (j - i === 1 || (score > alone[j] - alone[i] - HOPELESS && right - left < WIDEST * height
        && Math.max(...gaps(group)) < FARTHEST * height)) found.push([i, j, score]);
  }
  return found;
}

// Whether boxes have something small, and no flat line, beside all else.
function isTorn(group) {
  const sorted = [...group].sort((a, b) => a[0] - b[0]), whole = joined(sorted), height = whole[3] - whole[1];
  return gaps(sorted).some((gap, k) => gap > APART * height && [sorted.slice(0, k + 1), sorted.slice(k + 1)].some(side => {
    const [left, top, right, bottom] = joined(side);
    return bottom - top < SMALL * height && 3 * (bottom - top) > right - left;
  }));
}

// The best way to part strokes into digits: {score, groups}. predict: a list of strokes to its answer.
function bestGroups(pieces, predict) {
  if (pieces.length > MOST_PIECES) return { score: 0, groups: [pieces] };
  const all = pieces.map(bounds), height = rowHeight(all);
  let order = [...all.keys()].filter(k => !isSpeck(all, k, height));
  if (!order.length) order = [...all.keys()];
  order.sort((a, b) => all[a][0] + all[a][2] - all[b][0] - all[b][2]);
  const torn = (i, j) => isTorn(order.slice(i, j).map(k => all[k]));
  const group = (i, j) => order.slice(i, j).sort((a, b) => a - b).map(k => pieces[k]);
  const n = order.length, best = [0, ...Array(n).fill(-Infinity)], start = Array(n + 1).fill(0);
  for (const [i, j, shape] of candidates(order.map(k => all[k]), height)) {
    const { confidence, reason } = predict(group(i, j));
    const refused = REFUSED_WEIGHT * (reason === "not a digit");
    const score = best[i] + (shape + (CONFIDENCE_WEIGHT * Math.log(Math.max(confidence, 0.1)) + refused - 100 * torn(i, j)));
    if (score > best[j]) { best[j] = score; start[j] = i; }
  }
  const groups = [];
  for (let j = n; j; j = start[j]) groups.unshift(group(start[j], j));
  return { score: best[n], groups };
}

// How far along its path each point is.
function alongPath(points) {
  const along = [0];
  for (let k = 1; k < points.length; k++) {
    const dx = points[k][0] - points[k - 1][0], dy = points[k][1] - points[k - 1][1];
    along.push(along[k - 1] + Math.sqrt(dx * dx + dy * dy));
  }
  return along;
}

// The same path with a point every `step` pixels, from its first point to its last.
function evenSteps(points, step, most = 2000) {
  const along = alongPath(points);
  const length = along[along.length - 1], n = Math.min(Math.floor(length / Math.max(step, 1e-3)) + 2, most), width = length / (n - 1);
  const found = [];
  for (let k = 0, at = 0; k < n; k++) {
    const place = k === n - 1 ? length : k * width;
    while (at < along.length - 2 && along[at + 1] <= place) at++;
    const here = points[at], next = points[at + 1] ?? here, span = along[at + 1] - along[at];
    found.push(place >= length || !next ? points[points.length - 1]
      : [0, 1].map(axis => (next[axis] - here[axis]) / span * (place - along[at]) + here[axis]));
  }
  return found;
}

const extentOf = (path, axis) => { const box = bounds(path); return box[axis + 2] - box[axis]; };

// A stroke that runs on from one digit to the next, cut where every x is passed once; it alone when there is no such place.
function cutJoined(points, left, right) {
  const wide = extentOf(points, 0), high = extentOf(points, 1), tall = path => extentOf(path, 1) > LEAST_SHARE * high;
  if (points.length < 8 || wide <= NARROWEST_PAIR * high) return [points];
  let path = evenSteps(points, Math.max(wide, high) / 100);
  if (path[0][0] > path[path.length - 1][0]) path = path.reverse();
  const x = path.map(point => point[0]), n = x.length, highest = [...x], lowest = [...x];
  for (let k = 1; k < n; k++) highest[k] = Math.max(highest[k - 1], x[k]);
  for (let k = n - 2; k >= 0; k--) lowest[k] = Math.min(lowest[k + 1], x[k]);
  const passages = [];
  for (let k = 0, from = -1; k < n; k++) { // stretches along which all before lies to the left and all after to the right
    const once = k < n - 1 && highest[k] <= lowest[k + 1];
    if (once && from < 0) from = k;
    if (!once && from >= 0) { passages.push([from, k]); from = -1; }
  }
  const kept = passages.filter(([a, b]) => tall(path.slice(0, a + 1)) && tall(path.slice(b)));
  const starts = [0, ...kept.map(([a, b]) => round(a + (b - a) * right))];
  const ends = [...kept.map(([a, b]) => round(a + (b - a) * left) + 1), n];
  const parts = starts.map((from, k) => path.slice(from, ends[k]));
  return parts.length > 1 && parts.every(tall) ? parts : [points];
}

// Whether strokes come near to others.
function touch(a, b, height) {
  const near = (TOUCH * height) ** 2, [some, others] = [a, b].map(strokes => {
    const step = Math.max(height / 20, sum(strokes.map(points => alongPath(points).at(-1))) / 500); // a scribble is looked at coarsely
    return strokes.flatMap(stroke => evenSteps(stroke, step));
  });
  return some.some(([x, y]) => others.some(([u, v]) => (x - u) * (x - u) + (y - v) * (y - v) < near));
}

// How far what is above is from what is below, in units of the lower of both; -1 when they are no two lines.
function lineGap(upper, lower) {
  const above = [], below = [];
  let gap = Infinity;
  for (const a of upper) for (const b of lower) {
    if (Math.min(a[2], b[2]) >= Math.max(a[0], b[0])) { gap = Math.min(gap, b[1] - a[3]); above.push(a); below.push(b); }
    else if (2 * a[3] > b[1] + b[3] || 2 * b[1] < a[1] + a[3]) return -1;
  }
  if (!above.length) return -1;
  const tall = [above, below].map(boxes => { const box = joined(boxes); return box[3] - box[1]; }), least = Math.min(...tall);
  return least >= LEAST_LINE * Math.max(...tall) ? gap / Math.max(least, 1) : -1;
}

// The widest such gap and the strokes on both sides of it.
function parted(pieces) {
  const boxes = pieces.map(bounds), order = [...boxes.keys()].sort((a, b) => boxes[a][1] + boxes[a][3] - boxes[b][1] - boxes[b][3]);
  let best = [-1, pieces, []];
  for (let k = 1; k < order.length && order.length <= MOST_PIECES; k++) {
    const sides = [order.slice(0, k), order.slice(k)].map(side => side.sort((a, b) => a - b));
    const gap = lineGap(...sides.map(side => side.map(i => boxes[i])));
    if (gap > best[0]) best = [gap, ...sides.map(side => side.map(i => pieces[i]))];
  }
  return best;
}

// Whether it is surely one digit in two strokes: an 8 of two rings, a 5 below its roof.
function isStacked(predict, pieces, sides) {
  const whole = predict(pieces);
  if (whole.reason || ![5, 8].includes(whole.digit)) return false;
  const parts = sides.map(predict);
  if (parts.every(({ digit }) => digit === 0)) return ringGap(...sides.map(side => bounds(side.flat()))) < RING_GAPS[0];
  return whole.digit === 5 && parts.some(({ reason }) => reason);
}

// How far two rings are apart from top to bottom, in units of the higher one.
const ringGap = (upper, lower) => (lower[1] - upper[3]) / Math.max(upper[3] - upper[1], lower[3] - lower[1], 1);

// A 0 above a 0 is doubtful where both may be the rings of an 8.
function doubtRings(lines) {
  lines.slice(1).forEach((lower, k) => {
    const upper = lines[k];
    if (upper.length > 1 && lower.length > 1) return;
    for (const one of upper) for (const other of lower) {
      const a = one.box, b = other.box, alike = [one, other].every(part => !part.mark && part.prediction.digit === 0);
      if (alike && Math.max(a[0], b[0]) < Math.min(a[2], b[2]) && ringGap(a, b) < RING_GAPS[1]) one.doubt = other.doubt = RINGS;
    }
  });
}

// Strokes by the line that they are in, from top to bottom.
function linesOf(pieces, predict) {
  const [gap, ...sides] = parted(pieces);
  if (gap <= LINE_GAP || gap < CLEAR_GAP && isStacked(predict, pieces, sides)) return [pieces];
  return sides.flatMap(side => linesOf(side, predict));
}

// Whether a flat stroke runs below the middles of all these, or above two or more: above a single one is the roof of a 5.
function isRule([left, top, right, bottom], digits) {
  const centres = digits.map(box => box[0] + box[2]), most = k => Math.max(...digits.map(box => box[k])), least = k => Math.min(...digits.map(box => box[k]));
  if (top > most(3)) return 2 * left <= Math.min(...centres) && 2 * right >= Math.max(...centres);
  return digits.length > 1 && bottom < least(1) && left < least(0) && right > most(2);
}

// Which strokes of a line are signs, straight ones beside digits and points between them: a map from the stroke to the sign.
function marksOf(strokes) {
  if (strokes.length > MOST_PIECES) return new Map();
  const boxes = strokes.map(bounds), found = new Map();
  boxes.forEach(([left, top, right, bottom], k) => {
    const others = boxes.filter((_, i) => i !== k), points = strokes[k], end = points[points.length - 1];
    const tallest = Math.max(0, ...others.map(box => box[3] - box[1]));
    const tall = others.filter(box => 2 * (box[3] - box[1]) >= Math.max(tallest, box[2] - box[0]));
    const wide = right - left, high = bottom - top, x = end[0] - points[0][0], y = end[1] - points[0][1];
    if (!tall.length) return;
    const centres = tall.map(box => box[0] + box[2]), away = centres.map(centre => Math.abs(centre - left - right));
    const near = tall[away.indexOf(Math.min(...away))], height = near[3] - near[1], middle = (top + bottom) / 2 - near[1];
    const between = Math.min(...centres) < left + right && left + right < Math.max(...centres);
    const clear = others.every(box => box[0] >= right || box[2] <= left);
    let mark = "";
    if (Math.max(wide, high) <= POINT * height)
      mark = between && tall.every(box => box[0] >= right || box[2] <= left) ? "." : "";
    else if (alongPath(points).pop() > STRAIGHT * Math.sqrt(x * x + y * y)) return;
    else if (3 * high <= wide && wide >= height / 10 && height <= 4 * middle && 4 * middle <= 3 * height)
      mark = clear ? "-" : "";
    else if (3 * high <= wide && isRule(boxes[k], tall)) mark = RULE;
    else if (2 * Math.max(wide, high) <= height && 5 * middle >= 4 * height) mark = between ? "," : "";
    else if (5 * high >= 4 * height && (clear ? 3 : 2.5) * wide >= high && x * y < 0) mark = between ? "/" : "";
    if (mark && ("-.".includes(mark) || !touch([points], strokes.filter((_, i) => i !== k), height))) found.set(points, mark);
  });
  return found.size < strokes.length ? found : new Map();
}

// Whether a small curled stroke is a digit itself, and the others are the same digit without it.
function hasExtra(predict, whole, group) {
  const [, top, , bottom] = bounds(group.flat()), height = bottom - top;
  return group.length > 1 && group.some((points, k) => {
    const [a, b] = [points[0], points[points.length - 1]], high = extentOf(points, 1), x = b[0] - a[0], y = b[1] - a[1];
    if (alongPath(points).pop() <= 2 * Math.sqrt(x * x + y * y) || high <= POINT * height || high >= RAISED * height) return false;
    if (predict([points]).reason) return false;
    const rest = predict(group.filter((_, i) => i !== k));
    return !rest.reason && rest.digit === whole.digit;
  });
}

// Why each digit of a line is withheld for what is around it. groups: from left to right; whole: the stroke of each part
// of one that was cut.
function doubtsOf(groups, whole, predict) {
  const boxes = groups.map(group => bounds(group.flat())), all = groups.map(predict), doubts = groups.map((group, k) => hasExtra(predict, all[k], group) ? EXTRA : "");
  for (let k = 1; k < groups.length; k++) {
    const [low, high] = boxes.slice(k - 1, k + 1).sort((a, b) => a[3] - a[1] - (b[3] - b[1])), tall = high[3] - high[1];
    if (low[3] - low[1] < RAISED * tall && Math.abs(low[3] - high[3]) > 0.35 * tall) doubts[k] = EXPONENT;
  }
  for (let start = 0, end = 1; end <= groups.length; end++) {
    const [left, top, right, bottom] = joined(boxes.slice(start, end));
    if (end < groups.length && touch(groups[end - 1], groups[end], bottom - top)) continue;
    const weak = all.slice(start, end).some(({ digit, confidence }) => digit === 1 || confidence < SURE);
    if (end - start > 1 && weak && right - left <= LETTER * (bottom - top)) doubts.fill(LIKE_LETTER, start, end);
    start = end;
  }
  const cut = groups.map(group => group.map(part => whole.get(part)).filter(Boolean));
  for (let k = 1; k < groups.length; k++) if (cut[k].some(stroke => cut[k - 1].includes(stroke))) doubts.fill(JOINED, k - 1, k + 1);
  return doubts;
}

// The digits and signs of one line, from left to right.
function readLine(strokes, line, predict) {
  const marks = marksOf(strokes), pieces = strokes.filter(points => !marks.has(points));
  let best = bestGroups(pieces, predict), whole = new Map();
  for (const [left, right] of CUTS) {
    const cut = pieces.map(points => cutJoined(points, left, right)), all = cut.flat();
    if (all.length === pieces.length || all.length > MOST_PIECES) break;
    const other = bestGroups(all, predict);
    if (other.score - CUT_COST * (all.length - pieces.length) <= best.score) continue;
    best = other;
    whole = new Map(cut.flatMap((some, k) => some.length > 1 ? some.map(part => [part, pieces[k]]) : []));
  }
  const doubts = doubtsOf(best.groups, whole, predict), part = group => ({ box: bounds(group.flat()), strokes: group, line, prediction: predict(group) });
  const parts = best.groups.map((group, k) => ({ ...part(group), mark: "", doubt: doubts[k] }));
  if (!marks.size) return parts;
  for (const [points, mark] of marks) {
    if (mark === RULE) continue; // a number may be underlined
    const alone = part([points]);
    parts.push({ ...alone, mark, doubt: MARKS[mark], prediction: { ...alone.prediction, reason: "not a digit" } });
  }
  return parts.sort((a, b) => a.box[0] + a.box[2] - b.box[0] - b.box[2]);
}

// One digit or a number, or several lines of them: {parts: [{box, strokes, line, mark, doubt, prediction}, …], chosen: which
// was drawn last}, from left to right in each line.
function read(strokes, predict) {
  const pieces = clipped(strokes);
  if (!pieces.length) return { parts: [], chosen: 0 };
  const [x, y] = pieces[pieces.length - 1].slice(-1)[0];
  const lines = linesOf(pieces, predict).map((line, k) => readLine(line, k, predict));
  doubtRings(lines);
  const parts = lines.flat();
  const distances = parts.map(({ box: [left, top, right, bottom] }) =>
    Math.hypot(Math.max(left - x, x - right, 0), Math.max(top - y, y - bottom, 0)));
  return { parts, chosen: distances.indexOf(Math.min(...distances)) };
}

// Their text, a line for each line.
const textOf = parts => [...new Set(parts.map(part => part.line))].map(line =>
  parts.filter(part => part.line === line).map(part => part.mark || String(part.prediction.digit)).join("")).join("\n");

return { read, textOf };
})();
