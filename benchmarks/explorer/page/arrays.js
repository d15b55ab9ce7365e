// Arithmetic on Float32Arrays: linear maps, norms, activations, softmax. Sums are taken in double precision.

// A matrix that grows by rows, as a cache of keys does.
class Rows {
  constructor(width, capacity = 16) {
    this.width = width;
    this.count = 0;
    this.data = new Float32Array(width * capacity);
  }

  push(block) {
    const needed = this.count * this.width + block.length;
    if (needed > this.data.length) {
      const wider = new Float32Array(Math.max(needed, 2 * this.data.length));
      wider.set(this.data);
      this.data = wider;
    }
    this.data.set(block, this.count * this.width);
    this.count += block.length / this.width;
  }

  row(index) {
    return this.data.subarray(index * this.width, (index + 1) * this.width);
  }

  truncate(count) {
    this.count = Math.min(this.count, count);
  }
}

// y = W x + b for rows of x: four outputs and two rows at a time, so that each number read is used several times.
function linear(x, map) {
  const { weight, bias, inputs, outputs } = map;
  const rows = x.length / inputs;
  const y = new Float32Array(rows * outputs);
  for (let o = 0; o < outputs; o += 4) {
    const wide = Math.min(4, outputs - o);
    let row = 0;
    if (wide === 4) {
      for (; row + 2 <= rows; row += 2) twoRows(x, row, weight, o, inputs, outputs, y);
    }
    for (; row < rows; row++) oneRow(x, row, weight, o, wide, inputs, outputs, y);
  }
  if (bias) addToRows(y, bias);
  return y;
}

function twoRows(x, row, weight, o, inputs, outputs, y) {
  const [p, q] = [row * inputs, (row + 1) * inputs];
  const [a, b, c, d] = [o * inputs, (o + 1) * inputs, (o + 2) * inputs, (o + 3) * inputs];
  let p0 = 0,
    p1 = 0,
    p2 = 0,
    p3 = 0,
    q0 = 0,
    q1 = 0,
    q2 = 0,
    q3 = 0;
  for (let i = 0; i < inputs; i++) {
    const u = x[p + i],
      v = x[q + i];
    const wa = weight[a + i],
      wb = weight[b + i],
      wc = weight[c + i],
      wd = weight[d + i];
    p0 += u * wa;
    p1 += u * wb;
    p2 += u * wc;
    p3 += u * wd;
    q0 += v * wa;
    q1 += v * wb;
    q2 += v * wc;
    q3 += v * wd;
  }
  const first = row * outputs + o,
    second = first + outputs;
  y[first] = p0;
  y[first + 1] = p1;
  y[first + 2] = p2;
  y[first + 3] = p3;
  y[second] = q0;
  y[second + 1] = q1;
  y[second + 2] = q2;
  y[second + 3] = q3;
}

function oneRow(x, row, weight, o, wide, inputs, outputs, y) {
  for (let n = 0; n < wide; n++) y[row * outputs + o + n] = dot(x, row * inputs, weight, (o + n) * inputs, inputs);
}

function dot(x, i, y, j, length) {
  let even = 0,
    odd = 0,
    n = 0;
  for (; n + 2 <= length; n += 2) {
    even += x[i + n] * y[j + n];
    odd += x[i + n + 1] * y[j + n + 1];
  }
  return n < length ? even + odd + x[i + n] * y[j + n] : even + odd;
}

function addToRows(y, vector) {
  const width = vector.length;
  for (let start = 0; start < y.length; start += width) for (let i = 0; i < width; i++) y[start + i] += vector[i];
}

function multiplyRows(y, vector) {
  const width = vector.length;
  for (let start = 0; start < y.length; start += width) for (let i = 0; i < width; i++) y[start + i] *= vector[i];
}

function add(x, y) {
  return x.map((value, i) => value + y[i]);
}

// A normalisation of each row: {kind, weight, bias, eps}; kind none, layernorm, rmsnorm or rms (no gain).
function normalise(x, norm, width) {
  if (norm.kind === "none") return x;
  const y = new Float32Array(x.length);
  for (let start = 0; start < x.length; start += width) {
    const mean = norm.kind === "layernorm" ? sumOf(x, start, width) / width : 0;
    let squares = 0;
    for (let i = 0; i < width; i++) squares += (x[start + i] - mean) ** 2;
    const scale = 1 / Math.sqrt(squares / width + norm.eps);
    for (let i = 0; i < width; i++) y[start + i] = (x[start + i] - mean) * scale;
  }
  if (norm.weight) multiplyRows(y, norm.weight);
  if (norm.bias) addToRows(y, norm.bias);
  return y;
}

function sumOf(x, start, length) {
  let sum = 0;
  for (let i = 0; i < length; i++) sum += x[start + i];
  return sum;
}

function lengthOf(x) {
  let squares = 0;
  for (const value of x) squares += value * value;
  return Math.sqrt(squares);
}

// The error function, from the series near 0 and a continued fraction far from it: accurate to 1e-12.
function erf(x) {
  const a = Math.abs(x);
  if (a > 6) return Math.sign(x);
  if (a < 2) {
    let term = a,
      sum = a;
    for (let n = 1; Math.abs(term) > 1e-17 * sum && n < 60; n++) {
      term *= -(a * a) / n;
      sum += term / (2 * n + 1);
    }
    return (Math.sign(x) * 2 * sum) / Math.sqrt(Math.PI);
  }
  let fraction = 0;
  for (let n = 60; n >= 1; n--) fraction = n / 2 / (a + fraction);
  return Math.sign(x) * (1 - Math.exp(-a * a) / ((a + fraction) * Math.sqrt(Math.PI)));
}

const SQRT_HALF = Math.SQRT1_2,
  SQRT_2_PI = Math.sqrt(2 / Math.PI);
const ACTIVATIONS = {
  relu: (x) => (x > 0 ? x : 0),
  relu2: (x) => (x > 0 ? x * x : 0),
  gelu: (x) => 0.5 * x * (1 + erf(x * SQRT_HALF)),
  "gelu-tanh": (x) => 0.5 * x * (1 + Math.tanh(SQRT_2_PI * (x + 0.044715 * x ** 3))),
  silu: (x) => x / (1 + Math.exp(-x)),
  tanh: Math.tanh,
};
const GATES = { swiglu: "silu", geglu: "gelu", "geglu-tanh": "gelu-tanh" };

// The activation of a feed-forward layer; where it is gated, rows hold the gate and then the value.
function activate(x, kind, width) {
  if (!(kind in GATES)) return x.map(ACTIVATIONS[kind]);
  const gate = ACTIVATIONS[GATES[kind]],
    rows = x.length / (2 * width),
    y = new Float32Array(rows * width);
  for (let row = 0; row < rows; row++) {
    const from = 2 * row * width,
      to = row * width;
    for (let i = 0; i < width; i++) y[to + i] = gate(x[from + i]) * x[from + width + i];
  }
  return y;
}

// exp(x) over its sum; zeros where everything is -Infinity.
function softmax(x) {
  const y = new Float32Array(x.length),
    greatest = maximum(x);
  if (greatest === -Infinity) return y;
  let sum = 0;
  for (let i = 0; i < x.length; i++) sum += y[i] = Math.exp(x[i] - greatest);
  for (let i = 0; i < x.length; i++) y[i] /= sum;
  return y;
}

function maximum(x) {
  let greatest = -Infinity;
  for (const value of x) if (value > greatest) greatest = value;
  return greatest;
}

// Indices of the largest values, the largest first; at most `count`.
function largest(x, count) {
  const order = [];
  for (let i = 0; i < x.length; i++) {
    if (order.length === count && x[i] <= x[order[count - 1]]) continue;
    let place = order.length;
    while (place > 0 && x[order[place - 1]] < x[i]) place--;
    order.splice(place, 0, i);
    if (order.length > count) order.pop();
  }
  return order;
}
