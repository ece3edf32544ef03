// Strokes to the picture that the network gets: the twin of recognizer/ink.py, equal to the bit.
//
// Only additions, multiplications, divisions and comparisons of whole numbers decide, so that every processor and both
// languages draw the same picture. Coordinates are thousandths of a pixel of the canvas, rounded once.
const ink = (() => {
"use strict";

const CANVAS = 280; // pixels: the pad's side
const EXTENT = 200; // pixels: how large strokes are drawn before they are shrunk to MNIST's 20
const RADIUS = 12000; // thousandths: half of MNIST's pen on that extent
const SMALLEST = 1 / 50; // of the canvas: nothing is enlarged as if it were smaller than this
const DOT = 1 / 25; // of the canvas: a drawing smaller than this is a dot, whatever its enlarged picture looks like
const BOX = 20, SIDE = 28; // pixels of MNIST

const clip = (value, low, high) => Math.min(Math.max(value, low), high);

// Left, top, right, bottom of some points [[x, y], …].
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

const clipped = (strokes, size) => strokes.filter(stroke => stroke.length)
  .map(stroke => stroke.map(([x, y]) => [clip(x, 0, size), clip(y, 0, size)]));

// The longer side of the strokes' bounding box; 0 for none.
function extent(strokes, size = CANVAS) {
  const points = clipped(strokes, size).flat();
  if (!points.length) return 0;
  const [left, top, right, bottom] = bounds(points);
  return Math.max(right - left, bottom - top);
}

// Ink within a pen's radius of the segment from a to b, thousandths: 1 in mask (CANVAS x CANVAS).
function drawSegment(mask, [ax, ay], [bx, by]) {
  const reach = RADIUS * RADIUS, dx = bx - ax, dy = by - ay, dd = dx * dx + dy * dy;
  const first = value => Math.max(Math.ceil((value - RADIUS) / 1000), 0);
  const last = value => Math.min(Math.floor((value + RADIUS) / 1000), CANVAS - 1);
  for (let y = first(Math.min(ay, by)); y <= last(Math.max(ay, by)); y++)
    for (let x = first(Math.min(ax, bx)); x <= last(Math.max(ax, bx)); x++) {
      const px = x * 1000 - ax, py = y * 1000 - ay, qx = px - dx, qy = py - dy;
      const along = px * dx + py * dy, across = px * dy - py * dx;
      if (px * px + py * py <= reach || qx * qx + qy * qy <= reach
          || (along >= 0 && along <= dd && across * across <= reach * dd && dd > 0)) mask[y * CANVAS + x] = 1;
    }
}

// How many of n pixels' m parts each of m cells takes of each pixel: whole numbers, [cell][pixel].
function shares(n, m) {
  return Array.from({ length: m }, (_, i) => Array.from({ length: n }, (_, k) =>
    Math.max(Math.min((k + 1) * m, (i + 1) * n) - Math.max(k * m, i * n), 0)));
}

// A mask's bounding box averaged into 20 x 20, its centre of mass at the centre of 28 x 28.
function shrink(mask) {
  let left = CANVAS, top = CANVAS, right = -1, bottom = -1;
  for (let y = 0; y < CANVAS; y++) for (let x = 0; x < CANVAS; x++) if (mask[y * CANVAS + x]) {
    left = Math.min(left, x); right = Math.max(right, x); top = Math.min(top, y); bottom = y;
  }
  const w = right - left + 1, h = bottom - top + 1, longest = Math.max(w, h);
  const cells = n => Math.max(Math.floor((2 * n * BOX + longest) / (2 * longest)), 1);
  const columns = cells(w), rows = cells(h), across = shares(w, columns), down = shares(h, rows);
  const sums = new Float64Array(rows * columns), line = new Float64Array(columns);
  for (let y = 0; y < h; y++) {
    for (let i = 0; i < columns; i++) {
      line[i] = 0;
      for (let x = Math.floor(i * w / columns); x < Math.min(Math.ceil((i + 1) * w / columns), w); x++)
        if (mask[(top + y) * CANVAS + left + x]) line[i] += across[i][x];
    }
    for (let j = 0; j < rows; j++) if (down[j][y]) for (let i = 0; i < columns; i++) sums[j * columns + i] += down[j][y] * line[i];
  }
  let total = 0, sx = 0, sy = 0;
  sums.forEach((value, k) => { total += value; sx += value * (k % columns); sy += value * Math.floor(k / columns); });
  const start = (sum, n) => clip(Math.floor((29 * total - 2 * sum) / (2 * total)), 0, SIDE - n);
  const x0 = start(sx, columns), y0 = start(sy, rows), image = new Float32Array(SIDE * SIDE);
  for (let j = 0; j < rows; j++) for (let i = 0; i < columns; i++)
    image[(y0 + j) * SIDE + x0 + i] = sums[j * columns + i] / (w * h);
  return image;
}

// Strokes [[[x, y], …], …] of canvas pixels, y downwards, as MNIST would hold them: 784 numbers in [0, 1], zeros for none.
function strokesToImage(strokes, size = CANVAS) {
  const kept = clipped(strokes, size);
  if (!kept.length) return new Float32Array(SIDE * SIDE);
  const [left, top, right, bottom] = bounds(kept.flat());
  const scale = EXTENT / Math.max(right - left, bottom - top, size * SMALLEST);
  const place = (value, low, high) => Math.floor(1000 * ((value - (low + high) / 2) * scale + CANVAS / 2) + 0.5);
  const mask = new Uint8Array(CANVAS * CANVAS);
  for (const stroke of kept) {
    const points = stroke.map(([x, y]) => [place(x, left, right), place(y, top, bottom)]);
    points.forEach((point, k) => drawSegment(mask, points[Math.max(k - 1, 0)], point));
  }
  return shrink(mask);
}

return { CANVAS, SIDE, DOT, clip, bounds, clipped, extent, strokesToImage };
})();
