// Strokes across the pad to digits, left to right: the twin of recognizer/segmentation.py, whose comments say why.
const segmentation = (() => {
"use strict";

const FARTHEST = 0.3, WIDEST = 2, MOST_STROKES = 6, MOST_PIECES = 24, SPECK = 0.08;
const WEIGHTS = [-12.6, -1.6, -18.6, -19.6, 10.2], CONFIDENCE_WEIGHT = 2.8, REFUSED_WEIGHT = -1.2;
const HOPELESS = 12, CUT_COST = 3, NARROWEST_PAIR = 0.7, LEAST_SHARE = 0.5;
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

function sharedHeight(a, b) {
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

// The best way to part strokes into digits: {score, groups}. predict: a list of strokes to its answer.
function bestGroups(pieces, predict) {
  if (pieces.length > MOST_PIECES) return { score: 0, groups: [pieces] };
  const all = pieces.map(bounds), height = rowHeight(all);
  let order = [...all.keys()].filter(k => !isSpeck(all, k, height));
  if (!order.length) order = [...all.keys()];
  order.sort((a, b) => all[a][0] + all[a][2] - all[b][0] - all[b][2]);
  const group = (i, j) => order.slice(i, j).sort((a, b) => a - b).map(k => pieces[k]);
  const n = order.length, best = [0, ...Array(n).fill(-Infinity)], start = Array(n + 1).fill(0);
  for (const [i, j, shape] of candidates(order.map(k => all[k]), height)) {
    const { confidence, reason } = predict(group(i, j));
    const refused = REFUSED_WEIGHT * (reason === "not a digit");
    const score = best[i] + (shape + (CONFIDENCE_WEIGHT * Math.log(Math.max(confidence, 0.1)) + refused));
    if (score > best[j]) { best[j] = score; start[j] = i; }
  }
  const groups = [];
  for (let j = n; j; j = start[j]) groups.unshift(group(start[j], j));
  return { score: best[n], groups };
}

// The same path with a point every `step` pixels, from its first point to its last.
function evenSteps(points, step, most = 2000) {
  const along = [0];
  for (let k = 1; k < points.length; k++) {
    const dx = points[k][0] - points[k - 1][0], dy = points[k][1] - points[k - 1][1];
    along.push(along[k - 1] + Math.sqrt(dx * dx + dy * dy));
  }
  const length = along[along.length - 1], n = Math.min(Math.floor(length / step) + 2, most), width = length / (n - 1);
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

// One digit or a number: {parts: [{box, strokes, prediction}, …] from left to right, chosen: which was drawn last}.
function read(strokes, predict) {
  const pieces = clipped(strokes);
  if (!pieces.length) return { parts: [], chosen: 0 };
  let best = bestGroups(pieces, predict);
  for (const [left, right] of CUTS) {
    const parted = pieces.flatMap(points => cutJoined(points, left, right));
    if (parted.length === pieces.length || parted.length > MOST_PIECES) break;
    const other = bestGroups(parted, predict);
    if (other.score - CUT_COST * (parted.length - pieces.length) > best.score) best = other;
  }
  const [x, y] = pieces[pieces.length - 1].slice(-1)[0];
  const parts = best.groups.map(group => ({ box: bounds(group.flat()), strokes: group, prediction: predict(group) }));
  const distances = parts.map(({ box: [left, top, right, bottom] }) =>
    Math.hypot(Math.max(left - x, x - right, 0), Math.max(top - y, y - bottom, 0)));
  return { parts, chosen: distances.indexOf(Math.min(...distances)) };
}

return { read };
})();
