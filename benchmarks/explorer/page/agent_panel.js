// A Decision Transformer: ask for a return, and see what each action is decided by.

class AgentPanel extends Session {
  constructor(run, weights) {
    super(run, weights);
    this.model = new DecisionTransformer(run, weights);
    this.layer = this.layers - 1;
    this.target = run.shape.target;
    this.simulated = /^CartPole-v[01]$/.test(run.environment) && this.model.observation.size === 4;
    this.commonViews();
    this.tokens = new TokenView(
      "tokens",
      "Trajectory",
      "The return still to come (R), the state (s) and the action (a) of each step, the newest last.",
      "queries",
      (token) => this.select(token),
    );
    this.chances = new Chances("chances", "Action", null);
    this.views = [this.tokens, this.chances, this.graph, this.lensView, this.grid];
    this.build([this.controls(), this.tokens, this.graph], [this.chances, this.lensView]);
    this.reset();
    if (this.simulated) for (let n = 1; n < this.model.context; n++) this.stepOn();
  }

  controls() {
    this.askedSlider = this.returnSlider();
    this.drawing = svgElement("svg", {
      class: "cartpole",
      viewBox: "0 0 400 140",
      role: "img",
      "aria-label": "the cart and its pole",
    });
    this.score = element("p", { class: "reading", "aria-live": "polite" });
    this.numbers = this.simulated ? null : element("div", { class: "numbers" });
    return card(
      "input",
      this.run.environment || "Trajectory",
      null,
      this.simulated ? this.drawing : this.numbers,
      this.score,
      this.model.returns ? this.askedSlider : null,
      element("div", { class: "bar" }, this.buttons(), this.restore),
    );
  }

  returnSlider() {
    const { returns } = this.run.shape;
    const most = Math.max(...returns);
    const least = Math.min(0, ...returns);
    const range = { min: least, max: Math.ceil(most), step: (most - least) / 100 || 1, value: this.target };
    return slider("return asked for", { ...range, shown: short, id: "asked" }, (value) => this.ask(value));
  }

  buttons() {
    this.play = button("Play", () => this.toggle(), { id: "play" });
    const made = [
      this.play,
      button("Step", () => this.stepAndUpdate(), { id: "step" }),
      button("Start again", () => this.startAgain(), { id: "reset" }),
    ];
    if (!this.simulated) return made;
    const left = button("Push ←", () => this.stepAndUpdate([0]));
    return [...made, left, button("Push →", () => this.stepAndUpdate([1]), { id: "push" })];
  }

  reset() {
    Object.assign(this, { rewards: 0, over: false, query: -1 });
    this.steps = [{ toGo: this.target, timestep: 0, state: this.simulated ? cartStart() : this.middle() }];
    if (this.numbers) replaceChildren(this.numbers, this.stateSliders());
  }

  middle() {
    const { observation, stateMean } = this.model;
    return observation.kind === "box" ? Array.from(stateMean) : Array.from(observation.start);
  }

  // Without a simulator, the newest state is set by hand.
  stateSliders() {
    const { observation, stateMean, stateStd } = this.model;
    return Array.from({ length: Math.min(observation.size, 24) }, (_, i) => {
      const [min, max, step] =
        observation.kind === "box"
          ? [stateMean[i] - 3 * stateStd[i], stateMean[i] + 3 * stateStd[i], stateStd[i] / 20]
          : [observation.start[i], observation.start[i] + observation.counts[i] - 1, 1];
      return slider(`state ${i + 1}`, { min, max, step, value: this.steps.at(-1).state[i], shown: short }, (value) => {
        this.steps.at(-1).state[i] = value;
        this.update();
      });
    });
  }

  // Another return: what is still to come changes at every step by as much.
  ask(target) {
    this.steps.forEach((step) => (step.toGo += target - this.target));
    this.target = target;
    this.update();
  }

  startAgain() {
    this.reset();
    this.update();
  }

  stepAndUpdate(action) {
    this.stepOn(action);
    return this.update();
  }

  // Acts once, by the model where no action is given; the window keeps as many steps as the context.
  stepOn(action) {
    if (this.over) return;
    const last = this.steps.at(-1),
      { context, longest } = this.model;
    if (!action) {
      const state = this.model.read(this.steps, this.cuts);
      action = this.model.choose(this.model.answer(state.out.row(this.model.stateToken(this.steps.length - 1))));
    }
    last.action = action;
    const state = this.simulated ? cartStep(last.state, action[0]) : last.state.slice();
    const reward = this.simulated ? 1 : 0;
    this.rewards += reward;
    this.steps = [...this.steps, { toGo: last.toGo - reward, timestep: last.timestep + 1, state }].slice(-context);
    this.over =
      (this.simulated && (cartFell(state) || this.rewards >= CART.most)) ||
      (longest !== null && last.timestep + 2 >= longest);
    this.query = -1; // the newest state
  }

  toggle() {
    this.playing = !this.playing;
    this.play.textContent = this.playing ? "Pause" : "Play";
    if (this.playing) this.run50();
  }

  // Fifty steps a second, as the environment counts time.
  async run50() {
    if (this.over) this.reset();
    while (this.playing && this.root.isConnected && !this.over) {
      const began = performance.now();
      await this.stepAndUpdate();
      await new Promise((resolve) => setTimeout(resolve, Math.max(4, 20 - (performance.now() - began))));
    }
    if (this.playing) this.toggle();
  }

  *work() {
    this.intact = this.model.read(this.steps);
    yield false;
    this.state = this.cuts.empty ? this.intact : this.model.read(this.steps, this.cuts);
    if (this.query < 0 || this.query >= this.state.length) this.query = this.model.stateToken(this.steps.length - 1);
  }

  makeFrame() {
    const { model, state, steps, query } = this,
      frame = this.frame(state, this.trajectory());
    const step = Math.min(steps.length - 1, Math.floor(query / model.perStep)),
      token = model.stateToken(step);
    this.readAt = token;
    const answer = (of) => model.answer(of.out.row(token));
    if (model.headKind === "categorical" && model.action.counts.length === 1) {
      frame.answers = {
        logits: answer(state),
        intact: this.cuts.empty ? null : answer(this.intact),
        name: (id) => this.actionName(id + model.action.start[0]),
        caption: `in step ${steps[step].timestep + 1}`,
      };
      frame.lens = (level) => model.lens(state, level, token);
    } else this.chances.card.hidden = this.lensView.card.hidden = true;
    this.showEpisode(model.choose(answer(state)), step);
    return frame;
  }

  actionName(value) {
    const named = this.simulated ? ["← left", "right →"][value] : `action ${value}`;
    return { text: named, title: `action ${value}` };
  }

  trajectory() {
    return this.steps.flatMap(({ toGo, state, action, timestep }) => {
      const said = (values) => Array.from(values, short).join(", "),
        when = `of step ${timestep + 1}`;
      const tokens = [
        { text: "s", name: `s ${timestep + 1}`, title: `the state ${when}: ${said(state)}`, style: "state" },
      ];
      if (this.model.returns)
        tokens.unshift({
          text: `R ${short(toGo)}`,
          name: `R ${timestep + 1}`,
          title: `the return to come ${when}`,
          style: "return",
        });
      const arrow = this.simulated && action ? ["←", "→"][action[0]] : "a";
      if (action)
        tokens.push({
          text: arrow,
          name: `${arrow} ${timestep + 1}`,
          title: `the action ${when}: ${said(action)}`,
          style: "action",
        });
      return tokens;
    });
  }

  showEpisode(action, step) {
    const newest = this.steps.at(-1),
      fell = this.simulated && cartFell(newest.state);
    if (this.simulated) drawCart(this.drawing, this.steps[step].state, action[0]);
    const chosen = this.model.action.kind === "box" ? ` The action: ${Array.from(action, short).join(", ")}.` : "";
    const end = this.over ? (fell ? " It fell." : " The episode is over.") : "";
    const asked = this.model.returns ? `asked for ${short(this.target)}, ` : "";
    this.score.textContent = `Step ${newest.timestep + 1}: ${asked}reached ${this.rewards}.${end}${chosen}`;
  }

  saved() {
    const { target, steps, rewards, over } = this;
    return { ...super.saved(), target, steps, rewards, over };
  }

  resume(saved) {
    const { target, steps, rewards, over } = saved;
    Object.assign(this, { target, steps, rewards, over });
    this.askedSlider.set(target);
    super.resume(saved);
  }
}
