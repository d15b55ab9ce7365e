"""Named configurations, each with the result that was measured."""

from dataclasses import replace
from typing import Literal

from core.config import PositionConfig, TransformerConfig
from core.optim.config import OptimizerConfig, ScheduleConfig
from text.config import DenoisingConfig, LanguageModellingConfig, MaskedConfig, TextConfig, TranslationConfig
from text.models.encoder import ClassifierConfig, EmbedderConfig, MaskedLMConfig, TaggerConfig
from text.models.encoder_decoder import EncoderDecoderConfig, shape_2017, shape_modern
from text.models.gpt import GPTConfig
from text.models.heads import HeadConfig
from text.models.recurrent import RecurrentConfig
from text.models.recurrent_seq2seq import RecurrentSeq2SeqConfig
from text.tasks.chatting.config import InstructionsConfig, PreferencesConfig
from text.tasks.embedding_config import EmbeddingConfig
from text.tasks.labelling.configs import ClassificationConfig, TaggingConfig

Bias = Literal["all", "none"]
PLAIN = ScheduleConfig(kind="cosine", warmup=0.05, final=0.1)
PLATEAU = ScheduleConfig(kind="wsd", warmup=0.02, decay=0.5, final=0.0)
MUON = OptimizerConfig("muon", lr=3e-3, betas=(0.9, 0.99))


def gpt2_core(dim: int, depth: int, n_heads: int, dropout: float = 0.0, bias: Bias = "none") -> TransformerConfig:
    """GPT-2's block; without biases, as nanoGPT trains it."""
    return TransformerConfig(
        dim=dim,
        depth=depth,
        n_heads=n_heads,
        bias=bias,
        dropout=dropout,
        attention_dropout=dropout,
        feedforward="gelu-tanh" if bias == "all" else "gelu",
        position=PositionConfig("learned"),
    )


def modern_core(dim: int, depth: int, n_heads: int, dropout: float = 0.0) -> TransformerConfig:
    """Rotary positions, QK-norm, squared ReLU, zero-initialised branches, norms without a gain: transformers' nanochat.

    Each is measured in docs/lab-notes.md.
    """
    return TransformerConfig(
        dim=dim,
        depth=depth,
        n_heads=n_heads,
        bias="none",
        dropout=dropout,
        feedforward="relu2",
        norm="rms",
        embedding_norm="rms",
        qk_norm="rms",
        init="zero-residual",
    )


def modernbert_core(dim: int, depth: int, n_heads: int, ffn_dim: int, dropout: float = 0.0) -> TransformerConfig:
    """ModernBERT's block (Warner 2024, 2.1) without its windows: rotary positions, gated GELU, no biases."""
    return TransformerConfig(
        dim=dim,
        depth=depth,
        n_heads=n_heads,
        ffn_dim=ffn_dim,
        bias="none",
        dropout=dropout,
        feedforward="geglu",
        embedding_norm="layernorm",
        first_norm="none",
        init="zero-residual",
    )


CHAR_MODERN = LanguageModellingConfig(
    steps=1450,
    batch_size=16,
    optimizer=MUON,
    schedule=PLATEAU,
    model=GPTConfig(context=128, head="untied", core=modern_core(128, 4, 4)),
)

MULTI30K = TranslationConfig(
    minutes=20,
    batch_size=4096,
    eval_every=500,
    save_every=250,
    keep=5,
    optimizer=OptimizerConfig(lr=1e-3, betas=(0.9, 0.98), weight_decay=0.0),
    schedule=ScheduleConfig(kind="inverse-sqrt", warmup=0.1),
    model=shape_2017(dim=192, depth=4, n_heads=6, ffn_dim=768, dropout=0.1, context=128),
)
LSTM = RecurrentSeq2SeqConfig(dim=384, depth=1, dropout=0.3, context=128, attention="none", encoder="reversed")
RECURRENT = replace(MULTI30K, minutes=6, optimizer=replace(MULTI30K.optimizer, lr=3e-3), schedule=PLAIN, model=LSTM)

PRESETS: dict[str, TextConfig] = {
    # The quick start: loss 1.571 on tiny Shakespeare in 66 seconds on 2 cores of an Intel Xeon (seed 0, bf16); with
    # LayerNorm 1.595 in a minute on 2 cores of an AMD EPYC 9005.
    "char-cpu": replace(CHAR_MODERN, steps=700, eval_every=100),
    # Shape, budget and recipe of nanoGPT's command for a CPU, in float32: 1.8903 on tiny Shakespeare (seed 0) in 95
    # core-seconds of an AMD EPYC 9005; nanoGPT itself ends at 1.898 after 138.
    "nanogpt-cpu": LanguageModellingConfig(
        steps=2000,
        batch_size=12,
        window_order="random",
        precision="fp32",
        optimizer=OptimizerConfig(lr=1e-3, betas=(0.9, 0.99)),
        schedule=PLAIN,
        model=GPTConfig(context=64, core=gpt2_core(128, 4, 4)),
    ),
    # The best recipe found for the compute of nanoGPT's command: 1.477 on tiny Shakespeare in float32 (seed 0). With
    # LayerNorm 1.499; in bf16 1.497 +- 0.006 (seeds 0 to 2), 155 core-seconds of an AMD EPYC 9005, evaluations
    # included.
    "char-modern": CHAR_MODERN,
    # Shape, budget and recipe of nanoGPT's command for a GPU; its own result is 1.4697 in 3 minutes on an A100.
    # Not measured yet: there was no GPU.
    "nanogpt-gpu": LanguageModellingConfig(
        steps=5000,
        batch_size=64,
        window_order="random",
        compile="default",
        optimizer=OptimizerConfig(lr=1e-3, betas=(0.9, 0.99)),
        schedule=ScheduleConfig(kind="cosine", warmup=0.02, final=0.1),
        model=GPTConfig(context=256, core=gpt2_core(384, 6, 6, dropout=0.2)),
    ),
    # The modern recipe at that shape. Not measured yet: there was no GPU.
    "char-gpu-modern": LanguageModellingConfig(
        steps=1000,
        batch_size=64,
        eval_every=100,
        save_every=500,
        compile="default",
        optimizer=MUON,
        schedule=PLATEAU,
        model=GPTConfig(context=256, head="untied", core=modern_core(384, 6, 6, dropout=0.2)),
    ),
    # GPT-2's smallest shape over 10 billion tokens in batches of half a million. Not measured yet: there was no GPU.
    "gpt2-124m": LanguageModellingConfig(
        steps=19_073,
        batch_size=512,
        accumulate=16,
        tokenizer="gpt2",
        validation=0.001,
        eval_every=1000,
        save_every=1000,
        compile="default",
        optimizer=OptimizerConfig(lr=6e-4, betas=(0.9, 0.95)),
        schedule=ScheduleConfig(kind="cosine", warmup=0.04, final=0.1),
        model=GPTConfig(vocab_size=50304, context=1024, core=gpt2_core(768, 12, 12, bias="all")),
    ),
    # A masked language model in ModernBERT's layout, on novels. Larger fractions than 15 % suit small models no less
    # (Wettig 2023), and give more targets a step. 28.9 % of the hidden tokens are right, the pseudo-perplexity is 57.8
    # after 918 steps, 14 core-minutes of one thread (Intel Xeon with AMX, shared; seed 0, bf16).
    "mlm-cpu": MaskedConfig(
        minutes=14,
        data="british_novels",
        batch_size=32,
        masked=0.3,
        eval_every=500,
        optimizer=MUON,
        schedule=PLATEAU,
        model=MaskedLMConfig(
            context=128, head=HeadConfig("dense-norm", "gelu", "output"), core=modernbert_core(256, 4, 4, ffn_dim=704)
        ),
    ),
    # A small T5 1.1 on novels: spans of 3 tokens are left out, 15 % of the text. Validation loss 4.864, 29.1 % of the
    # tokens left out are right after 952 steps, 14 core-minutes of one thread (Intel Xeon with AMX, shared; seed 0,
    # bf16). That is too little to be a start for translation (docs/lab-notes.md).
    "t5-cpu": DenoisingConfig(
        minutes=14,
        data="british_novels",
        batch_size=32,
        eval_every=500,
        optimizer=MUON,
        schedule=PLATEAU,
        model=shape_modern(256, 4, n_heads=4, head_dim=None, ffn_dim=512, dropout=0.0, context=128),
    ),
    # Vectors of English and German sentences, of which those of one picture are near to each other. In test_2016, of
    # 1,000 in the other language, the right one is the nearest for 91.0 % of the sentences (mean reciprocal rank 0.940)
    # after 325 steps, 6 core-minutes of one thread (Intel Xeon with AMX, shared; seed 0, bf16).
    "embed-cpu": EmbeddingConfig(
        minutes=6,
        data="multi30k",
        batch_size=128,
        group=128,
        eval_every=100,
        optimizer=MUON,
        schedule=PLATEAU,
        model=EmbedderConfig(context=64, core=modernbert_core(256, 4, 4, ffn_dim=704, dropout=0.1)),
    ),
    # The 2017 Transformer on Multi30k, English to German, test_2016, beams of 5: BLEU 33.4 lower-cased and tokenised,
    # 33.0 cased by 13a (34.7 and 34.3 with the mean of the last five checkpoints); greedily 31.1 and 30.7. 3,340 steps,
    # 2,400 core-seconds of one thread, --minutes 40 --clock cpu (Intel Xeon with AMX, shared; seed 0, bf16).
    "multi30k": MULTI30K,
    # The same budget and size with the modern block and Muon, which finds in 300 steps how words belong together, where
    # Adam and the paper's block need 2,000. English to German, test_2016, beams of 5: BLEU 40.3 lower-cased and
    # tokenised, 39.9 cased by 13a; greedily 38.9 and 38.5. 2,515 steps, 2,400 core-seconds of one thread, --minutes 40
    # --clock cpu (Intel Xeon with AMX, shared; seed 0, bf16).
    "multi30k-modern": replace(
        MULTI30K,
        optimizer=MUON,
        schedule=PLATEAU,
        model=EncoderDecoderConfig(context=128, core=modern_core(192, 4, 6, dropout=0.25)),
    ),
    # What came before: one LSTM to read the sentence and one to write it (Sutskever 2014); with Bahdanau's attention
    # (2015); with Luong's (2015). BLEU as above after 6 core-minutes, --minutes 6 --clock cpu, means of three seeds:
    # 17.6, 26.6 and 32.8 lower-cased (benchmarks/results/translation_ladder.json).
    "multi30k-lstm": RECURRENT,
    "multi30k-bahdanau": replace(
        RECURRENT, model=replace(LSTM, cell="gru", attention="additive", encoder="bidirectional")
    ),
    "multi30k-luong": replace(RECURRENT, model=replace(LSTM, attention="dot", encoder="bidirectional")),
    # An LSTM in place of the Transformer of char-cpu: loss 1.683 on tiny Shakespeare after as many steps, in 45
    # core-seconds (one thread of an Intel Xeon with AMX; seed 0, bf16), where that has 1.571.
    "char-lstm": replace(
        CHAR_MODERN,
        steps=700,
        eval_every=100,
        optimizer=OptimizerConfig(lr=3e-3, betas=(0.9, 0.99)),
        model=RecurrentConfig(context=128, dim=256, depth=1, head="untied"),
    ),
    # Sentences of film reviews, negative or positive, learned from their phrases; each word is read as the mean of its
    # form, beginnings, ends and shape. 83.5, 82.9 and 83.5 % of the test sentences at the last step (seeds 0 to 2), in
    # 55 core-seconds of one thread (Intel Xeon with AMX, shared; bf16); on another machine 82.5 (seed 0). With
    # byte-pair encoding 80.5.
    "sst2": ClassificationConfig(
        epochs=3,
        data="sst2:phrases",
        tokenizer="affixes",
        min_count=8,
        batch_size=256,
        eval_every=132,
        save_every=264,
        ema=0.998,
        label_smoothing=0.1,
        token_dropout=0.4,
        optimizer=OptimizerConfig(lr=1e-3, betas=(0.9, 0.98), eps=1e-5),
        schedule=PLATEAU,
        model=ClassifierConfig(
            context=128,
            words="early-mean",
            pooling="mean",
            head=HeadConfig("dense-norm", "gelu", "output"),
            core=modernbert_core(128, 1, 2, ffn_dim=256, dropout=0.4),
        ),
    ),
    # Parts of speech of English, each word read as its form, its beginnings and ends, and its shape. 94.67 % of the
    # test words, 94.56 % of the validation ones after 998 steps, 152 core-seconds (one thread, 2 cores of an Intel
    # Xeon, shared; seed 0, bf16, with --minutes 2.5 --clock cpu); after 402 steps, 76 core-seconds, 94.84 and 94.26 %.
    "ud-pos": TaggingConfig(
        steps=1000,
        batch_size=2048,
        eval_every=250,
        save_every=500,
        ema=0.998,
        label_smoothing=0.1,
        token_dropout=0.2,
        optimizer=MUON,
        schedule=PLATEAU,
        model=TaggerConfig(context=256, words="early-mean", core=modern_core(128, 2, 4, dropout=0.2)),
    ),
    # Secondary structure of proteins (helix, strand, coil) from a single sequence, residues with their neighbours.
    # 71.4 % of the residues of CB513, 72.2 % of NEW364's and 72.4 % of the validation ones after 761 steps, 26 minutes
    # of one thread, --minutes 26 --clock cpu (Intel Xeon with AMX, shared; seed 0, bf16).
    "protein-q3": TaggingConfig(
        minutes=15,
        data="protein_ss",
        tokenizer="char",
        batch_size=8192,
        eval_every=250,
        save_every=500,
        ema=0.998,
        optimizer=MUON,
        schedule=PLATEAU,
        model=TaggerConfig(context=2048, neighbours=8, core=modern_core(128, 4, 4, dropout=0.1)),
    ),
    # Answers to six small skills, made by rule, from no weights; with --init-from and --adapter lora, those of a model.
    # All held-out answers are right to the letter (seeds 0 to 2) after 180 core-seconds (one thread of an Intel Xeon
    # with AMX, bf16).
    "instruct": InstructionsConfig(
        steps=1000,
        batch_size=16,
        tokenizer="char",
        template="tags",
        eval_every=250,
        optimizer=MUON,
        schedule=PLATEAU,
        model=GPTConfig(context=128, head="untied", core=modern_core(128, 4, 4)),
    ),
    # Which of two answers is better, from a model that answers on. Sentences over words, six skills: 96.7 % of 600
    # answers are a right sentence, where 94.8 % were right in either form, 150 core-seconds (seed 0, Intel Xeon with
    # AMX). With beta 0.1 and no imitation, 30 %: docs/lab-notes.md.
    "prefer": PreferencesConfig(
        beta=1.0,
        imitation=1.0,
        epochs=1,
        batch_size=16,
        eval_every=50,
        save_every=50,
        optimizer=OptimizerConfig(lr=1e-4, betas=(0.9, 0.99), weight_decay=0.0),
        schedule=PLAIN,
        model=GPTConfig(context=128, head="untied", core=modern_core(128, 4, 4)),
    ),
}
