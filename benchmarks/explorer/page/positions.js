// Where tokens are: what is added to them, how queries and keys are rotated, what is added to scores.
// A description comes from Python, with frequencies, slopes and buckets as PyTorch rounds them.

class Positions {
  constructor(description, weights, prefix) {
    Object.assign(this, description);
    this.tables = (description.tables ?? []).map((n) => ({
      data: weights.get(`${prefix}.tables.${n}.weight`),
      width: weights.shape(`${prefix}.tables.${n}.weight`)[1],
    }));
  }

  // Added to the token at `coords` (an array, one number an axis), in place.
  embed(x, coords) {
    if (this.kind === "learned") {
      this.tables.forEach((table, axis) => {
        const from = coords[axis] * table.width;
        for (let i = 0; i < x.length; i++) x[i] += table.data[from + i];
      });
    } else if (this.kind === "sinusoidal") {
      const angles = this.angles(coords),
        half = angles.length;
      angles.forEach((angle, i) => {
        const [s, c] = this.pairing === "halves" ? [i, i + half] : [2 * i, 2 * i + 1];
        x[s] += this.amplitude * Math.sin(angle);
        x[c] += this.amplitude * Math.cos(angle);
      });
    }
  }

  angles(coords) {
    return coords.flatMap((coord) => this.frequencies.map((frequency) => Math.fround(coord * frequency)));
  }

  // Rotates the heads of one token, each `width` channels, in place.
  rotate(x, coords, width) {
    if (this.kind !== "rotary") return;
    const angles = this.angles(coords);
    for (let start = 0; start < x.length; start += width) {
      angles.forEach((angle, i) => this.rotatePair(x, start, i, width / 2, angle));
    }
  }

  rotatePair(x, start, i, half, angle) {
    const halves = this.pairing === "halves";
    const first = start + (halves ? i : 2 * i),
      second = halves ? first + half : first + 1;
    const cos = Math.cos(angle) * this.gain,
      sin = Math.sin(angle) * this.gain;
    const a = x[first],
      b = x[second];
    x[first] = a * cos - b * sin;
    x[second] = b * cos + a * sin;
  }

  // What the score of a query at one place for a key at another gets, for one head.
  bias(head, query, key) {
    if (this.kind === "alibi") {
      const squares = query.reduce((sum, coord, axis) => sum + (key[axis] - coord) ** 2, 0);
      return -this.slopes[head] * Math.sqrt(squares);
    }
    if (this.kind === "t5") {
      return this.tables.reduce((sum, table, axis) => {
        const bucket = this.buckets[key[axis] - query[axis] + this.reach];
        return sum + table.data[bucket * table.width + head];
      }, 0);
    }
    return 0;
  }

  get biased() {
    return this.kind === "alibi" || this.kind === "t5";
  }
}

const NOWHERE = new Positions({ kind: "none" }, null, "");
