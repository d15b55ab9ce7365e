"""Conversations of a run: its tokenizer, its template, and what is kept of them in its folder."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from core.decoding.filters import Sampling
from core.files.atomic import write_text
from core.training.run import Run
from core.training.trained import save_data_record
from text.conversations.messages import Conversation
from text.conversations.read import Conversations, load_conversations
from text.conversations.template import CHATML, FILE, MARKS, ChatTemplate, choose_template
from text.corpus.sequences import choose_tokenizer
from text.examples.parts import Parts
from text.pretrained.start import start_folder
from text.tasks.chatting.config import ConversationConfig
from text.tasks.task import chosen_tokenizer
from text.tokens.base import ByteTokenizer, Tokenizer
from text.tokens.bpe import BPETokenizer
from text.using.answering import Answering

ANSWER = 200  # tokens of an answer in samples/, at most


def configured_conversations(config: ConversationConfig) -> Parts[Conversations]:
    """The conversations that a configuration names. Raises ValueError for bad data."""
    return load_conversations(
        config.data,
        validation=config.validation,
        validation_data=config.validation_data,
        bad="skip" if config.skip_bad else "refuse",
    )


def tokens_and_template(config: ConversationConfig, train: Conversations) -> tuple[Tokenizer, ChatTemplate]:
    """The tokenizer of a run, which may be learned from the training part, and the template.

    A learned byte-pair encoding has tokens of their own for chatml's marks.
    """
    choice = chosen_tokenizer(config, config.default_tokenizer)
    texts, key = [message.content for messages in train.messages for message in messages], train.fingerprint
    if choice == "char":  # the template's own characters are needed as well
        written = choose_template(config.template, ByteTokenizer())
        texts, key = [written.write(messages).text for messages in train.messages], f"{key} {written.source}"
    tokenizer = choose_tokenizer(choice, texts, key, config.bpe_size or 8000)
    if choice == "bpe" and isinstance(tokenizer, BPETokenizer) and config.template in ("", "chatml"):
        said = {"chat_template": CHATML, "eos_token": MARKS[-1]}
        companions = replace(tokenizer.companions, tokenizer={**tokenizer.companions.tokenizer, **said})
        tokenizer = tokenizer.extended(MARKS, companions, before="nothing")
    return tokenizer, _template(config, tokenizer)


def _template(config: ConversationConfig, tokenizer: Tokenizer) -> ChatTemplate:
    """That which is asked for, or else that of a resumed run, of the model to start from, or of the tokenizer."""
    places = [config.out] if config.resume else []
    places += [start_folder(config.init_from)] if config.init_from else []
    found = [str(place / FILE) for place in places if (place / FILE).is_file()]
    return choose_template(config.template or next(iter(found), ""), tokenizer)


def save_conversations(folder: Path, data: Parts[Any], tokenizer: Tokenizer, template: ChatTemplate) -> None:
    """Keeps the tokenizer and the template in a run folder, and what the conversations were."""
    tokenizer.save(folder)
    template.save(folder)
    sizes = {"train": len(data.train), "validation": len(data.validation)}
    save_data_record(folder, data.name, data.fingerprint, **sizes)


def show_answers(run: Run, tokenizer: Tokenizer, template: ChatTemplate, conversations: Sequence[Conversation]) -> None:
    """Answers the last questions of conversations, into samples/step-*.txt."""
    model: Any = run.state.model
    answering, lines = Answering(model, tokenizer, template, run.device), []
    for messages in conversations:
        try:
            said = "".join(answering.answer(messages[:-1], Sampling(temperature=0), ANSWER))
        except ValueError as error:  # the question alone is too long
            said = f"({error})"
        lines.append(f"{messages[-2].content}\n  {said}\n  ({messages[-1].content})\n")
    write_text(run.folder / "samples" / f"step-{run.step:08d}.txt", "\n".join(lines))
