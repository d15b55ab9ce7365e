"""Record the trajectories of a policy as a data set.

    python -m decision.collect --env ID --policy P --steps N --out FILE
    python -m decision.collect --join DATA ... --out FILE

The recipes of D4RL:

    random           --policy random
    medium           --policy ppo --level medium
    medium-replay    --policy ppo --level medium --record replay
    expert           --policy ppo --level expert
    medium-expert    --join MEDIUM EXPERT

An interrupted recording keeps its episodes in the folder FILE.part, and the same command continues it; the training of
an agent begins anew if it is interrupted. One training makes both medium-replay and medium: the former with
`--agent medium.pt` saves the agent, which `--policy medium.pt` records. `--join` takes one data set or more, of any
kind, and writes a native file or, as `--out minari:NAME`, a Minari data set.
"""

import sys

from core.cli.arguments import parse_fields
from core.cli.exits import main
from core.messages import number
from decision.collecting.config import CollectConfig
from decision.collecting.record import collect, join


def collect_or_join(argv: list[str]) -> None:
    """The command."""
    config = parse_fields(CollectConfig(), argv, prog="python -m decision.collect", description=__doc__ or "")
    if not (config.env or config.join):
        raise ValueError("name an environment to record with --env, or data sets to join with --join")
    data = join(config.join, config.out) if config.join else collect(config)
    returns = data.returns()
    size = f"{len(data):,} episodes, {data.steps:,} steps of {data.environment or 'an unknown environment'}"
    spread = f"{number(returns.min())} to {number(returns.max())}, {number(returns.mean())} on average"
    print(f"{config.out}: {size}; returns {spread}")


if __name__ == "__main__":
    main(lambda: collect_or_join(sys.argv[1:]))
