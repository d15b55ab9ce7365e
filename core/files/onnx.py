"""ONNX files: a module as one graph for any runtime of the format, written only if it computes the same."""

from __future__ import annotations

import importlib.util
import io
import warnings
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from core.attention import record_attention
from core.cli.exits import RunFailure
from core.files.atomic import atomic_write

if TYPE_CHECKING:
    from onnx import ModelProto

PACKAGES = ("onnx", "onnxscript", "onnxruntime")
LARGEST = 2**31 - 1
"""Bytes that an ONNX file, which is one protobuf message, may have."""
OLDEST, NEWEST = 18, 23
"""The operator sets that PyTorch's exporter writes without conversion."""


def write_onnx(
    model: nn.Module,
    examples: Sequence[Mapping[str, Tensor]],
    outputs: Sequence[str],
    target: Path,
    *,
    dynamic: Mapping[str, Mapping[int, Any]],
    notes: Mapping[str, str],
    tolerance: float,
    opset: int = OLDEST,
    reference: nn.Module | None = None,
    measured: Literal["absolute", "relative"] = "absolute",
) -> float:
    """Writes a module on the CPU in evaluation mode; returns the largest difference of its outputs from PyTorch's.

    examples: inputs by name, as `forward` takes them; the first one is traced, and the file is compared on all of them
    dynamic:  axes that may have any length, by input, as `torch.export` takes them
    reference: what the file is compared with, where that is not the module itself, but one in float32
    measured: whether differences are taken as they are, or as a share of the largest output where that is above 1

    Raises ValueError where a package is missing, `opset` is out of range, or the module too large for the format;
    RunFailure where the file does not compute the same. Nothing is written then, and an earlier file stays.
    """
    for name in PACKAGES:
        if importlib.util.find_spec(name) is None:
            raise ValueError(f"ONNX files need the package {name}: pip install 'triptych[onnx]'")
    if not OLDEST <= opset <= NEWEST:
        raise ValueError(f"opset = {opset} must be from {OLDEST} to {NEWEST}")
    size = sum(p.numel() * p.element_size() for p in model.parameters())
    if size > LARGEST:
        raise ValueError(f"the model's weights take {size / 2**30:.1f} GiB; an ONNX file holds less than 2")
    with atomic_write(target) as aside:
        proto = _graph(model, examples[0], outputs, dynamic, opset)
        _describe(proto, notes)
        aside.write_bytes(proto.SerializeToString())
        difference = max(_difference(aside, reference or model, example, measured) for example in examples)
        if not difference <= tolerance:  # also where it is NaN
            names = ", ".join(outputs)
            raise RunFailure(f"the file's {names} differ by {difference:.2g} from PyTorch's, more than {tolerance:g}")
    return difference


def _graph(
    model: nn.Module,
    example: Mapping[str, Tensor],
    outputs: Sequence[str],
    dynamic: Mapping[str, Mapping[int, Any]],
    opset: int,
) -> ModelProto:
    """The module as an ONNX graph, without traces of the machine."""
    quiet = redirect_stdout(io.StringIO())  # some versions of the exporter print how much they rewrote
    with record_attention(model), quiet, warnings.catch_warnings():  # the explicit path is in every operator set
        warnings.simplefilter("ignore")  # the exporter's, of axes that are called the same
        program = torch.onnx.export(
            model,
            kwargs=dict(example),
            dynamo=True,
            verbose=False,
            opset_version=opset,
            input_names=list(example),
            output_names=list(outputs),
            dynamic_shapes={name: dict(dynamic.get(name, {})) for name in example},
        )
    assert program is not None  # since no file was given
    proto = program.model_proto
    graph = proto.graph
    for parts in (graph.node, graph.value_info, graph.input, graph.output, graph.initializer, [graph]):
        for part in parts:
            del part.metadata_props[:]  # lines of source code, and their folders
    return proto


def _describe(proto: ModelProto, notes: Mapping[str, str]) -> None:
    """Writes what a user of the file must know into its metadata."""
    from onnx.helper import set_model_props

    set_model_props(proto, dict(notes))
    proto.producer_name, proto.graph.name = "triptych", "model"


@torch.no_grad()
def _difference(file: Path, model: nn.Module, example: Mapping[str, Tensor], measured: str) -> float:
    """The largest difference between the outputs of a file, by onnxruntime, and those of PyTorch."""
    from onnxruntime import InferenceSession, SessionOptions

    quiet = SessionOptions()
    quiet.log_severity_level = 3  # errors: it warns of constants in half precision that it cannot fold
    session = InferenceSession(str(file), quiet, providers=["CPUExecutionProvider"])
    ours, theirs = model(**example), session.run(None, {name: x.numpy() for name, x in example.items()})
    ours = ours if isinstance(ours, tuple) else (ours,)
    scales = [float(a.abs().max().clamp(min=1)) if measured == "relative" else 1.0 for a in ours]
    pairs = zip(ours, theirs, scales, strict=True)
    return max(float((torch.from_numpy(b) - a).abs().max()) / scale for a, b, scale in pairs)
