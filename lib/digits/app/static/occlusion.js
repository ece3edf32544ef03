// Which parts of the ink speak for an answer, and which against it: the twin of recognizer/occlusion.py.
const occlusion = (() => {
"use strict";

const PATCH = 5, STRIDE = 2, SIDE = ink.SIDE; // pixels of 28
const REGIONS = [["upper left", "top", "upper right"], ["left", "middle", "right"], ["lower left", "bottom", "lower right"]];

const odds = (model, image, digit) => {
  const values = network.logits(model, image);
  return values[digit] - network.energy(values.filter((_, k) => k !== digit));
};

// Cover each part of the image and see what the digit loses: 784 numbers, 0 on paper. It takes some hundred readings, so
// `pause` is awaited after each row of them; what it resolves to says whether to go on.
async function effects(model, image, digit, pause) {
  const starts = Array.from({ length: Math.ceil((SIDE + PATCH - 1) / STRIDE) }, (_, k) => 1 - PATCH + k * STRIDE);
  const total = new Float64Array(SIDE * SIDE), count = new Float64Array(SIDE * SIDE), whole = odds(model, image, digit);
  for (const top of starts) {
    for (const left of starts) {
      const cover = [];
      for (let y = Math.max(top, 0); y < Math.min(top + PATCH, SIDE); y++)
        for (let x = Math.max(left, 0); x < Math.min(left + PATCH, SIDE); x++) cover.push(y * SIDE + x);
      if (!cover.some(k => image[k])) continue;
      const covered = image.slice();
      for (const k of cover) covered[k] = 0;
      const loss = whole - odds(model, covered, digit);
      for (const k of cover) { total[k] += loss; count[k] += 1; }
    }
    if (!await pause()) return null;
  }
  return total.map((sum, k) => image[k] > 0 ? sum / Math.max(count[k], 1) : 0);
}

// Where ink speaks most for (sign 1) or against (-1) the digit, in words, or "".
function region(image, effect, sign) {
  const strength = effect.map(value => Math.max(sign * value, 0)), most = Math.max(...strength);
  if (!most || most < 0.1 * Math.max(...effect.map(Math.abs))) return "";
  const inked = [...image.keys()].filter(k => image[k]), [left, top, right, bottom] = ink.bounds(inked.map(k => [k % SIDE, Math.floor(k / SIDE)]));
  const third = (value, low, high) => { // as numpy.array_split: the first parts are longer by one where it does not go out even
    const n = high - low + 1, size = Math.floor(n / 3), longer = (n % 3) * (size + 1), k = value - low;
    return k < longer ? Math.floor(k / (size + 1)) : n % 3 + Math.floor((k - longer) / size);
  };
  const sums = Array(9).fill(0);
  for (const k of inked) sums[3 * third(Math.floor(k / SIDE), top, bottom) + third(k % SIDE, left, right)] += strength[k];
  const best = sums.indexOf(Math.max(...sums));
  return REGIONS[Math.floor(best / 3)][best % 3];
}

return { effects, region };
})();
