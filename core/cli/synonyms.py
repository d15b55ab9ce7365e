"""What other projects (nanoGPT, transformers, timm, stable-baselines3) call the options of these commands."""

from collections.abc import Sequence

THEIRS = {
    "steps": "max-iters max-steps num-steps n-steps iters iterations total-steps train-iters max-train-steps num-iters "
    "total-timesteps",
    "epochs": "epoch num-epochs n-epochs max-epochs num-train-epochs train-epochs",
    "minutes": "max-time time-limit hours",
    "batch-size": "batch bs train-batch-size per-device-train-batch-size micro-batch-size",
    "accumulate": "gradient-accumulation-steps grad-accum-steps grad-accumulation accumulate-grad-batches grad-accum",
    "eval-every": "eval-interval eval-steps evaluation-interval val-check-interval eval-freq",
    "save-every": "save-steps save-interval checkpoint-interval checkpoint-every save-freq",
    "log-every": "log-interval logging-steps log-freq log-every-n-steps",
    "keep": "save-total-limit checkpoint-hist save-top-k",
    "precision": "dtype fp16 bf16 amp mixed-precision half amp-dtype",
    "device": "cuda gpu cpu gpus accelerator no-cuda use-cpu",
    "tracker": "wandb wandb-log report-to logger log-wandb tensorboard",
    "ema": "ema-decay model-ema model-ema-decay use-ema",
    "clip": "grad-clip max-grad-norm clip-grad gradient-clip-val clip-grad-norm",
    "resume": "resume-from resume-from-checkpoint auto-resume continue",
    "out": "out-dir output-dir output save-dir save-path log-dir logdir default-root-dir results-dir",
    "data": "dataset dataset-name data-dir data-path train-file train-data data-root",
    "init-from": "model-name-or-path model-name pretrained finetune finetune-from checkpoint-path initial-checkpoint",
    "eval-batch": "eval-batch-size val-batch-size per-device-eval-batch-size validation-batch-size",
    "validation": "val-split validation-split val-size test-size val-fraction",
    "optimizer.lr": "learning-rate lr learning-rate-max max-lr base-lr peak-lr",
    "optimizer.weight-decay": "wd weight-decay decay-rate l2",
    "optimizer.betas": "beta1 beta2 adam-beta1 adam-beta2 opt-betas beta-1 beta-2",
    "optimizer.eps": "adam-epsilon opt-eps epsilon",
    "optimizer.kind": "opt optim optimizer",
    "optimizer.layer-decay": "llrd layer-wise-decay layer-lr-decay",
    "schedule.kind": "sched scheduler lr-scheduler lr-scheduler-type lr-schedule decay-lr",
    "schedule.warmup": "warmup-iters warmup-steps warmup-ratio warmup-epochs warmup lr-warmup-steps num-warmup-steps",
    "schedule.final": "min-lr lr-min final-lr",
    "context": "block-size seq-len seq-length sequence-length max-length max-seq-length max-seq-len context-length ctx "
    "context-size n-positions max-position-embeddings window-size k max-len",
    "vocab-size": "vocabulary-size n-vocab",
    "depth": "n-layer n-layers num-layers num-hidden-layers layers",
    "dim": "n-embd n-embed d-model hidden-size hidden-dim embed-dim embedding-dim width",
    "n-heads": "n-head num-heads nhead num-attention-heads heads",
    "n-kv-heads": "num-key-value-heads kv-heads n-kv-head",
    "ffn-dim": "intermediate-size d-ff dim-feedforward mlp-dim n-inner",
    "dropout": "resid-pdrop drop drop-rate hidden-dropout",
    "attention-dropout": "attn-pdrop attn-drop attn-dropout",
    "drop-path": "drop-path-rate stochastic-depth droppath",
    "image-size": "img-size input-size resolution crop-size",
    "patch": "patch-size",
    "label-smoothing": "smoothing",
    "mixup": "mixup-alpha",
    "cutmix": "cutmix-alpha",
    "env": "environment env-id env-name gym-id",
    "envs": "num-envs n-envs nenvs",
    "target-return": "target rtg return-to-go target-rtg",
    "eval-episodes": "n-eval-episodes num-eval-episodes",
    "tokens": "max-new-tokens max-tokens n-predict length",
    "prompt": "start input text",
    "samples": "num-samples num-return-sequences n",
    "beams": "num-beams beam-size",
    "temperature": "temp",
}
"""Our option, the last words of its dotted name, and the names that others have for it."""

OURS: dict[str, list[str]] = {}
for _option, _names in THEIRS.items():
    for _name in _names.split():
        OURS.setdefault(_name, []).append(_option)


def translated(word: str, flags: Sequence[str]) -> str | None:
    """The option of a command that a word of another project stands for; None where there is none."""
    for option in OURS.get(word.lstrip("-").lower().rpartition(".")[2], ()):
        for flag in flags:
            if flag == f"--{option}" or flag.endswith(f".{option}"):
                return flag
    return None
