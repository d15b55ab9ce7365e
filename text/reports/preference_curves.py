"""How rewards, log-probabilities and the distance to the reference went along a training by preferences."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from core.files.figures import ACCENT, ALARM, RULE, blank_figure, save_figure

PANELS = {
    "reward": ("reward_chosen", "reward_rejected"),
    "log-probability of an answer, nats": ("logp_chosen", "logp_rejected"),
    "KL from the reference, nats a token": ("kl",),
}
"""The title of each panel, and the figures in it."""
LINES = {"chosen": ACCENT, "rejected": ALARM, "kl": ACCENT}


def draw_curves(evaluations: Sequence[Mapping[str, Any]], file: Path) -> None:
    """Writes a PNG file of held-out answers: a panel for each of PANELS, over steps.

    evaluations: one for each evaluation, with `step` and the figures of PANELS, each as `val/NAME`
    """
    figure = blank_figure(3.6 * len(PANELS), 3.0)
    steps = [one["step"] for one in evaluations]
    for axes, (title, names) in zip(figure.subplots(1, len(PANELS)), PANELS.items(), strict=True):
        for name in names:
            label = name.rpartition("_")[2]
            axes.plot(steps, [one[f"val/{name}"] for one in evaluations], "o-", ms=3, color=LINES[label], label=label)
        axes.set_title(title, fontsize=9)
        axes.set_xlabel("step", fontsize=8)
        axes.tick_params(labelsize=7)
        axes.grid(color=RULE, linewidth=0.6)
        if len(names) > 1:
            axes.legend(frameon=False, fontsize=8)
    save_figure(figure, file)
