// Strokes to the picture that the network gets: the twin of recognizer/ink.py, equal to the bit.
//
// Whole numbers decide, thousandths of a pixel: sums and products of those are exact, so that both languages and every
// processor draw the same picture. A stroke is [[x, y], …], pixels of the canvas, y downwards.
const ink = (() => {
"use strict";

const CANVAS = 280, WIDEST = 2; // pixels: the pad's height; times as wide as high it is at most
const EXTENT = 200; // pixels: how large strokes are drawn before they are shrunk to MNIST's 20
const PEN = 0.12; // of that extent: MNIST's pen
const DOT = 1 / 25; // of the canvas: a drawing smaller than this is a dot, which enlarged looks like more
const SMALLEST = 1 / 50; // of the canvas: nothing is enlarged as if it were smaller than this
const BOX = 20, SIDE = 28; // pixels of MNIST

const clip = (value, low, high) => Math.min(Math.max(value, low), high);

// Left, top, right, bottom of some points.
function bounds(points) {
  const box = [Infinity, Infinity, -Infinity, -Infinity];
  for (const [x, y] of points) {
    if (x < box[0]) box[0] = x;
    if (y < box[1]) box[1] = y;
    if (x > box[2]) box[2] = x;
    if (y > box[3]) box[3] = y;
  }
  return box;
}

// Strokes without empty ones, what lies outside the canvas taken at its edge.
const clipped = (strokes, size = CANVAS) => strokes.filter(stroke => stroke.length)
  .map(stroke => stroke.map(([x, y]) => [clip(x, 0, WIDEST * size), clip(y, 0, size)]));

// The longer side of the strokes' bounding box; 0 for none.
function extent(strokes, size = CANVAS) {
  const points = clipped(strokes, size).flat();
  if (!points.length) return 0;
  const [left, top, right, bottom] = bounds(points);
  return Math.max(right - left, bottom - top);
}

// Strokes drawn with a round pen: size rows of `width` values, 1 for ink.
function rasterize(strokes, size, brush, width = size) {
  const mask = new Uint8Array(size * width), whole = value => Math.floor(1000 * clip(value, -size, 2 * size) + 0.5);
  for (const stroke of strokes) {
    const points = stroke.map(point => point.map(whole));
    points.forEach((point, k) => {
      if (k || points.length === 1) drawLine(mask, size, width, points[Math.max(k - 1, 0)], point, Math.floor(500 * brush));
    });
  }
  return mask;
}

// The pixels within `radius` of a line, all in thousandths: in each row the discs around its ends and the band between.
function drawLine(mask, size, width, [ax, ay], [bx, by], radius) {
  const fill = (row, left, right) => {
    const begin = clip(Math.ceil(left / 1000), 0, width), end = clip(Math.floor(right / 1000) + 1, begin, width);
    mask.fill(1, row * width + begin, row * width + end);
  };
  const dx = bx - ax, dy = by - ay, length = dx * dx + dy * dy, aside = Math.floor(radius * Math.sqrt(length));
  const first = clip(Math.ceil((Math.min(ay, by) - radius) / 1000), 0, size);
  const last = clip(Math.floor((Math.max(ay, by) + radius) / 1000) + 1, first, size);
  for (let row = first; row < last; row++) {
    for (const [x, y] of [[ax, ay], [bx, by]]) {
      const below = 1000 * row - y, reach = radius * radius - below * below;
      if (reach >= 0) fill(row, x - Math.floor(Math.sqrt(reach)), x + Math.floor(Math.sqrt(reach)));
    }
    if (!length) continue;
    const v = 1000 * row - ay, along = solve(dx, -v * dy, length - v * dy), across = solve(dy, v * dx - aside, v * dx + aside);
    fill(row, ax + Math.max(along[0], across[0]), ax + Math.min(along[1], across[1]));
  }
}

// Bounds of u for whole low <= factor * u <= high. The halves change nothing but keep the bounds off the whole numbers, and
// have all or no u fit where the factor is 0.
function solve(factor, low, high) {
  const a = (low - 0.5) / (factor || 1e-9), b = (high + 0.5) / (factor || 1e-9);
  return a < b ? [a, b] : [b, a];
}

// Strokes as MNIST would hold them: 784 numbers in [0, 1], zeros for none.
function strokesToImage(strokes, size = CANVAS) {
  const kept = clipped(strokes, size);
  if (!kept.length) return new Float32Array(SIDE * SIDE);
  const [left, top, right, bottom] = bounds(kept.flat());
  const scale = EXTENT / Math.max(right - left, bottom - top, size * SMALLEST);
  const moved = kept.map(stroke => stroke.map(([x, y]) =>
    [(x - (left + right) / 2) * scale + CANVAS / 2, (y - (top + bottom) / 2) * scale + CANVAS / 2]));
  return fit(rasterize(moved, CANVAS, PEN * EXTENT));
}

// Ink's bounding box averaged into 20 x 20, its centre of mass at the centre of 28 x 28.
function fit(mask) {
  let left = CANVAS, top = CANVAS, right = -1, bottom = -1;
  for (let y = 0, k = 0; y < CANVAS; y++) for (let x = 0; x < CANVAS; x++) if (mask[k++]) {
    left = Math.min(left, x); right = Math.max(right, x); top = Math.min(top, y); bottom = y;
  }
  const width = right - left + 1, height = bottom - top + 1, longest = Math.max(width, height);
  const [w, h] = [width, height].map(n => Math.max(Math.floor((2 * BOX * n + longest) / (2 * longest)), 1));
  const sums = new Float64Array(h * w), columns = shares(width, w), rows = shares(height, h);
  for (let y = 0; y < height; y++) {
    const line = new Float64Array(w), from = (top + y) * CANVAS + left;
    for (let x = 0; x < width; x++) if (mask[from + x]) for (const [i, share] of columns[x]) line[i] += share;
    for (const [j, share] of rows[y]) for (let i = 0; i < w; i++) sums[j * w + i] += share * line[i];
  }
  let total = 0, across = 0, down = 0;
  sums.forEach((sum, k) => { total += sum; across += sum * (k % w); down += sum * Math.floor(k / w); });
  const start = (sum, n) => clip(Math.floor(((SIDE + 1) * total - 2 * sum) / (2 * total)), 0, SIDE - n);
  const x0 = start(across, w), y0 = start(down, h), image = new Float32Array(SIDE * SIDE);
  sums.forEach((sum, k) => { image[(y0 + Math.floor(k / w)) * SIDE + x0 + k % w] = sum / (width * height); });
  return image;
}

// Of each of n pixels, cut into m parts, how many parts each of m cells takes: [[cell, parts], …] a pixel.
function shares(n, m) {
  return Array.from({ length: n }, (_, k) => {
    const first = Math.floor(k * m / n), found = [];
    for (let i = first; i < m && i * n < (k + 1) * m; i++) found.push([i, Math.min((k + 1) * m, (i + 1) * n) - Math.max(k * m, i * n)]);
    return found;
  });
}

return { CANVAS, WIDEST, SIDE, DOT, clip, bounds, clipped, extent, rasterize, strokesToImage };
})();
