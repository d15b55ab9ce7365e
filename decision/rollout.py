"""Let an agent act, and see what it reaches of what it is asked for.

python -m decision.rollout DIR [--target-return R...] [--episodes N] [--video DIR] [--json]

Every target is tried in the same episodes: one for each seed, each counted, however long it lasts. Without targets
those of the data are taken: its median, 90 %, best return, and 20 % more.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from core.cli.arguments import main, parse_fields, run_folder
from core.config import check_choices, check_positive
from core.messages import number
from core.training.config import check_at_least
from decision.acting.episodes import Outcome, Rollouts, opened, play, rollouts
from decision.acting.policy import Actors, check_target
from decision.data.load import Summary, default_targets, normalised
from decision.environments.make import episode_seed
from decision.models.decision_transformer import DecisionTransformer
from decision.reports.figures import asked_and_reached, save
from decision.trained import load_to_act

if TYPE_CHECKING:
    from decision.reports.films import Filmed

PICTURE = "rollout.png"
"""What was asked against what was reached, in the run folder."""


@dataclass(frozen=True)
class RolloutConfig:
    """Settings of `decision.rollout`."""

    target_return: tuple[float, ...] = ()
    """Returns to ask for, in the unit of the environment; default those of the data."""
    episodes: int = 20
    """Episodes for each target."""
    seed: int = 0
    """Decides how the episodes begin, the same ones for each target."""
    at_once: int = 64
    """Environments at most that the agent acts in at the same time."""
    temperature: float = 0.0
    """0 takes the most probable action; above, actions are drawn, at 1 as often as predicted."""
    max_steps: int | None = None
    """Steps after which an episode is cut off; default the environment's own limit, else that of the model."""
    environment: str = ""
    """Gymnasium's id of another environment of the same spaces; default the one that the run was evaluated in."""
    video: Path | None = None
    """Folder for a film of the first episode of each target; default films none."""
    video_format: Literal["gif", "mp4"] = "gif"
    """Kind of film."""
    checkpoint: str = "best"
    """best, last, last-good, or a step."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where the model is."""
    json: bool = False
    """End with one line that is a JSON object."""

    def __post_init__(self) -> None:
        check_choices(self)
        check_positive(self, "episodes", "at_once", "max_steps")
        check_at_least(self, 0, "temperature", "seed")
        for target in self.target_return:
            check_target(target)

    def unused(self) -> dict[str, str]:
        """Fields without effect under this configuration, each with the reason."""
        return {} if self.video else {"video_format": "--video names no folder"}


def choose_targets(options: RolloutConfig, told: bool, returns: Sequence[float]) -> dict[float, str]:
    """Returns to ask for, each with its name, "" where it has none; equal ones once.

    returns: percentiles of the data's. Raises ValueError for a target of a model that is told none.
    """
    if options.target_return:
        if not told:
            raise ValueError("--target-return has no effect: the model is told no return to reach")
        return dict.fromkeys(options.target_return, "")
    found: dict[float, str] = {}
    for name, target in default_targets(np.array(returns)).items() if told else ():
        found[target] = f"{found[target]}, {name}" if target in found else name
    return found


def act(model: DecisionTransformer, summary: Summary, options: RolloutConfig, targets: Sequence[float]) -> Rollouts:
    """Plays all episodes, with a bar on a terminal. Raises what `rollouts` and `environments.make` raise."""
    identifier = options.environment or summary.environment
    if not identifier:
        raise ValueError("the data does not say of which environment it is: name one with --environment")
    total, limits = options.episodes * max(1, len(targets)), limits_of(model, options)
    with (
        opened(identifier, min(total, options.at_once), **limits) as environments,
        tqdm(total=total, unit="episodes", desc=identifier, disable=None) as bar,
    ):
        return rollouts(
            model,
            summary.normaliser,
            environments,
            targets,
            options.episodes,
            seed=options.seed,
            temperature=options.temperature,
            watch=bar.update,
        )


def limits_of(model: DecisionTransformer, options: RolloutConfig) -> dict[str, int | None]:
    """Where episodes are cut off, for `environments.make`."""
    return {"max_steps": options.max_steps, "longest": model.config.longest}


def figures(found: Rollouts, names: Mapping[float, str], reference: tuple[float, float] | None) -> dict[str, Any]:
    """Everything that was found, as JSON values; `score` is the normalised return, where there are references."""
    return {
        "targets": [_figures(outcome, names, reference) for outcome in found.outcomes],
        "rank_correlation": found.rank_correlation(),
        "steps": found.steps,
        "seconds": round(found.seconds, 3),
        "steps_per_second": round(found.steps / found.seconds, 1),
    }


def _figures(outcome: Outcome, names: Mapping[float, str], reference: tuple[float, float] | None) -> dict[str, Any]:
    returns, lengths, terminated = outcome.episodes
    named = {"target": outcome.target, "name": names.get(outcome.target or 0.0, "")}
    scores = {} if reference is None else {"score": _spread(normalised(returns, reference))}
    cut_off = {"length": float(lengths.mean()), "cut_off": float(1 - terminated.mean())}
    return named | {"return": _spread(returns)} | scores | cut_off | {"returns": returns.tolist()}


def _spread(values: NDArray[np.float64]) -> dict[str, float]:
    """Mean, standard deviation over the episodes, least and most."""
    return {name: float(getattr(values, name)()) for name in ("mean", "std", "min", "max")}


def table(found: Mapping[str, Any]) -> str:
    """A line for each target of `figures`: asked, reached, the range, steps, how many were cut off, the score."""
    scored = "score" in found["targets"][0]
    heads = ["from", "to", "steps", "cut off", *["score"] * scored]
    lines = [f"{'asked for':>10}  {'':<24}{'reached':>20}" + "".join(f"{head:>11}" for head in heads)]
    for row in found["targets"]:
        asked, reached = row["target"], row["return"]
        columns = [number(reached["min"]), number(reached["max"]), number(row["length"]), f"{row['cut_off']:.0%}"]
        columns += [number(row["score"]["mean"])] if scored else []
        both = f"{number(reached['mean'])} ± {number(reached['std'])}"
        named = f"{'-' if asked is None else number(asked):>10}  {row['name']:<24}{both:>20}"
        lines.append(named + "".join(f"{column:>11}" for column in columns))
    return "\n".join(lines)


def report(model: DecisionTransformer, summary: Summary, options: RolloutConfig, folder: Path) -> dict[str, Any]:
    """Acts, films if asked to, prints a table, draws a picture into the folder; returns all figures.

    Raises ValueError, before the first step, for whatever stands in the way of one of these.
    """
    targets = choose_targets(options, model.config.returns == "token", summary.returns)
    for place in filter(None, (folder, options.video)):
        require_writable(place)
    picture = folder / PICTURE
    title = f"{options.environment or summary.environment}, {options.episodes} episodes" + " a target" * bool(targets)
    with stage(model, summary, options) if options.video else nullcontext() as filmed:
        found = act(model, summary, options, list(targets))
        numbers = figures(found, targets, summary.reference)
        print(table(numbers), *sentences(numbers, summary), sep="\n")
        save(asked_and_reached(found.outcomes, summary.returns, title), picture)
        films = film(filmed, model, summary, options, list(targets)) if filmed else []
    for path in (picture, *films):
        print(path)
    return numbers | {"picture": str(picture), "films": list(map(str, films))}


def require_writable(folder: Path) -> None:
    """Raise ValueError unless files can be put into a folder that is there or can be made."""
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    try:
        with TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise ValueError(f"nothing can be written to {folder}: {error.strerror}") from error


def sentences(found: Mapping[str, Any], summary: Summary) -> list[str]:
    """What the table does not say: the data, whether it does as asked, the pace."""
    data = default_targets(np.array(summary.returns))
    lines = [f"the data: median {number(data['median'])}, 90 % {number(data['90 %'])}, best {number(data['max'])}"]
    if found["rank_correlation"] is not None:
        lines.append(f"rank correlation of asked and reached: {found['rank_correlation']:.2f}")
    return [*lines, f"{found['steps']:,} steps of the environment, {found['steps_per_second']:,.0f} a second"]


def stage(model: DecisionTransformer, summary: Summary, options: RolloutConfig) -> Filmed:
    """The environment that is filmed. Raises ValueError when its pictures or the format need another package."""
    from decision.reports.films import check_format, make_filmed

    check_format(options.video_format)
    environment = make_filmed(options.environment or summary.environment, **limits_of(model, options))
    environment.reset(seed=0)
    return environment


def film(
    environment: Filmed,
    model: DecisionTransformer,
    summary: Summary,
    options: RolloutConfig,
    targets: Sequence[float],
) -> list[Path]:
    """Films the first episode of each target into `options.video`; the files."""
    from decision.reports.films import write_film

    assert options.video is not None
    seeds, written = [episode_seed(options.seed, 0)], []
    for target in targets or [0.0]:
        actors = Actors(model, summary.normaliser, [target], temperature=options.temperature, seeds=seeds)
        play([environment], seeds, actors)
        name = f"target-{target:g}" if targets else "episode"
        written.append(options.video / f"{name}.{options.video_format}")
        write_film(environment.frames, environment.pace, written[-1])
    return written


def rollout(argv: list[str]) -> None:
    """The command."""
    folder, rest = run_folder(argv, "decision.rollout")
    options = parse_fields(
        RolloutConfig,
        RolloutConfig(),
        rest,
        prog="python -m decision.rollout DIR",
        description="Lets an agent act in its environment, asked for one return after the other.",
    )
    trained = load_to_act(folder, options.checkpoint, options.device)
    options = replace(options, environment=options.environment or trained.config.environment)
    about = {"environment": options.environment or trained.summary.environment, "step": trained.step}
    about |= {"episodes": options.episodes, "seed": options.seed, "temperature": options.temperature}
    print(f"{about['environment']}, checkpoint of step {trained.step}: {options.episodes} episodes for each target")
    numbers = report(trained.model, trained.summary, options, folder)
    if options.json:
        print(json.dumps(about | numbers, allow_nan=False))


if __name__ == "__main__":
    main(lambda: rollout(sys.argv[1:]))
