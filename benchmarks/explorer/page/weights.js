// The weights of a model, from the text in the page to Float32Arrays, when they are first needed.

// Numbers of `width` bytes in planes, the lowest bytes of all of them first; zeros below where these are the upper ones.
function bitsOf(bytes, from, count, width, above = 0) {
  const bits = new Uint32Array(count);
  for (let plane = 0, at = from; plane < width; plane++) {
    const shift = 8 * (plane + above);
    for (let i = 0; i < count; i++) bits[i] |= bytes[at++] << shift;
  }
  return bits;
}

const decode32 = (bytes, from, count) => new Float32Array(bitsOf(bytes, from, count, 4).buffer);
const decode24 = (bytes, from, count) => new Float32Array(bitsOf(bytes, from, count, 3, 1).buffer);
const decode16 = (bytes, from, count) => Float32Array.from(bitsOf(bytes, from, count, 2), halfFloat);

// Whole numbers, row by row, behind what one is worth in each row; vectors are not made whole.
function decodeWhole(bytes, from, count, shape) {
  if (shape.length < 2) return decode24(bytes, from, count);
  const [rows] = shape,
    values = new Float32Array(count),
    scales = decode24(bytes, from, rows),
    start = from + 3 * rows;
  for (let i = 0; i < count; i++) values[i] = ((bytes[start + i] << 24) >> 24) * scales[Math.floor((i * rows) / count)];
  return values;
}

const FORMATS = { fp32: decode32, fp24: decode24, fp16: decode16, int8: decodeWhole, int6: decodeWhole };

function bytesOf(base64) {
  const text = atob(base64),
    bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return bytes;
}

const DIGITS =
  "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%.()*+-;,=>?@^_`{|}~"; // RFC 1924, without < and &

// Base 85: four bytes for every five characters; the last ones may be fewer.
function bytesOf85(text) {
  const values = new Uint8Array(128),
    groups = Math.ceil(text.length / 5),
    bytes = new DataView(new ArrayBuffer(4 * groups));
  [...DIGITS].forEach((digit, n) => (values[digit.charCodeAt(0)] = n));
  for (let group = 0; group < groups; group++) {
    let number = 0;
    for (let at = 5 * group; at < 5 * group + 5; at++)
      number = 85 * number + (at < text.length ? values[text.charCodeAt(at)] : 84);
    bytes.setUint32(4 * group, number);
  }
  return new Uint8Array(bytes.buffer, 0, Math.floor((text.length * 4) / 5));
}

// The bytes of a model's weights.
async function inflated(text) {
  const stream = new Blob([bytesOf85(text)]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

function halfFloat(bits) {
  const sign = bits & 0x8000 ? -1 : 1,
    exponent = (bits >> 10) & 31,
    fraction = bits & 1023;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  return sign * (1024 + fraction) * 2 ** (exponent - 25);
}

// Tensors by name: {name: {shape, from}} over some bytes. `linear` and `norm` find what belongs together.
class Weights {
  constructor(tensors, format, bytes) {
    Object.assign(this, { tensors, format, bytes });
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
    const count = shape.reduce((product, side) => product * side, 1);
    return FORMATS[this.format](this.bytes, from, count, shape);
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
