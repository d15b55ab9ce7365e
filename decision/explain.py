"""Show what an agent attends to along an episode: which kind of token, and how many steps ago, in every layer.

python -m decision.explain DIR --out FILE.png [--target-return R] [--seed N]
"""

import sys
from dataclasses import dataclass
from pathlib import Path

from core.cli.exits import main
from core.messages import number
from decision.reports.attention import draw_attended, watch
from decision.reports.options import ActingOptions, choose_environment, read_command
from decision.trained import Trained

DESCRIPTION = (
    "Lets an agent act in one episode, and draws what its state tokens attend to: returns, states or actions, and how "
    "many steps ago."
)


@dataclass(frozen=True)
class ExplainConfig(ActingOptions):
    """Settings of `decision.explain`."""

    out: Path | None = None
    """The picture to write, a .png; it replaces an earlier one."""

    def unused(self) -> dict[str, str]:
        """Fields without effect under this configuration, each with the reason."""
        return dict.fromkeys(("episodes", "envs"), "one episode is shown") | {"json": "a picture is written"}


def asked_return(trained: Trained, options: ExplainConfig) -> float | None:
    """The return to ask for: the one that is given, or the best of the data; None for a model that takes none.

    Raises ValueError for several, and for one that has no effect.
    """
    given = options.target_return
    if trained.model.config.returns == "none":
        if given:
            raise ValueError("--target-return has no effect: the model takes no return to reach")
        return None
    if len(given) > 1:
        raise ValueError(f"target_return = {given} must be one return: one episode is shown")
    return given[0] if given else trained.summary.returns[-1]


def explain(argv: list[str]) -> None:
    """The command. Raises ValueError for bad input, before the picture is touched."""
    _, options, trained = read_command(argv, ExplainConfig(), "decision.explain", DESCRIPTION)
    if options.out is None or options.out.suffix.lower() != ".png":
        given = "is missing" if options.out is None else f"= {str(options.out)!r}"
        raise ValueError(f"out {given}: name a picture that ends in .png with --out FILE.png")
    target = asked_return(trained, options)
    attended, reached = watch(trained, options, target)
    asked = "" if target is None else f"asked for {number(target)}, "
    title = f"{choose_environment(options, trained)}: {asked}reached {number(reached)}"
    draw_attended(attended, title, options.out)
    print(f"{title}\nwrote {options.out}: {attended.kinds.shape[1]} layers, {len(attended.kinds)} steps")


if __name__ == "__main__":
    main(lambda: explain(sys.argv[1:]))
