"""transformers' Decision Transformer as a contestant: our weights in its model, and the loop and loss of its users."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.files.weights import export_weights
from decision.data.summary import Normaliser
from decision.data.windows import Window
from decision.environments.spaces import Space
from decision.models.decision_transformer import DecisionTransformer
from decision.models.pretrained import UNUSED, Published

if TYPE_CHECKING:
    import gymnasium

PEER = "transformers"
TABLE, MATRIX, BIAS = (f"embed.actions.{name}" for name in ("table.weight", "weight", "bias"))


@dataclass(frozen=True)
class Size:
    """Of a model; by default the paper's for continuous control (Chen 2021, table 9)."""

    dim: int = 128
    depth: int = 3
    n_heads: int = 1
    context: int = 20
    longest: int = 1000
    """Steps of an episode at most."""


SIZES = {"paper": Size(), "tiny": Size(dim=32, depth=2, context=4)}


def installed() -> bool:
    """Whether the peer is here."""
    return importlib.util.find_spec(PEER) is not None


# ---------------------------------------------------------------------------------------------- models


def build(size: Size, observed: Space, acted: Space, seed: int) -> DecisionTransformer:
    """Our model with random weights, in evaluation mode; it differs from the peer's in nothing but the code."""
    torch.manual_seed(seed)
    shape = published(size, observed, acted).config(size.context)
    return DecisionTransformer(replace(shape, observation_space=observed, action_space=acted)).eval()


def published(size: Size, observed: Space, acted: Space) -> Published:
    """The peer's configuration: continuous actions go through tanh, choices are vectors with a number for each."""
    return Published(
        state_dim=observed.size,
        act_dim=acted.size if acted.kind == "box" else sum(acted.counts),
        hidden_size=size.dim,
        max_ep_len=size.longest,
        action_tanh=acted.kind == "box",
        n_layer=size.depth,
        n_head=size.n_heads,
    )


def peer_model(size: Size, ours: DecisionTransformer) -> nn.Module:
    """The peer's model with the weights of ours, in evaluation mode."""
    from transformers import DecisionTransformerConfig, DecisionTransformerModel

    observed, acted = ours.config.observation_space, ours.config.action_space
    assert observed is not None
    assert acted is not None
    shape = published(size, observed, acted)
    twin = DecisionTransformer(shape.config(size.context))
    twin.load_state_dict(with_vectors(ours.state_dict()))
    model = DecisionTransformerModel(DecisionTransformerConfig(**asdict(shape)))
    lacking, unknown = model.load_state_dict(export_weights(twin, shape.rules()), strict=False)
    acting = [name for name in lacking if not any(fnmatchcase(name, pattern) for pattern in UNUSED)]
    assert not acting, f"not filled: {acting}"
    assert not unknown, f"of no use: {unknown}"
    return model.eval()


def with_vectors(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights that read a choice as a vector of zeros and a one, as the peer must, in place of a row of a table."""
    found = dict(weights)
    if TABLE in found:
        table = found.pop(TABLE)  # (choices, D)
        found |= {MATRIX: table.T, BIAS: table.new_zeros(table.shape[1])}
    return found


# ---------------------------------------------------------------------------------------------- acting


class PeerActor:
    """One episode as is usual with the peer: at every step the last K steps, padded at the left, are read anew."""

    def __init__(self, model: nn.Module, context: int, acted: Space, normaliser: Normaliser, target: float):
        self.model, self.context, self.acted, self.normaliser = model, context, acted, normaliser
        shape: Any = model.config
        self.states, self.actions = torch.zeros(0, shape.state_dim), torch.zeros(0, shape.act_dim)
        self.returns = torch.tensor([[target / normaliser.return_scale]])

    @torch.no_grad()
    def act(self, observation: Any, reward: float = 0.0) -> Any:
        """The action on an observation, as the environment takes it; `reward` is what the action before brought."""
        if len(self.states):
            self.returns = torch.cat((self.returns, self.returns[-1:] - reward / self.normaliser.return_scale))
        state = self.normaliser.observations(torch.from_numpy(observation)).float()
        self.states = torch.cat((self.states, state.unsqueeze(0)))
        self.actions = torch.cat((self.actions, torch.zeros(1, self.actions.shape[1])))  # what is about to be chosen
        predicted = self.model(**self._window()).action_preds[0, -1]  # (A,)
        if self.acted.kind == "box":
            self.actions[-1] = predicted
            return predicted.numpy()
        choice = int(predicted.argmax())
        self.actions[-1, choice] = 1.0
        return choice + self.acted.start[0]

    def _window(self) -> dict[str, Tensor]:
        K, T = self.context, len(self.states)
        pads = max(0, K - T)
        parts = {"states": self.states, "actions": self.actions, "returns_to_go": self.returns}
        padded = {name: F.pad(x[-K:], (0, 0, pads, 0)).unsqueeze(0) for name, x in parts.items()}  # (1, K, n)
        timesteps = F.pad(torch.arange(T)[-K:], (pads, 0)).unsqueeze(0)  # (1, K)
        mask = F.pad(torch.ones(K - pads, dtype=torch.long), (pads, 0)).unsqueeze(0)  # (1, K)
        return {**padded, "timesteps": timesteps, "attention_mask": mask}


def play_one(actor: PeerActor, environment: gymnasium.Env[Any, Any], seed: int) -> int:
    """One episode; its steps."""
    observation, _ = environment.reset(seed=seed)
    reward, steps, ended = 0.0, 0, False
    while not ended:
        observation, given, terminated, truncated, _ = environment.step(actor.act(observation, reward))
        reward, steps, ended = float(given), steps + 1, terminated or truncated
    return steps


# ---------------------------------------------------------------------------------------------- training


class PeerLoss(nn.Module):
    """The mean squared error of the actions over the valid steps of a `Window`, whose tensors are the arguments: ()."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, *tensors: Tensor) -> Tensor:
        window = Window(*tensors)
        valid = window.valid()  # (B, K)
        predicted = self.model(
            states=window.observations,
            actions=window.actions,
            returns_to_go=window.returns,
            timesteps=window.timesteps,
            attention_mask=valid.long(),
        ).action_preds
        errors = (predicted - window.actions).square().mean(-1)  # (B, K); as many for every batch, which compiles once
        return errors.masked_fill(~valid, 0.0).sum() / valid.sum()
