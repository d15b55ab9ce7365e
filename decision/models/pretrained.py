"""Decision Transformers in Hugging Face's layout are read, and predict numerically the same actions.

Quirks of that layout, which are handled here: the vector of position 0 is added to every token after the embeddings
are normalised, which is the same as adding it to the bias of that norm; heads for states and returns are stored but
were never trained. Neither the context nor the statistics of training are stored, nor are the bounds of the actions,
which are taken to be -1 and 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, ClassVar, Literal

from core.config import FeedForwardKind, PositionConfig, TransformerConfig
from core.files.json_files import read_json
from core.files.serialize import from_dict
from core.files.tensors import Safetensors, Uninitialised
from core.files.weights import TRANSPOSED, Layout, Rule, each_layer, import_weights, module
from decision.environments.spaces import Space
from decision.models.config import DecisionConfig
from decision.models.decision_transformer import DecisionTransformer

CONFIG = "config.json"
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

    def __post_init__(self) -> None:
        if self.embd_pdrop != self.resid_pdrop:
            raise ValueError(f"embd_pdrop = {self.embd_pdrop} must equal resid_pdrop = {self.resid_pdrop}")

    @classmethod
    def read(cls, fields: Mapping[str, Any]) -> Published:
        """From a `config.json`. Raises ValueError naming the first field that is unknown or not handled."""
        if fields.get("model_type") != cls.model_type:
            raise ValueError(f"model_type = {fields.get('model_type')!r} is not {cls.model_type!r}")
        ignored = (name for name in fields if any(fnmatchcase(name, pattern) for pattern in WITHOUT_EFFECT))
        return from_dict(cls, {name: fields[name] for name in fields.keys() - set(ignored)})

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
