"""`decision.export`: what leaves acts as the agent does, in its units, and says what its user must know."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch

from core.config import PositionConfig, TransformerConfig
from decision.config import TrainConfig
from decision.models.config import DecisionConfig
from decision.tasks.loop import train
from decision.trained import load, load_policy
from tests.decision.examples import PUSH, trajectories
from tests.decision.toys import window
from tests.processes import Command

CONTEXT = 8
CORE = TransformerConfig(dim=16, depth=1, n_heads=2, feedforward="relu", position=PositionConfig("none"))


SHAPE = DecisionConfig(context=CONTEXT, core=CORE)


@pytest.fixture(scope="module")
def run(place: Path, data: Path) -> Path:
    """A short run on CartPole."""
    settings = {"data": str(data), "batch_size": 8, "eval_episodes": 0, "precision": "fp32", "device": "cpu"}
    train(TrainConfig(out=place / "run", steps=3, save_every=3, model=SHAPE, **settings))
    return place / "run"


@pytest.mark.slow
def test_an_onnx_file_acts_as_the_agent_does(command: Command, run: Path, tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    onnx = pytest.importorskip("onnx")
    code, out, err = command("export", run, "--onnx", tmp_path / "agent.onnx")
    assert (code, err) == (0, [])
    assert "differ from PyTorch's by at most" in out
    file = onnx.load(tmp_path / "agent.onnx")
    assert (file.opset_import[0].version, str(Path.cwd()) in str(file)) == (18, False)
    notes = {each.key: each.value for each in file.metadata_props}
    assert (notes["context"], notes["environment"], notes["step"]) == (str(CONTEXT), "CartPole-v1", "3")
    session = runtime.InferenceSession(str(tmp_path / "agent.onnx"), providers=["CPUExecutionProvider"])
    environment, policy = gymnasium.make("CartPole-v1"), load_policy(run)
    seen, taken, togo = [environment.reset(seed=5)[0]], [0], [30.0]
    policy.reset(30.0)
    reward = None
    for step in range(CONTEXT):
        inputs: dict[str, Any] = {
            "observations": np.float32([seen]),
            "actions": np.int64([taken]),
            "timesteps": np.int64([range(step + 1)]),
            "returns_to_go": np.float32([togo]),
        }
        action, prediction = session.run(["action", "prediction"], inputs)
        assert action.tolist() == [policy.act(seen[-1], reward)] == prediction.argmax(-1).tolist()
        observation, reward, ended, *_ = environment.step(action[0])
        seen, taken, togo = [*seen, observation], [*taken[:-1], int(action[0]), 0], [*togo, togo[-1] - float(reward)]
        assert not ended


def test_a_folder_in_their_layout_leaves_where_that_holds_the_model(
    command: Command, run: Path, tmp_path: Path
) -> None:
    transformers = pytest.importorskip("transformers")
    code, _, [line] = command("export", run, "--out", tmp_path / "choices")
    assert (code, "actions that are discrete (2,) has no place" in line) == (2, True)
    trajectories([5, 4, 7], acted=PUSH).save(tmp_path / "data.npz")
    before = load(run).config
    train(replace(before, out=tmp_path / "run", data=str(tmp_path / "data.npz"), model=SHAPE))
    code, out, err = command("export", tmp_path / "run", "--out", tmp_path / "out")
    assert (code, err, str(tmp_path / "out") in out) == (0, [], True)
    theirs, ours = (
        transformers.DecisionTransformerModel.from_pretrained(tmp_path / "out").eval(),
        load(tmp_path / "run"),
    )
    given = window(ours.model, steps=CONTEXT)
    seen = {"states": given.observations, "actions": given.actions, "returns_to_go": given.returns}
    with torch.no_grad():
        actions = theirs(**seen, timesteps=given.timesteps).action_preds
        torch.testing.assert_close(ours.model(given), actions, atol=1e-5, rtol=1e-5)
    statistics = json.loads((tmp_path / "out" / "statistics.json").read_text())
    assert statistics["state_mean"] == list(ours.summary.normaliser.mean)


def test_bad_input_is_one_line(command: Command, run: Path, tmp_path: Path) -> None:
    for words, complaint in (
        ((run,), "--out, or a file with --onnx"),
        ((), "name the run folder first"),
        ((run, "--onnx", tmp_path / "agent.pt"), "must be a file that ends in .onnx"),
        ((run, "--onnx", tmp_path / "agent.onnx", "--opset", 17), "opset = 17 must be from 18 to 23"),
        ((run, "--opset", 18), "--opset has no effect"),
        ((tmp_path, "--onnx", tmp_path / "agent.onnx"), "is not a run folder of decision.train"),
    ):
        code, _, [line] = command("export", *words)
        assert (code, complaint in line) == (2, True), line
    assert not list(tmp_path.iterdir())
    assert json.loads((run / "trajectories.json").read_text())["episodes"] == load(run).summary.episodes
