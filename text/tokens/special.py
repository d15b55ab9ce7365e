"""Special tokens, as the files beside a public tokenizer name them, and the template of a chat.

Read are `tokenizer_config.json`, `special_tokens_map.json`, `generation_config.json`, the ids in a public `config.json`
and the chat template, which may be in a file of its own. All are kept with the tokenizer and saved with it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from core.files.atomic import write_text
from core.files.json_files import read_json, write_json

TOKENIZER_CONFIG, GENERATION_CONFIG = "tokenizer_config.json", "generation_config.json"
SPECIAL_TOKENS_MAP = "special_tokens_map.json"
TEMPLATES = ("chat_template.jinja", "chat_template.json")
IDS = ("bos_token_id", "eos_token_id", "pad_token_id")
Special = Literal["bos", "eos", "pad", "mask", "cls", "sep", "unk"]
SAID = "\ue000 what the assistant says \ue000"  # no template contains it


@dataclass(frozen=True)
class Companions:
    """What the files beside a tokenizer say."""

    tokenizer: Mapping[str, Any] = field(default_factory=dict)
    """Of tokenizer_config.json, or else special_tokens_map.json."""
    generation: Mapping[str, Any] = field(default_factory=dict)
    """Of generation_config.json; the ids of special tokens also of config.json."""
    templates: Mapping[str, str] = field(default_factory=dict)
    """The text of chat templates in files of their own, by name."""
    model_type: str = ""
    """The family that a public config.json beside them names."""

    @classmethod
    def read(cls, folder: Path) -> Companions:
        """Those in a folder. Raises ValueError naming a damaged file."""
        tokenizer = _read(folder / SPECIAL_TOKENS_MAP) | _read(folder / TOKENIZER_CONFIG)
        config = _read(folder / "config.json")
        public = config if "model_type" in config else {}  # a run folder's has the same name
        generation = {name: public[name] for name in IDS if public.get(name) is not None}
        generation |= {name: value for name, value in _read(folder / GENERATION_CONFIG).items() if value is not None}
        templates = {name: (folder / name).read_text("utf-8") for name in TEMPLATES if (folder / name).is_file()}
        return cls(tokenizer, generation, templates, str(public.get("model_type", "")))

    def save(self, folder: Path) -> None:
        """Writes them into a folder, as files of other tools."""
        for name, content in ((TOKENIZER_CONFIG, self.tokenizer), (GENERATION_CONFIG, self.generation)):
            if content:
                write_json(folder / name, content)
        for name, text in self.templates.items():
            write_text(folder / name, text)

    def with_template(self, text: str) -> Companions:
        """The same with this chat template, and no other."""
        others = {name: value for name, value in self.tokenizer.items() if name != "chat_template"}
        return replace(self, tokenizer=others, templates={TEMPLATES[0]: text})

    def token(self, name: Special) -> str | None:
        """How a special token is written."""
        token = self.tokenizer.get(f"{name}_token")
        return token.get("content") if isinstance(token, Mapping) else token

    def ids(self, name: Special) -> list[int]:
        """The ids that are given for a special token, of which there may be several."""
        ids = self.generation.get(f"{name}_token_id")
        return [] if ids is None else list(ids) if isinstance(ids, list) else [ids]

    def added(self) -> dict[int, tuple[str, bool]]:
        """Tokens beside the vocabulary, by id: how each is written, and whether it is special."""
        decoder = self.tokenizer.get("added_tokens_decoder") or {}
        return {int(index): (token["content"], token.get("special", False)) for index, token in decoder.items()}

    def end_of_turn(self, special: Iterable[str]) -> str | None:
        """The special token that a chat template writes behind what the assistant says, if it does."""
        for template in self.chat_templates():
            behind = _render(template, self).partition(SAID)[2]
            written = [(behind.index(token), -len(token), token) for token in special if token in behind]
            if written:
                return min(written)[2]
        return None

    def chat_templates(self) -> list[str]:
        """The chat templates that the files hold, the one to use first."""
        named = self.tokenizer.get("chat_template") or []
        own = [named] if isinstance(named, str) else [entry["template"] for entry in named]
        files = [
            text if name.endswith(".jinja") else json.loads(text)["chat_template"]
            for name, text in self.templates.items()
        ]
        return [*files, *own]


def _read(file: Path) -> dict[str, Any]:
    return read_json(file) if file.is_file() else {}


def _render(template: str, companions: Companions) -> str:
    """A short conversation as the template writes it; nothing where it cannot be used so."""
    from jinja2 import TemplateError

    messages = [{"role": "user", "content": "A question."}, {"role": "assistant", "content": SAID}]
    tokens = {f"{name}_token": companions.token(name) or "" for name in ("bos", "eos", "pad")}
    try:
        return render(template, messages, tokens)
    except (TemplateError, ValueError, TypeError, LookupError, AttributeError):  # it wants what only a chat has
        return ""


def render(
    template: str, messages: Sequence[Mapping[str, str]], tokens: Mapping[str, str], answer: bool = False
) -> str:
    """Messages of `role` and `content` as a chat template writes them, in Jinja's sandbox.

    tokens: how special tokens are written, as `bos_token`; answer: whether the beginning of an answer follows

    Raises what the template or the sandbox raises.
    """
    helpers = {"raise_exception": _refuse, "strftime_now": lambda form: form}
    return _compiled(template).render(messages=list(messages), add_generation_prompt=answer, **tokens, **helpers)


@lru_cache(maxsize=16)
def _compiled(template: str) -> Any:
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    extensions = ["jinja2.ext.loopcontrols"]
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=extensions)
    return environment.from_string(template)


def _refuse(message: str) -> None:
    raise ValueError(message)
