// A convolutional network's forward pass, as LiteRT computes it from the same weights, and what its answer is worth: the
// twin of recognizer/model.py.
const network = (() => {
"use strict";

// The border that TensorFlow calls "same": how many zeros go before the first pixel.
const before = (side, size, stride) => Math.max((Math.ceil(side / stride) - 1) * stride + size - side, 0) >> 1;

// x: {side, channels, values}, channels last; kernel: [filter][row][column][channel]. ReLU included.
function convolution(x, { stride, size, filters, kernel, bias }) {
  const side = Math.ceil(x.side / stride), pad = before(x.side, size, stride), c = x.channels;
  const values = new Float32Array(side * side * filters), patch = new Float32Array(size * size * c);
  for (let i = 0; i < side; i++) for (let j = 0; j < side; j++) {
    patch.fill(0);
    for (let r = 0; r < size; r++) {
      const y = i * stride + r - pad, from = Math.max(j * stride - pad, 0), to = Math.min(j * stride - pad + size, x.side);
      if (y < 0 || y >= x.side) continue;
      patch.set(x.values.subarray((y * x.side + from) * c, (y * x.side + to) * c), (r * size + from - j * stride + pad) * c);
    }
    for (let f = 0, k = 0; f < filters; f++) {
      let sum = bias[f];
      for (let p = 0; p < patch.length; p++, k++) sum += patch[p] * kernel[k];
      values[(i * side + j) * filters + f] = sum > 0 ? sum : 0;
    }
  }
  return { side, channels: filters, values };
}

function pooling(x, { size }) {
  const side = Math.ceil(x.side / size), c = x.channels, pad = before(x.side, size, size);
  const values = new Float32Array(side * side * c).fill(-Infinity);
  for (let y = 0; y < x.side; y++) for (let z = 0; z < x.side; z++) {
    const target = (Math.floor((y + pad) / size) * side + Math.floor((z + pad) / size)) * c, source = (y * x.side + z) * c;
    for (let k = 0; k < c; k++) if (x.values[source + k] > values[target + k]) values[target + k] = x.values[source + k];
  }
  return { side, channels: c, values };
}

function dense(x, { kernel, bias }) {
  const n = x.values.length;
  return { side: 1, channels: bias.length, values: Float32Array.from(bias, (start, f) => {
    let sum = start;
    for (let p = 0; p < n; p++) sum += x.values[p] * kernel[f * n + p];
    return sum;
  }) };
}

const KINDS = { convolution, pooling, dense };

// Every layer's output for an image of 784 numbers in [0, 1]; the last one's values are the ten logits.
function activations(layers, image) {
  const found = [{ side: 28, channels: 1, values: image }];
  for (const layer of layers) found.push(KINDS[layer.kind](found[found.length - 1], layer));
  return found;
}

const logits = (layers, image) => activations(layers, image).pop().values;

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

// The answer for one image. model: {layers, calibration}.
function predict({ layers, calibration }, image) {
  if (!image.some(Boolean)) return { digit: null, confidence: 0, probabilities: Array(10).fill(0.1), accepted: false, reason: "blank", image, candidates: [] };
  const values = logits(layers, image), probabilities = softmax(values, calibration.temperature);
  const order = probabilities.map((_, digit) => digit).sort((a, b) => probabilities[b] - probabilities[a]);
  const digit = order[0], confidence = probabilities[digit];
  const reason = energy(values) < calibration.min_energy ? "not a digit" : confidence >= calibration.accept_confidence ? "" : "unsure";
  const candidates = order.filter((one, k) => !k || probabilities[one] >= calibration.candidate_probability);
  return { digit, confidence, probabilities, accepted: !reason, reason, image, candidates };
}

// Weights as float16 in Base64 to numbers.
function halves(text) {
  const bytes = Uint8Array.from(atob(text), letter => letter.charCodeAt(0)), view = new DataView(bytes.buffer);
  return Float32Array.from({ length: bytes.length / 2 }, (_, k) => {
    const bits = view.getUint16(2 * k, true), exponent = (bits >> 10) & 31, fraction = bits & 1023, sign = bits >> 15 ? -1 : 1;
    return sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -14 * (fraction / 1024));
  });
}

const unpacked = ({ layers, ...rest }) => ({ ...rest, layers: layers.map(layer => layer.kernel
  ? { ...layer, kernel: halves(layer.kernel), bias: halves(layer.bias) } : layer) });

return { activations, logits, predict, unpacked };
})();
