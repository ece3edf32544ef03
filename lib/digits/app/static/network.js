// From the picture to an answer and what it is worth: the twin of recognizer/model.py, with LiteRT's part written out.
const network = (() => {
"use strict";

// --- The forward pass -------------------------------------------------------------------------------------------------
// x: {side, channels, values}, channels last. A layer's kernel is [row][column][channel][filter] in one array.

// How many zeros go before the first pixel: the border that TensorFlow calls "same".
const border = (side, size, stride) => Math.max((Math.ceil(side / stride) - 1) * stride + size - side, 0) >> 1;

// Add each input times its row of the kernel, four at a time: a sum is fetched and stored once for four of them.
function addRows(sums, kernel, inputs, rows, count) {
  for (let k = 0; k < count; k += 4) {
    const s = inputs[k], t = inputs[k + 1], u = inputs[k + 2], v = inputs[k + 3];
    const a = rows[k], b = rows[k + 1], c = rows[k + 2], d = rows[k + 3];
    for (let f = 0; f < sums.length; f++) sums[f] += s * kernel[a + f] + t * kernel[b + f] + u * kernel[c + f] + v * kernel[d + f];
  }
}

// With ReLU. Most inputs are 0, of paper or after the last ReLU: only the others are gathered, which takes a third of the time.
function convolution({ side: from, channels, values: inputs }, { stride, size, filters, kernel, bias }, least = 0) {
  const side = Math.ceil(from / stride), before = border(from, size, stride), most = size * size * channels + 3;
  const values = new Float32Array(side * side * filters), sums = new Float64Array(filters);
  const gathered = new Float64Array(most), rows = new Int32Array(most); // inputs, and where what they are multiplied with begins
  for (let i = 0, place = 0; i < side; i++) for (let j = 0; j < side; j++, place += filters) {
    const top = i * stride - before, bottom = Math.min(top + size, from), left = j * stride - before, right = Math.min(left + size, from);
    let count = 0;
    for (let y = Math.max(top, 0), x = Math.max(left, 0); y < bottom; y++) {
      const end = (y * from + right) * channels;
      for (let k = (y * from + x) * channels, row = ((y - top) * size + x - left) * channels * filters; k < end; k++, row += filters)
        if (inputs[k] !== 0) { gathered[count] = inputs[k]; rows[count++] = row; }
    }
    gathered.fill(0, count, count + 3);
    sums.set(bias);
    addRows(sums, kernel, gathered, rows, count);
    for (let f = 0; f < filters; f++) values[place + f] = Math.max(sums[f], least);
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

// One place that sees all, without ReLU.
const dense = (x, layer) => convolution(x, { ...layer, size: x.side, stride: x.side }, -Infinity);

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
  const letters = atob(weights), packed = new Uint8Array(letters.length), inflater = new DecompressionStream("deflate");
  for (let k = 0; k < packed.length; k++) packed[k] = letters.charCodeAt(k); // Uint8Array.from would take fifty milliseconds
  const writer = inflater.writable.getWriter();
  writer.write(packed);
  writer.close();
  const bytes = new Uint8Array(await new Response(inflater.readable).arrayBuffer()), count = bytes.length / 2;
  // The same bits at their places in 32, where the exponent's zero lies 112 higher.
  const bits = new Int32Array(count), numbers = new Float32Array(bits.buffer);
  for (let k = 0; k < count; k++) {
    const high = bytes[count + k];
    bits[k] = (high & 128) << 24 | (high & 127) << 21 | bytes[k] << 13;
    numbers[k] *= 2 ** 112;
  }
  let at = 0;
  const take = length => numbers.subarray(at, at += length);
  return { ...rest, layers: layers.map(layer => layer.kernel ? { ...layer, kernel: take(layer.kernel), bias: take(layer.bias) } : layer) };
}

return { activations, logits, energy, predict, predictStrokes, reasonAt, unpacked };
})();
