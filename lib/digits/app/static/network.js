// From the picture to an answer and what it is worth: the twin of recognizer/model.py, with LiteRT's part written out.
const network = (() => {
"use strict";

// --- The forward pass -------------------------------------------------------------------------------------------------
// x: {side, channels, values}, channels last. A layer's kernel is [filter][row][column][channel] in one array.

// How many zeros go before the first pixel: the border that TensorFlow calls "same".
const border = (side, size, stride) => Math.max((Math.ceil(side / stride) - 1) * stride + size - side, 0) >> 1;

// What a kernel of size x size lies on at each place, one place after the other.
function patches({ side, channels, values }, size, stride) {
  const places = Math.ceil(side / stride), before = border(side, size, stride), n = size * size * channels;
  const found = new Float32Array((places * places + 1) * n); // one more, so that places come in pairs
  for (let i = 0; i < places; i++) for (let j = 0; j < places; j++) {
    const left = j * stride - before, from = Math.max(left, 0), to = Math.min(left + size, side);
    for (let r = 0; r < size; r++) {
      const y = i * stride - before + r;
      if (y >= 0 && y < side) found.set(values.subarray((y * side + from) * channels, (y * side + to) * channels),
        (i * places + j) * n + (r * size + from - left) * channels);
    }
  }
  return found;
}

// With ReLU. Two places and two filters at a time: each number that is fetched is used twice, which halves the time.
function convolution(x, { stride, size, filters, kernel, bias }) {
  const side = Math.ceil(x.side / stride), places = side * side, n = size * size * x.channels;
  const inputs = patches(x, size, stride), values = new Float32Array(places * filters);
  const put = (place, filter, sum) => { if (place < places && filter < filters) values[place * filters + filter] = Math.max(sum, 0); };
  for (let p = 0; p < places; p += 2) for (let f = 0; f < filters; f += 2) {
    const here = p * n, next = here + n, one = f * n, two = one + n;
    let a = bias[f], b = bias[f + 1], c = bias[f], d = bias[f + 1];
    for (let k = 0; k < n; k++) {
      const u = inputs[here + k], v = inputs[next + k], g = kernel[one + k], h = kernel[two + k];
      a += u * g; b += u * h; c += v * g; d += v * h;
    }
    put(p, f, a); put(p, f + 1, b); put(p + 1, f, c); put(p + 1, f + 1, d);
  }
  return { side, channels: filters, values };
}

// Of each size x size pixels the largest.
function pooling(x, { stride: size }) {
  const side = Math.ceil(x.side / size), c = x.channels, before = border(x.side, size, size);
  const values = new Float32Array(side * side * c).fill(-Infinity);
  for (let y = 0; y < x.side; y++) for (let z = 0; z < x.side; z++) {
    const target = (Math.floor((y + before) / size) * side + Math.floor((z + before) / size)) * c, source = (y * x.side + z) * c;
    for (let k = 0; k < c; k++) values[target + k] = Math.max(values[target + k], x.values[source + k]);
  }
  return { side, channels: c, values };
}

// Of each channel a weighted sum over all places.
function depthwise(x, { kernel, bias }) {
  const values = Float32Array.from({ length: x.channels }, (_, k) => bias[k]);
  for (let k = 0; k < x.values.length; k++) values[k % x.channels] += x.values[k] * kernel[k];
  return { side: 1, channels: x.channels, values };
}

function dense(x, { filters, kernel, bias }) {
  const n = x.values.length;
  return { side: 1, channels: filters, values: Float32Array.from({ length: filters }, (_, f) => {
    let sum = bias[f];
    for (let k = 0; k < n; k++) sum += x.values[k] * kernel[f * n + k];
    return sum;
  }) };
}

const KINDS = { convolution, pooling, depthwise, dense };

// What each layer makes of an image of 784 numbers in [0, 1]: the image first, the ten logits last.
function activations({ layers }, image) {
  const found = [{ side: 28, channels: 1, values: image }];
  for (const layer of layers) found.push(KINDS[layer.kind](found[found.length - 1], layer));
  return found;
}

const logits = (model, image) => activations(model, image).pop().values;

// --- What it is worth -------------------------------------------------------------------------------------------------

function softmax(values, temperature) {
  const peak = Math.max(...values) / temperature, powers = Array.from(values, value => Math.exp(value / temperature - peak));
  const sum = powers.reduce((a, b) => a + b);
  return powers.map(value => value / sum);
}

// Log-sum-exp: high for ink like the training data's.
function energy(values) {
  const peak = Math.max(...values);
  return peak + Math.log(Array.from(values, value => Math.exp(value - peak)).reduce((a, b) => a + b));
}

const BLANK = { digit: null, confidence: 0, probabilities: Array(10).fill(0.1), reason: "blank", candidates: [] };

// The answer for one image.
function predict(model, image) {
  if (!image.some(Boolean)) return { ...BLANK, image };
  const { temperature, accept_confidence, min_energy, candidate_probability } = model.calibration;
  const values = logits(model, image), probabilities = softmax(values, temperature);
  const order = [...probabilities.keys()].sort((a, b) => probabilities[b] - probabilities[a]);
  const digit = order[0], confidence = probabilities[digit];
  const reason = energy(values) < min_energy ? "not a digit" : confidence >= accept_confidence ? "" : "unsure";
  const candidates = order.filter((one, k) => !k || probabilities[one] >= candidate_probability);
  return { digit, confidence, probabilities, reason, candidates, image };
}

// The answer for strokes as one digit.
function predictStrokes(model, strokes) {
  const found = predict(model, ink.strokesToImage(strokes)), dot = ink.extent(strokes) < ink.CANVAS * ink.DOT;
  return dot && !found.reason ? { ...found, reason: "not a digit" } : found;
}

// Why a prediction is withheld when a confidence of `threshold` is asked for; "" when it is not.
const reasonAt = ({ reason, confidence }, threshold) =>
  ["blank", "not a digit"].includes(reason) ? reason : confidence >= threshold ? "" : "unsure";

// --- As it is stored --------------------------------------------------------------------------------------------------

// A model as it stands in a page, made ready: {layers, weights, calibration, …}. The weights, kernel and bias of each layer
// that has some, are numbers of 16 bits, first all their low bytes, then all high ones, deflated, in Base64.
async function unpacked({ layers, weights, ...rest }) {
  const packed = new Blob([Uint8Array.from(atob(weights), letter => letter.charCodeAt(0))]);
  const bytes = new Uint8Array(await new Response(packed.stream().pipeThrough(new DecompressionStream("deflate"))).arrayBuffer());
  let at = 0;
  const take = (count, more) => {
    const found = new Float32Array(count + more);
    for (let k = 0; k < count; k++, at++) {
      const high = bytes[bytes.length / 2 + at], exponent = (high >> 2) & 31, fraction = ((high & 3) << 8 | bytes[at]) / 1024;
      found[k] = (high >> 7 ? -1 : 1) * (exponent ? 2 ** (exponent - 15) * (1 + fraction) : 2 ** -14 * fraction);
    }
    return found;
  };
  return { ...rest, layers: layers.map(layer => {
    if (!layer.kernel) return layer;
    const odd = layer.filters % 2; // an empty filter more, so that filters come in pairs
    return { ...layer, kernel: take(layer.kernel, odd * layer.kernel / layer.filters), bias: take(layer.bias, odd) };
  }) };
}

return { activations, logits, energy, predict, predictStrokes, reasonAt, unpacked };
})();
