"""What an agent reaches in its environment, for every return it is asked for, beside what its data reaches.

python -m decision.evaluate DIR [--checkpoint best|last|last-good|STEP] [--episodes N] [--targets R...] [--json]

The episodes begin otherwise than those by which the best checkpoint was chosen.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from core.checks import check_at_least, check_choices, check_positive
from core.cli.arguments import parse_fields, run_folder
from core.cli.exits import main
from core.messages import number
from decision.config import check_finite
from decision.data.load import Summary, default_targets, normalised
from decision.rollout import RolloutConfig, act, choose_targets, figures, table
from decision.trained import load_to_act


@dataclass(frozen=True)
class EvaluateConfig:
    """Settings of `decision.evaluate`."""

    checkpoint: str = "best"
    """best, last, last-good, or a step."""
    episodes: int = 100
    """Episodes for each target."""
    targets: tuple[float, ...] = ()
    """Returns to ask for, in the unit of the environment; default the run's eval_targets, else those of the data."""
    seed: int = 0
    """Decides how the episodes begin, the same ones for each target."""
    temperature: float = 0.0
    """0 takes the most probable action; above, actions are drawn, at 1 as often as predicted."""
    environment: str = ""
    """Gymnasium's id of another environment of the same spaces; default the one that the run was evaluated in."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where the model is."""
    json: bool = False
    """End with one line that is a JSON object."""

    def __post_init__(self) -> None:
        check_choices(self)
        check_positive(self, "episodes")
        check_at_least(self, 0, "seed", "temperature")
        for target in self.targets:
            check_finite("targets", target)


def evaluate_run(argv: list[str]) -> None:
    """The command."""
    folder, rest = run_folder(argv, "decision.evaluate")
    options = parse_fields(
        EvaluateConfig(),
        rest,
        prog="python -m decision.evaluate DIR",
        description="Evaluates a run by acting in its environment.",
    )
    trained = load_to_act(folder, options.checkpoint, options.device)
    told, summary = trained.model.config.returns == "token", trained.summary
    if options.targets and not told:
        raise ValueError("--targets has no effect: the model is told no return to reach")
    environment = options.environment or trained.config.environment
    targets = options.targets or (trained.config.eval_targets if told else ())
    acting = RolloutConfig(
        targets, options.episodes, options.seed, temperature=options.temperature, environment=environment
    )
    names = choose_targets(acting, told, summary.returns)
    where = environment or summary.environment
    print(f"{where}, checkpoint of step {trained.step}: {options.episodes} episodes for each target\n")
    found = compared(figures(act(trained.model, summary, acting, list(names)), names, summary.reference), summary)
    print(table(found), "", *sentences(found), sep="\n")
    if options.json:
        about = {"step": trained.step, "environment": where, "episodes": options.episodes, "seed": options.seed}
        print(json.dumps(about | {"temperature": options.temperature} | found, allow_nan=False))


def compared(found: Mapping[str, Any], summary: Summary) -> dict[str, Any]:
    """Figures with those of the data beside them; `above`: % of the data's episodes that return less than a mean."""
    returns = np.array(summary.returns)
    rows = [row | {"above": share_below(row["return"]["mean"], summary.returns)} for row in found["targets"]]
    data = default_targets(returns)
    data.pop("max + 20 %")
    told: dict[str, Any] = {"episodes": summary.episodes, "steps": summary.steps, "returns": data}
    if summary.reference is not None:
        told["scores"] = {name: float(normalised(np.array(x), summary.reference)) for name, x in data.items()}
    return {**found, "targets": rows, "data": told}


def share_below(value: float, percentiles: Sequence[float]) -> int:
    """% of the values whose percentiles 0, 1, ... 100 are given that are below one: 0 ... 100."""
    return max(0, int(np.searchsorted(percentiles, value)) - 1) if value <= percentiles[-1] else 100


def sentences(found: Mapping[str, Any]) -> list[str]:
    """What the table does not say: the data, how it compares, the pace."""
    data, best = found["data"], max(found["targets"], key=lambda row: row["return"]["mean"])
    known = [f"{name} {number(value)}" for name, value in data["returns"].items()]
    scored = [f"{value:.1f}" for value in data.get("scores", {}).values()]
    asked = "" if best["target"] is None else f"asked for {number(best['target'])}, "
    lines = [
        f"the data: {data['episodes']:,} episodes; {', '.join(known)}" + f"; scores {', '.join(scored)}" * bool(scored),
        f"{asked}it returns {number(best['return']['mean'])} on average, more than {best['above']} % of them",
    ]
    if found["rank_correlation"] is not None:
        lines.append(f"rank correlation of asked and reached: {found['rank_correlation']:.2f}")
    return [*lines, f"{found['steps']:,} steps of the environment, {found['steps_per_second']:,.0f} a second"]


if __name__ == "__main__":
    main(lambda: evaluate_run(sys.argv[1:]))
