"""Running texts: what a run is trained on, and what a trained model is evaluated on."""

from dataclasses import asdict
from pathlib import Path

from core.messages import notice
from core.training.trained import matches_data, save_data_record
from text.config import CorpusConfig, EvaluateConfig
from text.corpus.documents import Reading
from text.corpus.load import Corpus, Special, load_corpus
from text.tasks.task import chosen_tokenizer
from text.tokens.base import Tokenizer
from text.trained import Trained


def read_text(config: CorpusConfig, special: Special = "end", bpe_size: int | None = None) -> Corpus:
    """The text of a run. special, bpe_size: of a byte-pair encoding that is learned, see `load_corpus`.

    Raises ValueError for bad data, and where a run is resumed with another text.
    """
    choice = chosen_tokenizer(config, config.default_tokenizer)
    learned = choice in ("bpe", "wordpiece")  # a resumed run has its tokenizer already
    size = (config.bpe_size or bpe_size) if learned else None
    corpus = load_corpus(
        config.data, choice, vocab_size=size, special=special, validation=config.held_out, reading=config.reading
    )
    if config.resume and not matches_data(config.out, corpus.sha256):
        raise ValueError(f"data = {config.data!r} is not the text that {config.out} was trained on, or has changed")
    return corpus


def save_text(folder: Path, corpus: Corpus, tokenizer: Tokenizer) -> None:
    """Keeps the tokenizer in a run folder, and what the text was."""
    tokenizer.save(folder)
    sizes = {"train": asdict(corpus.train_size), "validation": asdict(corpus.val_size)}
    save_data_record(folder, corpus.name, corpus.sha256, **sizes)


def load_text(trained: Trained, folder: Path, options: EvaluateConfig) -> Corpus:
    """The text to evaluate on. Raises ValueError where a public model is given none."""
    config, public = trained.config, not trained.step
    assert isinstance(config, CorpusConfig)
    if not options.data:
        if public:
            raise ValueError(f"data is missing: {folder} is a public model, which has no text of its own; name one")
        corpus = load_corpus(config.data, trained.tokenizer, validation=config.held_out, reading=config.reading)
        if not matches_data(folder, corpus.sha256):
            notice(f"{corpus.name} has changed since the run was trained on it")
        return corpus
    whole = options.part == "whole" or (options.part == "auto" and public)
    reading = Reading(options.column, options.separator, "skip" if options.skip_bad else "refuse")
    return load_corpus(options.data, trained.tokenizer, validation=1.0 if whole else config.validation, reading=reading)


def part_name(corpus: Corpus) -> str:
    """What a text to evaluate on is, in a few words."""
    part = "held-out tokens" if len(corpus.train) else "tokens, all of it"
    return f"{corpus.name}: {corpus.val_size.tokens:,} {part}"
