"""Decision Transformers in Hugging Face's layout are read and written, and predict numerically the same actions.

Quirks of that layout, which are handled here: the vector of position 0 is added to every token after the embeddings
are normalised, which is the same as adding it to the bias of that norm; heads for states and returns are stored but
were never trained. Neither the context nor the statistics of training are stored, nor are the bounds of the actions,
which are taken to be -1 and 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch

from core.config import FeedForwardKind, PositionConfig, TransformerConfig
from core.files.atomic import atomic_write
from core.files.json_files import read_json, write_json
from core.files.serialize import from_dict, to_dict
from core.files.tensors import WEIGHTS, Safetensors, Uninitialised
from core.files.weights import TRANSPOSED, Layout, Rule, each_layer, export_weights, import_weights, module
from core.messages import notice
from decision.data.summary import Normaliser
from decision.environments.spaces import Space
from decision.models.config import DecisionConfig
from decision.models.decision_transformer import DecisionTransformer

CONFIG, STATISTICS = "config.json", "statistics.json"
LAYOUT = "transformers' layout of Decision Transformers"
WITHOUT_EFFECT = (
    *("architectures", "model_type", "transformers_version", "_name_or_path", "dtype", "torch_dtype"),
    *("use_cache", "return_dict*", "output_*", "*_token_id", "initializer_range", "vocab_size", "n_ctx", "summary_*"),
)
"""Fields without effect on the actions (`*` matches anything)."""
UNUSED = ("encoder.wte.weight", "predict_state.*", "predict_return.*", "*.attn.bias", "*.attn.masked_bias")
"""Weights without effect on the actions."""
ACTIVATIONS: dict[str, FeedForwardKind] = {
    "relu": "relu",
    "gelu": "gelu",
    "gelu_new": "gelu-tanh",
    "gelu_pytorch_tanh": "gelu-tanh",
}
COMPARED_OTHERWISE = (
    *("observation_space", "action_space", "core", "head", "entropy_weight"),
    *("n_kv_heads", "head_dim", "bias", "init", "drop_path"),
)
"""Fields of ours that need not be as in the layout, because they have no effect or are looked at for themselves."""


@dataclass(frozen=True)
class Published:
    """The fields of a `config.json` with an effect; of those that are not handled, only the default is accepted."""

    model_type: ClassVar[str] = "decision_transformer"

    state_dim: int = 17
    act_dim: int = 4
    hidden_size: int = 128
    max_ep_len: int = 4096
    action_tanh: bool = True
    n_positions: int = 1024
    n_layer: int = 3
    n_head: int = 1
    n_inner: int | None = None
    activation_function: Literal["relu", "gelu", "gelu_new", "gelu_pytorch_tanh"] = "relu"
    layer_norm_epsilon: float = 1e-5
    resid_pdrop: float = 0.1
    embd_pdrop: float = 0.1
    attn_pdrop: float = 0.1
    scale_attn_weights: Literal[True] = True
    scale_attn_by_inverse_layer_idx: Literal[False] = False
    reorder_and_upcast_attn: Literal[False] = False
    add_cross_attention: Literal[False] = False

    @classmethod
    def read(cls, said: Mapping[str, Any]) -> Published:
        """From a `config.json`; unknown fields are passed over. Raises ValueError naming one that is not handled."""
        if said.get("model_type") != cls.model_type:
            raise ValueError(f"model_type = {said.get('model_type')!r} is not {cls.model_type!r}")
        known = {f.name for f in fields(cls)}
        strange = {name for name in said.keys() - known if not any(fnmatchcase(name, p) for p in WITHOUT_EFFECT)}
        if strange:
            notice(f"{CONFIG}: unknown and passed over: {', '.join(sorted(strange))}")
        return from_dict(cls, {name: said[name] for name in said.keys() & known})

    @classmethod
    def of(cls, config: DecisionConfig) -> Published:
        """The fields of a model of ours. Raises ValueError naming what the layout cannot hold."""
        core, (observed, acted) = config.core, config.spaces()
        names = {ours: theirs for theirs, ours in reversed(ACTIVATIONS.items())}
        published = cls(
            state_dim=observed.size,
            act_dim=acted.size,
            hidden_size=core.dim,
            max_ep_len=max(1, config.max_timestep),
            action_tanh=acted.kind == "box" and bool(np.isfinite(acted.bounds()).all()),
            n_positions=1,
            n_layer=core.depth,
            n_head=core.n_heads,
            n_inner=core.ffn_dim,
            activation_function=names.get(core.feedforward, "relu"),  # type: ignore[arg-type]
            layer_norm_epsilon=core.norm_eps,
            resid_pdrop=core.dropout,
            embd_pdrop=core.dropout,
            attn_pdrop=core.attention_dropout,
        )
        held = published.config(config.context)
        for prefix, ours, theirs in (("", config, held), ("core.", core, held.core)):
            for name in (f.name for f in fields(ours) if f.name not in COMPARED_OTHERWISE):
                if getattr(ours, name) != getattr(theirs, name):
                    raise ValueError(f"{prefix}{name} = {getattr(ours, name)!r} has no place in {LAYOUT}")
        for name in ("key_heads", "head_width"):
            if getattr(core, name) != getattr(held.core, name):
                raise ValueError(f"core.{name} = {getattr(core, name)} has no place in {LAYOUT}")
        if observed.kind != "box" or observed.is_image or observed.pictures:
            raise ValueError(f"observations that are {observed} have no place in {LAYOUT}, which reads numbers")
        if config.head not in ("auto", "deterministic") or acted.kind != "box":
            raise ValueError(f"a {config.head} head for actions that are {acted} has no place in {LAYOUT}")
        low, high = acted.bounds()
        if not any((low == -most).all() and (high == most).all() for most in (1, np.inf)):
            raise ValueError(
                f"actions from {low.min():g} to {high.max():g} have no place in {LAYOUT}, only from -1 to 1"
            )
        return published

    def config(self, context: int) -> DecisionConfig:
        """The same model as our configuration."""
        bound = 1.0 if self.action_tanh else None
        core = TransformerConfig(
            dim=self.hidden_size,
            depth=self.n_layer,
            n_heads=self.n_head,
            ffn_dim=self.n_inner,
            feedforward=ACTIVATIONS[self.activation_function],
            norm_eps=self.layer_norm_epsilon,
            position=PositionConfig("none"),
            dropout=self.resid_pdrop,
            attention_dropout=self.attn_pdrop,
        )
        return DecisionConfig(
            observation_space=Space("box", (self.state_dim,), "float32", (None,), (None,)),
            action_space=Space("box", (self.act_dim,), "float32", (bound and -bound,), (bound,)),
            context=context,
            max_timestep=self.max_ep_len,
            core=core,
        )

    def rules(self) -> list[Rule]:
        """How their weights map to ours."""
        ours, theirs = "core.blocks.*.", "encoder.h.*."
        attention, compute = ours + "attention.branch.", ours + "feedforward.branch."
        first_row = Layout(  # the sum of a vector and the first row of a table
            lambda parts: parts[0] + parts[1][0], lambda ours: [ours, ours.new_zeros(self.n_positions, len(ours))]
        )
        block = [
            *module(ours + "attention.norm", theirs + "ln_1"),
            *module(attention + "qkv", theirs + "attn.c_attn", layout=TRANSPOSED),
            *module(attention + "out", theirs + "attn.c_proj", layout=TRANSPOSED),
            *module(ours + "feedforward.norm", theirs + "ln_2"),
            *module(compute + "up", theirs + "mlp.c_fc", layout=TRANSPOSED),
            *module(compute + "out", theirs + "mlp.c_proj", layout=TRANSPOSED),
        ]
        return [
            *module("embed.returns", "embed_return"),
            *module("embed.observations", "embed_state"),
            *module("embed.actions", "embed_action"),
            Rule("embed.timesteps.weight", ("embed_timestep.weight",)),
            Rule("embed.norm.weight", ("embed_ln.weight",)),
            Rule("embed.norm.bias", ("embed_ln.bias", "encoder.wpe.weight"), first_row),
            *each_layer(block, self.n_layer),
            *module("core.norm", "encoder.ln_f"),
            *module("head", "predict_action.0"),
        ]


def load_pretrained(folder: str | Path, context: int = 20) -> DecisionTransformer:
    """A model in Hugging Face's layout, in float32 and evaluation mode.

    folder:  holds `config.json` and `model.safetensors` or its shards
    context: steps that it was trained to attend to

    Raises ValueError naming the file that is missing or damaged, the field of `config.json` that is unknown or would
    change the mathematics, the weights that are missing, unknown or of another shape. A pickle is never read.
    """
    folder = Path(folder).expanduser()
    try:
        published = Published.read(read_json(folder / CONFIG))
        config = published.config(context)
    except ValueError as error:
        raise ValueError(f"{folder / CONFIG}: {error}") from error
    weights = Safetensors(folder)
    with Uninitialised():
        model = DecisionTransformer(config)
    try:
        import_weights(model, weights, published.rules(), ignored=UNUSED)
    except ValueError as error:
        raise ValueError(f"{folder}: {error}") from error
    return model.eval()


def export_pretrained(model: DecisionTransformer, normaliser: Normaliser, folder: Path) -> None:
    """Writes a model as a new folder that transformers' DecisionTransformerModel loads, atomically.

    Observations and returns are still to be normalised: statistics.json beside it says by what.

    Raises ValueError naming what the layout cannot hold, and for a folder that already exists.
    """
    from safetensors.torch import save_file

    published = Published.of(model.config)
    if folder.exists():
        raise ValueError(f"{folder} already exists: give the name of a new folder")
    weights = export_weights(with_biases(model), published.rules())
    width = published.hidden_size
    untrained = {"predict_state": published.state_dim, "predict_return": 1}
    weights |= {f"{name}.weight": torch.zeros(size, width) for name, size in untrained.items()}
    weights |= {f"{name}.bias": torch.zeros(size) for name, size in untrained.items()}
    weights["encoder.wte.weight"] = torch.zeros(1, width)
    said: dict[str, Any] = {"model_type": Published.model_type, "architectures": ["DecisionTransformerModel"]}
    said |= {"vocab_size": 1, "bos_token_id": None, "eos_token_id": None}
    mean = normaliser.origin or normaliser.mean
    statistics = {"state_mean": mean, "state_std": normaliser.std, "return_scale": normaliser.return_scale}
    with atomic_write(folder) as temporary:
        temporary.mkdir()
        save_file(weights, temporary / WEIGHTS, metadata={"format": "pt"})
        write_json(temporary / CONFIG, to_dict(published) | said)
        write_json(temporary / STATISTICS, statistics | {"context": model.config.context})


def with_biases(model: DecisionTransformer) -> DecisionTransformer:
    """The same model, with biases of zero where it has none."""
    config = model.config
    if config.core.bias == "all":
        return model
    full = DecisionTransformer(replace(config, core=replace(config.core, bias="all")))
    state = model.state_dict()
    full.load_state_dict({name: state.get(name, torch.zeros_like(x)) for name, x in full.state_dict().items()})
    return full
