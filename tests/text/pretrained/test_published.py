"""Public models open as they were published: of a family that is named here all, of any other none.

`published.json` holds what their config.json, generation_config.json and tokenizer_config.json say, chat templates and
notes left out.
"""

from __future__ import annotations

import json
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest
import torch

from text.pretrained.families import FAMILIES
from text.pretrained.family import without_prefix
from text.pretrained.folders import read_family
from text.tokens.special import Companions

PUBLISHED: dict[str, dict[str, Any]] = json.loads((Path(__file__).parent / "published.json").read_text())
FILES = {"config": "config.json", "generation": "generation_config.json", "tokenizer": "tokenizer_config.json"}

DEPTHS = {"n_layer", "n_layers", "num_hidden_layers", "num_layers", "num_decoder_layers"}
DEPTHS |= {"encoder_layers", "decoder_layers"}


def folder(name: str, place: Path) -> Path:
    for part, file in FILES.items():
        (place / file).write_text(json.dumps(PUBLISHED["opens"][name][part]))
    return place


@pytest.mark.parametrize("name", PUBLISHED["opens"])
def test_a_public_model_of_a_named_family_has_the_shape_that_transformers_gives_it(name: str, tmp_path: Path) -> None:
    import transformers

    whole = read_family(folder(name, tmp_path))
    assert read_family_again(whole.to_fields(), tmp_path).to_config() == whole.to_config()
    fields = shallow(PUBLISHED["opens"][name]["config"])
    family = read_family_again(fields, tmp_path)
    architecture = getattr(transformers, fields.get("architectures", [family.architecture])[0])
    with torch.device("meta"):
        ours = family.build(family.to_config())
        theirs = architecture(transformers.AutoConfig.from_pretrained(tmp_path))
    shapes = {name: tensor.shape for name, tensor in theirs.state_dict().items()}
    own, rules = ours.state_dict(), family.rules(ours.config)
    for rule in without_prefix(rules, family.prefix) if family.bare() else rules:
        parts = rule.layout.save(own[rule.ours])
        assert [shapes.pop(part) for part in rule.theirs] == [part.shape for part in parts], rule
    unused = [name for name in shapes if not any(fnmatchcase(name, pattern) for pattern in family.buffers)]
    assert set(unused) <= set(family.repeated(ours.config)), "only what is tied is left"


def shallow(config: dict[str, Any]) -> dict[str, Any]:
    """The same with four layers: all that there is of one is in them."""
    lists = {name: value[:4] for name, value in config.items() if name in ("layer_types", "no_rope_layers")}
    return config | lists | dict.fromkeys(DEPTHS & config.keys(), 4)


def read_family_again(fields: dict[str, Any], place: Path) -> Any:
    (place / "config.json").write_text(json.dumps(fields))
    return read_family(place)


@pytest.mark.parametrize("name", PUBLISHED["opens"])
def test_its_special_tokens_are_those_that_its_files_name(name: str, tmp_path: Path) -> None:
    said = Companions.read(folder(name, tmp_path))
    published = PUBLISHED["opens"][name]["generation"].get("eos_token_id", said.ids("eos"))
    assert said.ids("eos") == (published if isinstance(published, list) else [published])
    eos = PUBLISHED["opens"][name]["tokenizer"].get("eos_token")
    assert said.token("eos") == (eos["content"] if isinstance(eos, dict) else eos)


@pytest.mark.parametrize("name", PUBLISHED["refused"])
def test_a_public_model_of_another_family_is_refused_by_its_name(name: str, tmp_path: Path) -> None:
    family = PUBLISHED["refused"][name]
    (tmp_path / "config.json").write_text(json.dumps({"model_type": family, "hidden_size": 64}))
    with pytest.raises(ValueError, match=f"model_type = '{family}' is not a supported family"):
        read_family(tmp_path)


def test_every_family_is_among_them() -> None:
    assert {entry["config"]["model_type"] for entry in PUBLISHED["opens"].values()} == set(FAMILIES)


@pytest.mark.parametrize("family", FAMILIES)
def test_what_a_config_leaves_out_is_what_transformers_takes(family: str) -> None:
    from dataclasses import MISSING, fields

    from transformers import AutoConfig

    theirs = AutoConfig.for_model(family).to_dict()
    skipped = {"head_dim", "num_key_value_heads", "layer_types", "no_rope_layers", "sliding_window", "rope_parameters"}
    skipped |= {"id2label", "architectures", "num_decoder_layers", "scale_decoder_outputs", "forced_eos_token_id"}
    skipped |= {"decoder_vocab_size", "dense_act_fn", "is_gated_act"}
    for f in fields(FAMILIES[family]):
        if f.default is not MISSING and f.name in theirs and f.name not in skipped:
            assert f.default == theirs[f.name], f.name
