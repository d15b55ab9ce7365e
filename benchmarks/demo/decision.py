"""The demo's third panel: a Decision Transformer on CartPole, asked for one return after another."""

from __future__ import annotations

import importlib.util
import shlex
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.demo.chart import Chart
from benchmarks.demo.panels import ask, parameters, run
from benchmarks.demo.report import Panel, Picture, curve, duration, size
from benchmarks.measure.harness import last_json
from core.training.metrics import read_metrics
from decision.data.store import Trajectories
from decision.presets import PRESETS, RECIPES
from decision.trained import load

MOST = 500.0  # return of an episode of CartPole in which nothing falls
STEPS = "400"  # of training, where nothing else is said
EPISODES = 20  # for each return that is asked for
FILMED = (100.0, 200.0, MOST)  # of the returns asked for


def decision(folder: Path, budget: Sequence[str]) -> Panel:
    """A Decision Transformer on what PPO did while it learned, or on random actions where PPO is not installed."""
    start = time.perf_counter()
    file, out = folder / "trajectories.npz", folder / "run"
    folder.mkdir()
    who = collected(file)
    run("decision.train", "cartpole", "--data", str(file), "--out", str(out), *(budget or ["--steps", STEPS]))
    targets = PRESETS["cartpole"].eval_targets
    asked = ["--target-return", *(f"{target:g}" for target in targets), "--episodes", str(EPISODES)]
    films = ["--video", str(folder / "films")] if can_film() else []
    found = last_json(ask("decision.rollout", str(out), "--checkpoint", "last", *asked, *films, "--json"))
    records, data = read_metrics(out), Trajectories.load(file)
    return Panel(
        name="decision",
        title="Decision: a Decision Transformer",
        summary="The same blocks read what an agent observed and did, and at each step the return still to come. Asked"
        " for a return, the model acts as the episodes did that reached it. In training it never acts in the"
        " environment: all it has are recorded episodes.",
        figures=decision_figures(found, records),
        facts=decision_facts(out, data, who),
        chart=decision_chart(records, targets, float(data.returns().mean())),
        specimens=[asked_against_reached(found), *shown(found)],
        commands=[
            f"python -m decision.rollout {out} --target-return 300 --video films",
            f"python -m decision.evaluate {out}",
        ],
        seconds=time.perf_counter() - start,
    )


def collected(file: Path) -> str:
    """Records episodes into a file; who acted in them."""
    if importlib.util.find_spec("stable_baselines3") is not None:
        run("decision.collect", *shlex.split(RECIPES["cartpole.npz"]), "--out", str(file))
        return "everything that PPO did while it learned"
    print("demo: stable-baselines3 is not installed\ndemo: taking random actions in place of PPO's", flush=True)
    run("decision.collect", "--env", "CartPole-v1", "--steps", "50000", "--out", str(file))
    return "random actions (stable-baselines3 is not installed)"


def can_film() -> bool:
    """Whether pygame, which draws CartPole, is installed; says so where it is not."""
    if importlib.util.find_spec("pygame") is not None:
        return True
    print('demo: pygame is not installed, so nothing is filmed: pip install "triptych[video]"', flush=True)
    return False


def asked_against_reached(found: Mapping[str, Any]) -> Picture:
    """The picture that decision.rollout draws."""
    alt = "for every return asked for, the returns of all episodes; beside them those of the data"
    caption = f"What it is asked for, and what it reaches in {EPISODES} episodes each"
    return Picture(caption, Path(found["picture"]).read_bytes(), alt)


def shown(found: Mapping[str, Any]) -> list[Picture]:
    """Films of the first episode of some targets, where they were taken."""
    return [
        Picture(
            f"Asked for {target:g}: the pole is up for {found[f'target_{target:g}/film_return']:g} steps",
            Path(found[f"target_{target:g}/film"]).read_bytes(),
            f"film of an episode of CartPole, a return of {target:g} being asked for",
            "gif",
        )
        for target in FILMED
        if f"target_{target:g}/film" in found
    ]


def decision_figures(found: Mapping[str, Any], records: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    correlation = found["rank_correlation"]
    return [
        (f"return reached when asked for {MOST:g}", f"{found[f'target_{MOST:g}/return_mean']:.0f}"),
        ("rank correlation of asked and reached", "none" if correlation is None else f"{correlation:.2f}"),
        ("environment steps a second", f"{found['steps_per_second']:,.0f}"),
        ("training time", duration(records[-1]["seconds"])),
    ]


def decision_facts(out: Path, data: Trajectories, who: str) -> list[tuple[str, str]]:
    trained, returns = load(out, "last"), data.returns()
    config, model = trained.config, trained.config.model
    core, steps = model.core, read_metrics(out)[-1]["step"]
    timesteps = "added to the tokens" if model.timesteps == "embedded" else f"by {core.position.kind} positions"
    shape = f"{core.depth} blocks, {core.dim} wide, {core.n_heads} heads, {model.context} steps of context"
    return [
        ("Data", f"{data.environment}, {who}"),
        ("Learned from", f"{len(data):,} episodes, {data.steps:,} steps; no other step of the environment"),
        ("Returns in it", f"{returns.min():.0f} to {returns.max():.0f}, {returns.mean():.0f} on average"),
        ("Model", f"{shape}; {size(parameters(out), 'parameters')}"),
        ("Choices", f"timesteps {timesteps}, {core.norm}, {core.feedforward}"),
        ("Training", f"{steps:,} steps of {config.batch_size} windows, {config.optimizer.kind}"),
        ("Shown", f"the last checkpoint, of step {trained.step:,}"),
        ("Run folder", str(out)),
    ]


def decision_chart(records: Sequence[Mapping[str, Any]], targets: Sequence[float], average: float) -> Chart:
    """The returns reached along the training, for every return asked for."""
    curves = [
        curve(records, f"val/return_{target:g}", f"asked for {target:g}", "main" if target == MOST else "faint")
        for target in sorted(targets, reverse=True)
    ]
    references = ((average, "the data's average"),)
    return Chart(
        "optimiser steps",
        f"return reached, mean of {PRESETS['cartpole'].eval_episodes} episodes",
        tuple(curves),
        references=references,
    )
