// The Decision Transformer: (return-to-go, state, action) of each step become tokens; state tokens give the action.

class DecisionTransformer {
  constructor(run, weights) {
    Object.assign(this, run.shape);
    this.stack = new Stack(run.stacks.core, weights, "core");
    this.dim = this.stack.core.dim;
    this.returns = weights.has("embed.returns.weight") ? weights.linear("embed.returns") : null;
    this.states = this.encoder(weights, "embed.observations", this.observation);
    this.actions = this.encoder(weights, "embed.actions", this.action);
    this.timesteps = weights.optional("embed.timesteps.weight");
    this.norm = weights.norm("embed.norm", "layernorm", 1e-5);
    this.head = weights.linear("head");
  }

  // Numbers through a linear map, or a vector a value of each choice.
  encoder(weights, name, space) {
    if (space.kind === "box") {
      const map = weights.linear(name);
      return (values) =>
        linear(
          Float32Array.from(values, (value, i) => this.unit(value, i, space)),
          map,
        );
    }
    const table = weights.get(`${name}.table.weight`);
    return (values) => {
      const x = new Float32Array(this.dim);
      values.forEach((value, i) => {
        const row = value + space.first[i];
        for (let n = 0; n < this.dim; n++) x[n] += table[row * this.dim + n];
      });
      return x;
    };
  }

  unit(value, i, space) {
    return space.reach ? (value - space.centre[i]) / space.reach[i] : value;
  }

  get perStep() {
    return this.returns ? 3 : 2;
  }

  normalisedState(values) {
    if (this.observation.kind !== "box") return values;
    return Float32Array.from(values, (value, i) => (value - this.stateMean[i]) / this.stateStd[i]);
  }

  // steps: [{toGo, state, action, timestep}], as in the environment; the last one's action may be missing.
  tokens(steps) {
    const rows = [],
      coords = [];
    for (const { toGo, state, action, timestep } of steps) {
      const parts = [this.states(this.normalisedState(state))];
      if (this.returns) parts.unshift(linear(Float32Array.of(toGo / this.returnScale), this.returns));
      if (action !== undefined) parts.push(this.actions(action));
      for (const part of parts) {
        rows.push(this.located(part, timestep));
        coords.push([timestep]);
      }
    }
    const x = new Float32Array(rows.length * this.dim);
    rows.forEach((row, n) => x.set(row, n * this.dim));
    return { x, coords };
  }

  located(x, timestep) {
    if (this.timesteps) x = add(x, this.timesteps.subarray(timestep * this.dim, (timestep + 1) * this.dim));
    return normalise(x, this.norm, this.dim);
  }

  read(steps, cuts = new Cuts()) {
    const state = this.stack.newState(cuts.copy()),
      { x, coords } = this.tokens(steps);
    this.stack.append(state, x, coords);
    return state;
  }

  // The place of a step's state token.
  stateToken(step) {
    return step * this.perStep + this.perStep - 2;
  }

  // What the head predicts: logits of the choices, or the action in [-1, 1] (and its log standard deviation).
  answer(row) {
    const y = linear(row, this.head);
    if (this.headKind === "deterministic") return this.action.reach ? y.map(Math.tanh) : y;
    if (this.headKind === "gaussian") return this.gaussian(y);
    return y;
  }

  gaussian(y) {
    const [low, high] = this.logStd,
      half = y.length / 2;
    return y.map((value, i) => (i < half ? value : low + ((high - low) / 2) * (Math.tanh(value) + 1)));
  }

  lens(state, level, token) {
    return this.answer(normalise(state.residual(level, token), this.stack.norm, this.dim));
  }

  // The action to take, as the environment reads it.
  choose(prediction) {
    const { action } = this;
    if (action.kind !== "box") return this.chosenValues(prediction);
    const bounded = Boolean(action.reach),
      width = action.centre?.length ?? prediction.length / (this.headKind === "gaussian" ? 2 : 1);
    const mean = Array.from(prediction.subarray(0, width));
    const unit = this.headKind === "gaussian" && bounded ? mean.map(Math.tanh) : mean;
    return bounded ? unit.map((value, i) => value * action.reach[i] + action.centre[i]) : unit;
  }

  chosenValues(logits) {
    let from = 0;
    return this.action.counts.map((count, i) => {
      const part = logits.subarray(from, from + count);
      from += count;
      return part.indexOf(maximum(part)) + this.action.start[i];
    });
  }

  logits(steps, cuts) {
    const state = this.read(steps, cuts);
    return Float32Array.from(steps.flatMap((_, n) => [...this.answer(state.out.row(this.stateToken(n)))]));
  }
}
