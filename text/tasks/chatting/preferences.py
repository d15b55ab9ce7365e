"""Learning from preferences without a model of rewards: of two answers, the better one becomes more probable relative
to a reference, the model that the run started from, and the other one less (DPO, Rafailov 2023)."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.files.atomic import atomic_write
from core.files.tensors import read_tensors, write_tensors
from core.training.config import with_steps
from core.training.metrics import read_metrics
from core.training.order import Batch, Share, shuffled
from core.training.order import share as divided
from core.training.run import Run
from text.config import EvaluateConfig
from text.conversations.encode import Encoded, encode_conversations
from text.conversations.preferences import Preferences, load_preferences, read_preferences
from text.conversations.read import Conversations
from text.conversations.template import ChatTemplate, saved_template
from text.corpus.windows import IGNORED
from text.examples.parts import Parts
from text.reports.preference_curves import draw_curves
from text.tasks.chatting.config import PreferencesConfig
from text.tasks.chatting.conversations import save_conversations, show_answers, tokens_and_template
from text.tasks.task import TextTask, check_same_data, chosen_shape
from text.tokens.base import Tokenizer
from text.trained import Trained, load_start

REFERENCE = "reference.safetensors"
"""The file of a run folder with what the reference says: it is computed once."""
CURVES = "preferences.png"
"""The file of a run folder with the course of rewards, log-probabilities and the distance to the reference."""
ROWS = 16  # conversations that are read at once
TOKENS = 256  # of held-out answers, at most, at which the distance to the reference is measured


@dataclass(frozen=True, eq=False)
class Pairs:
    """Answers as tokens, the chosen first: conversation n + i is the rejected one of pair i."""

    encoded: Encoded

    @property
    def count(self) -> int:
        return len(self.encoded) // 2

    def rows(self, pairs: Any) -> list[list[int]]:
        """The conversations of some pairs: all that were chosen, then all that were not."""
        return [[int(pair) + side * self.count] for side in (0, 1) for pair in pairs]


class Preference(TextTask):
    """Pairs of answers, a loss of how much more probable than to the reference the better one is, and rewards."""

    unit = "pairs"
    best = "val/loss"
    mode: Literal["min", "max"] = "min"
    use = "talk to it with: python -m text.chat"

    def __init__(
        self, data: Parts[Preferences], tokenizer: Tokenizer, template: ChatTemplate, config: PreferencesConfig
    ):
        self.data, self.tokenizer, self.template, self.config = data, tokenizer, template, config
        self.train, self.held_out = (
            encoded_pairs(part, template, tokenizer, config, name)
            for part, name in ((data.train, "training answer"), (data.validation, "validation answer"))
        )
        self._reference: dict[str, Tensor] = {}
        self._latest: dict[str, float] = {}  # what the last evaluation said

    @classmethod
    def prepare(cls, config: PreferencesConfig) -> Self:
        if not config.init_from:
            raise ValueError("init_from is missing: preferences are learned from a model that answers already")
        data = configured_preferences(config)
        check_same_data(config, data.fingerprint)
        tokenizer, template = tokens_and_template(config, Conversations(data.train.chosen))
        config = replace(config, model=chosen_shape(config, tokenizer.vocab_size))
        return cls(data, tokenizer, template, with_steps(config, len(data.train)))

    @property
    def reference(self) -> dict[str, Tensor]:
        """What the reference says: log-probabilities of all answers, and of all tokens at some places of some."""
        file = self.config.out / REFERENCE
        if not self._reference and self.config.resume and file.is_file():
            self._reference = read_tensors(file)
        if not self._reference:
            model = load_start(self.config.init_from, self.config.model).eval()
            logs = {name: log_probabilities(model, part) for name, part in self._parts()}
            self._reference = logs | {"places": token_logs(model, self.held_out)}
        return self._reference

    def summary(self) -> str:
        return f"{self.data.name}: {self.train.count:,} pairs of answers to train on, {self.held_out.count:,} held out"

    def save_data(self, folder: Path) -> None:
        save_conversations(folder, self.data, self.tokenizer, self.template)
        with atomic_write(folder / REFERENCE) as aside:
            write_tensors(aside, self.reference)

    def objective(self, model: nn.Module) -> nn.Module:
        return PreferenceLoss(model, self.config)

    def order(self, step: int, share: Share, progress: float) -> list[Batch]:
        """The micro-batches of a step, chosen answers before rejected ones, see `PreferenceLoss`."""
        chosen = shuffled(self.config.seed, step, self.config.batch_size, self.train.count)
        return [self._batch("train", self.train, pairs) for pairs in divided(chosen, *share)]

    @staticmethod
    def count(*batch: Tensor) -> int:
        """How many pairs are in a micro-batch."""
        return len(batch[0]) // 2

    @torch.no_grad()
    def evaluate(self, run: Run) -> dict[str, float]:
        """Loss, how often the better answer has the greater reward, rewards, log-probabilities, and the distance to the
        reference in nats a token, KL(model || reference), at the first places of held-out answers."""
        model, config = run.state.model, self.config
        logs, reference = log_probabilities(model, self.held_out, run.device), self.reference
        lengths = answer_lengths(self.held_out)
        values = preference_figures(logs, reference["validation"], lengths, config)
        values["kl"] = float(distance(token_logs(model, self.held_out, run.device), reference["places"]))
        self._latest = {f"val/{name}": value for name, value in values.items()}
        return self._latest

    def show(self, run: Run) -> None:
        """Draws the course of all evaluations, and answers the first questions held out, in samples/step-*.txt."""
        if not run.main:
            return
        before = [one for one in read_metrics(run.folder) if "val/kl" in one]
        draw_curves([*before, {"step": run.step, **self._latest}], run.folder / CURVES)
        if self.config.sample:
            show_answers(run, self.tokenizer, self.template, self.data.validation.chosen[: self.config.sample])

    @classmethod
    def evaluate_trained(cls, trained: Trained, folder: Path, options: EvaluateConfig) -> tuple[str, dict[str, float]]:
        config = trained.config
        assert isinstance(config, PreferencesConfig)
        held_out = read_preferences(options.data) if options.data else configured_preferences(config).validation
        pairs = encoded_pairs(held_out, saved_template(folder, trained.tokenizer), trained.tokenizer, config, "answer")
        model = load_start(config.init_from, config.model).eval().to(trained.device)
        logs, reference = (log_probabilities(each, pairs, trained.device) for each in (trained.model, model))
        values = preference_figures(logs, reference, answer_lengths(pairs), config)
        values["kl"] = float(distance(*(token_logs(each, pairs, trained.device) for each in (trained.model, model))))
        return f"{pairs.count:,} pairs of answers", {f"val/{name}": value for name, value in values.items()}

    def _parts(self) -> list[tuple[str, Pairs]]:
        return [("train", self.train), ("validation", self.held_out)]

    def _batch(self, name: str, pairs: Pairs, chosen: Any) -> Batch:
        rows = pairs.rows(chosen)
        places = torch.tensor([row for [row] in rows])
        return *pairs.encoded.batch(rows), self.reference[name][places]


class PreferenceLoss(nn.Module):
    """The training objective as a module, so that it compiles and distributes as one."""

    def __init__(self, model: Any, config: PreferencesConfig):
        super().__init__()
        self.model, self.config = model, config

    def forward(self, ids: Tensor, targets: Tensor, texts: Tensor, reference: Tensor) -> Tensor:
        """The loss summed over pairs: 3 x (2 b, T) int64, the chosen first, reference (2 b,) -> () float32."""
        logs, lengths = row_logs(self.model, ids, targets, texts), (targets != IGNORED).sum(1)
        return pair_loss(logs, reference, lengths, self.config).sum()


def pair_loss(logs: Tensor, reference: Tensor, lengths: Tensor, config: PreferencesConfig) -> Tensor:
    """The loss of each pair with imitation: log-probabilities, the reference's, and tokens, 3 x (2 b,) -> (b,)."""
    preferred = preference_loss(logs - reference, lengths, config.loss, config.beta)
    return preferred - config.imitation * (logs / lengths).chunk(2)[0]


def preference_loss(ratios: Tensor, lengths: Tensor, kind: str, beta: float) -> Tensor:
    """The loss of each pair: log-ratios to the reference and lengths of answers, 2 x (2 b,), chosen first -> (b,)."""
    chosen, rejected = (ratios / lengths if kind == "normalised" else ratios).chunk(2)  # 2 x (b,)
    margin = chosen - rejected
    return (margin - 1 / (2 * beta)).square() if kind == "ipo" else -F.logsigmoid(beta * margin)


def row_logs(model: Any, ids: Tensor, targets: Tensor, texts: Tensor) -> Tensor:
    """The log-probability of the targets of each row together: 3 x (B, T) int64 -> (B,) float32."""
    wanted = targets != IGNORED  # (B, T)
    logits = model.head(model.features(ids, texts=texts)[wanted]).float()  # (N, V)
    each = -F.cross_entropy(logits, targets[wanted], reduction="none")  # (N,)
    rows = wanted.nonzero()[:, 0]  # (N,)
    return each.new_zeros(len(ids)).index_add(0, rows, each)


@torch.no_grad()
def log_probabilities(model: Any, pairs: Pairs, device: torch.device | str = "cpu") -> Tensor:
    """Of all answers, the chosen first: float32 (2 n,)."""
    order = np.argsort(pairs.encoded.ids.lengths, kind="stable")
    found = torch.zeros(len(order))
    for chosen in np.split(order, range(ROWS, len(order), ROWS)):
        batch = pairs.encoded.batch([[int(row)] for row in chosen])
        found[torch.from_numpy(chosen)] = row_logs(model, *(part.to(device) for part in batch)).cpu()
    return found


@torch.no_grad()
def token_logs(model: Any, pairs: Pairs, device: torch.device | str = "cpu") -> Tensor:
    """Log-probabilities of all tokens at the first TOKENS places of chosen answers: float32 (N, V)."""
    found: list[Tensor] = []
    for row in range(pairs.count):
        ids, targets, texts = (part.to(device) for part in pairs.encoded.batch([[row]]))
        logits = model.head(model.features(ids, texts=texts)[targets != IGNORED]).float()
        found.append(logits.log_softmax(-1).cpu())
        if sum(map(len, found)) >= TOKENS:
            break
    return torch.cat(found)[:TOKENS]


def distance(own: Tensor, reference: Tensor) -> Tensor:
    """KL(own || reference), the mean over places: log-probabilities 2 x (N, V) -> ()."""
    return (own.exp() * (own - reference)).sum(-1).mean()


def preference_figures(logs: Tensor, reference: Tensor, lengths: Tensor, config: PreferencesConfig) -> dict[str, float]:
    """What is measured of answers, the chosen first: log-probabilities, those of the reference, tokens: 3 x (2 n,)."""
    chosen, rejected = (config.beta * (logs - reference)).chunk(2)
    values = {
        "loss": pair_loss(logs, reference, lengths, config).mean(),
        "accuracy": (chosen > rejected).float().mean(),
        "reward_chosen": chosen.mean(),
        "reward_rejected": rejected.mean(),
        "reward_margin": (chosen - rejected).mean(),
        "logp_chosen": logs.chunk(2)[0].mean(),
        "logp_rejected": logs.chunk(2)[1].mean(),
    }
    return {name: float(value) for name, value in values.items()}


def answer_lengths(pairs: Pairs) -> Tensor:
    """The targets of every answer: int64 (2 n,)."""
    encoded = pairs.encoded
    return torch.tensor([int(encoded.answered[row][1:].sum()) for row in range(len(encoded))])


def encoded_pairs(
    part: Preferences, template: ChatTemplate, tokenizer: Tokenizer, config: PreferencesConfig, name: str
) -> Pairs:
    """Preferences as tokens, of which those of the last answers are learned."""
    both = [*part.chosen, *part.rejected]
    found = encode_conversations(template, tokenizer, both, config.model.context, config.too_long, name, "last")
    return Pairs(found)


def configured_preferences(config: PreferencesConfig) -> Parts[Preferences]:
    """The preferences that a configuration names. Raises ValueError for bad data."""
    if not config.data:
        raise ValueError("data is missing: name a file of preferences with --data")
    return load_preferences(
        config.data,
        validation=config.validation,
        validation_data=config.validation_data,
        bad="skip" if config.skip_bad else "refuse",
    )
