"""Parity with `transformers`: the same actions, with padding and without, in a window and one step at a time."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from core.config import PositionConfig, TransformerConfig
from decision.acting.policy import ModelPolicy
from decision.data.summary import Normaliser
from decision.data.windows import Window
from decision.environments.spaces import Space
from decision.models.decision_transformer import DecisionTransformer
from decision.models.pretrained import export_pretrained, load_pretrained
from tests.decision.toys import BOX, IMAGE, OPEN, agent, unscaled, window

transformers = pytest.importorskip("transformers")

SHAPES = {
    "as published": {},
    "wide": {"n_head": 2, "n_inner": 40, "n_layer": 2, "layer_norm_epsilon": 1e-3},
    "gelu, open actions": {"activation_function": "gelu_new", "action_tanh": False},
}


def theirs(**changes):
    """A small model of theirs, with awake weights."""
    torch.manual_seed(0)
    shape = {"state_dim": 5, "act_dim": 2, "hidden_size": 32, "max_ep_len": 50, "n_positions": 24}
    model = transformers.DecisionTransformerModel(transformers.DecisionTransformerConfig(**shape | changes))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.15)
    return model.eval()


def saved(folder: Path, **changes):
    model = theirs(**changes)
    model.save_pretrained(folder)
    return model


def random_window(rows: int = 4, steps: int = 7, lengths=(7, 4, 1, 6)) -> Window:
    timesteps = torch.arange(steps) + torch.arange(rows).unsqueeze(1)
    actions = torch.rand(rows, steps, 2) * 2 - 1
    parts = torch.randn(rows, steps, 1), torch.randn(rows, steps, 5), actions, timesteps
    return Window(*parts, torch.tensor(lengths))


@torch.no_grad()
def their_actions(model, given: Window, mask=None):
    seen = {"states": given.observations, "actions": given.actions, "returns_to_go": given.returns}
    return model(**seen, timesteps=given.timesteps, attention_mask=mask).action_preds


@pytest.mark.parametrize("shape", SHAPES)
def test_the_same_actions_with_and_without_padding(tmp_path, shape):
    model = saved(tmp_path, **SHAPES[shape])
    ours = load_pretrained(tmp_path)
    assert isinstance(ours, DecisionTransformer)
    assert not ours.training
    given = random_window(lengths=(7, 7, 7, 7))
    with torch.no_grad():
        torch.testing.assert_close(ours(given), their_actions(model, given), atol=1e-5, rtol=1e-5)
        padded = random_window()
        valid = padded.valid()
        expected = their_actions(model, padded, valid.long())
        torch.testing.assert_close(ours(padded)[valid], expected[valid], atol=1e-5, rtol=1e-5)


def test_their_loop_of_acting_gives_the_same_actions_as_ours(tmp_path):
    """Padded to the context at every step, as is usual with theirs; the same while ours has refilled nothing."""
    model, steps = saved(tmp_path, n_positions=27), 9
    actors = ModelPolicy(load_pretrained(tmp_path, context=steps), Normaliser(), [2.0])
    seen, rewards = torch.randn(steps, 5), torch.rand(steps)
    taken, left = torch.zeros(0, 2), [2.0]
    for step in range(steps):
        brought = rewards[step - 1 : step].numpy() if step else None
        action = actors.act(seen[step : step + 1].numpy(), brought)
        if step:
            left.append(left[-1] - float(rewards[step - 1]))
        pads = steps - step - 1
        given = Window(
            torch.nn.functional.pad(torch.tensor(left), (pads, 0)).view(1, -1, 1),
            torch.nn.functional.pad(seen[: step + 1], (0, 0, pads, 0)).unsqueeze(0),
            torch.nn.functional.pad(taken, (0, 0, pads, 1)).unsqueeze(0),
            torch.nn.functional.pad(torch.arange(step + 1), (pads, 0)).unsqueeze(0),
            torch.tensor([step + 1]),
        )
        mask = (torch.arange(steps) >= pads).long().unsqueeze(0)
        expected = their_actions(model, given, mask)[0, -1]
        np.testing.assert_allclose(action[0], expected.clamp(-1, 1).numpy(), atol=1e-5)
        taken = torch.cat((taken, torch.from_numpy(action)))


def test_the_vector_of_position_0_counts(tmp_path):
    """Without it the actions would be others: the parity above depends on it."""
    model = saved(tmp_path)
    ours, given = load_pretrained(tmp_path), random_window(lengths=(7, 7, 7, 7))
    with torch.no_grad():
        ours.embed.norm.bias -= model.encoder.wpe.weight[0]
        assert (ours(given) - their_actions(model, given)).abs().max() > 1e-2


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"model_type": "gpt2"}, "model_type = 'gpt2' is not 'decision_transformer'"),
        ({"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx = True is not one of: False"),
        ({"activation_function": "tanh"}, "activation_function = 'tanh' is not one of"),
        ({"n_layer": "3"}, "n_layer"),
        ({"state_dim": 6}, r"embed_state.weight has the shape \(32, 5\), .* \(32, 6\)"),
        ({"n_layer": 4}, "the weights lack encoder.h.3"),
        ({"n_layer": 2}, "the weights hold unknown encoder.h.2"),
    ],
)
def test_what_is_not_handled_is_refused_by_name(tmp_path, change, complaint):
    saved(tmp_path)
    file = tmp_path / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(ValueError, match=complaint):
        load_pretrained(tmp_path)


def test_paperwork_is_passed_over(tmp_path, capsys):
    saved(tmp_path)
    file, given = tmp_path / "config.json", random_window(lengths=(7, 7, 7, 7))
    before = load_pretrained(tmp_path)(given)
    capsys.readouterr()
    file.write_text(json.dumps(json.loads(file.read_text()) | {"embd_pdrop": 0.5, "max_length": 20, "notes": []}))
    assert torch.equal(load_pretrained(tmp_path)(given), before)
    [line] = capsys.readouterr().err.splitlines()
    assert "max_length, notes" in line


UNIT = Space("box", (2,), "float32", (-1.0,), (1.0,))
PLAIN = TransformerConfig(dim=16, depth=2, n_heads=2, position=PositionConfig("none"))
LEAVING = {
    "bounded": {"action": UNIT},
    "open": {"action": OPEN, "head": "deterministic"},
    "gelu without biases": {"action": UNIT, "core": replace(PLAIN, bias="none", feedforward="gelu-tanh")},
}


@pytest.mark.parametrize("kind", LEAVING)
def test_a_model_leaves_and_acts_there_as_here(tmp_path, kind):
    ours, normaliser = agent(**LEAVING[kind]), unscaled()
    export_pretrained(ours, normaliser, tmp_path / "out")
    theirs, report = transformers.DecisionTransformerModel.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    given = window(ours)
    flat = given._replace(actions=given.actions.flatten(2))
    with torch.no_grad():
        torch.testing.assert_close(ours(given), their_actions(theirs.eval(), flat), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(load_pretrained(tmp_path / "out", 6)(flat), ours(given), atol=1e-6, rtol=1e-6)
    statistics = json.loads((tmp_path / "out" / "statistics.json").read_text())
    assert statistics["state_mean"] == list(normaliser.mean)
    assert (statistics["return_scale"], statistics["context"]) == (10.0, 6)
    with pytest.raises(ValueError, match="out already exists"):
        export_pretrained(ours, normaliser, tmp_path / "out")


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"action": BOX}, "actions from -2 to 2 have no place"),
        ({}, r"actions that are discrete \(3,\) has no place"),
        ({"action": UNIT, "returns": "none"}, "returns = 'none' has no place"),
        ({"action": UNIT, "times": "rotary"}, "timesteps = 'position' has no place"),
        ({"action": UNIT, "observation": IMAGE}, "observations that are box .* of uint8 have no place"),
        ({"action": UNIT, "head": "gaussian"}, "gaussian head .* has no place"),
        ({"action": UNIT, "core": replace(PLAIN, qk_norm="rms")}, "core.qk_norm = 'rms' has no place"),
        ({"action": UNIT, "core": replace(PLAIN, n_kv_heads=1)}, "core.key_heads = 1 has no place"),
    ],
)
def test_what_their_layout_does_not_hold_is_refused_by_name(tmp_path, settings, complaint):
    with pytest.raises(ValueError, match=complaint):
        export_pretrained(agent(**settings), unscaled(), tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_a_folder_without_weights_or_with_a_pickle_is_refused(tmp_path):
    saved(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match="pytorch_model.bin is a pickle, which can execute code, and is never read"):
        load_pretrained(tmp_path)
    with pytest.raises(ValueError, match="no config.json"):
        load_pretrained(tmp_path / "nowhere")
