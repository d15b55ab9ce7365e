// The weights of a model, from base64 in the page to Float32Arrays, when they are first needed.

const FORMATS = {
  fp32: (bytes, from, count) => new Float32Array(bytes.slice(from, from + 4 * count).buffer),
  fp24: decode24,
  fp16: decode16,
};
const WIDTHS = { fp32: 4, fp24: 3, fp16: 2 };

function bytesOf(base64) {
  const text = atob(base64),
    bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return bytes;
}

// The upper three bytes of a float32.
function decode24(bytes, from, count) {
  const bits = new Uint32Array(count);
  for (let i = 0, at = from; i < count; i++, at += 3) {
    bits[i] = (bytes[at] << 8) | (bytes[at + 1] << 16) | (bytes[at + 2] << 24);
  }
  return new Float32Array(bits.buffer);
}

function decode16(bytes, from, count) {
  const values = new Float32Array(count);
  for (let i = 0, at = from; i < count; i++, at += 2) values[i] = halfFloat(bytes[at] | (bytes[at + 1] << 8));
  return values;
}

function halfFloat(bits) {
  const sign = bits & 0x8000 ? -1 : 1,
    exponent = (bits >> 10) & 31,
    fraction = bits & 1023;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  return sign * (1024 + fraction) * 2 ** (exponent - 25);
}

// Tensors by name: {name: {shape, from}} over one base64 text. `linear` and `norm` find what belongs together.
class Weights {
  constructor(tensors, format, base64) {
    Object.assign(this, { tensors, format, base64 });
    this.made = {};
  }

  has(name) {
    return name in this.tensors;
  }

  shape(name) {
    return this.tensors[name].shape;
  }

  get(name) {
    if (!(name in this.made)) this.made[name] = this.read(name);
    return this.made[name];
  }

  read(name) {
    const { shape, from, same } = this.tensors[name];
    if (same) return this.get(same);
    this.bytes ??= bytesOf(this.base64);
    const count = shape.reduce((product, side) => product * side, 1);
    return FORMATS[this.format](this.bytes, from * WIDTHS[this.format], count);
  }

  optional(name) {
    return this.has(name) ? this.get(name) : null;
  }

  linear(name) {
    const [outputs, inputs] = this.shape(`${name}.weight`);
    return { weight: this.get(`${name}.weight`), bias: this.optional(`${name}.bias`), inputs, outputs };
  }

  norm(name, kind, eps) {
    return { kind, eps, weight: this.optional(`${name}.weight`), bias: this.optional(`${name}.bias`) };
  }
}
