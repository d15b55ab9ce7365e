"""What is learned beside the weights of a trained model."""

from dataclasses import dataclass, field
from typing import Literal

from core.checks import check_choices, check_positive, refuse_unused
from core.cli.arguments import OPTION


@dataclass(frozen=True)
class AdapterConfig:
    """Which linear maps get an adapter, and of what kind (`core.adapters.lora`)."""

    kind: Literal["none", "lora", "dora"] = field(default="none", metadata={OPTION: "--adapter"})
    """Train small matrices beside init_from's weights, which stay as they are: lora, or dora, which learns the length
    of every row as well; none trains the weights themselves."""
    rank: int = 8
    """Rows of the small matrices; more can learn more."""
    alpha: float = 16.0
    """What they add is multiplied by alpha / rank."""
    targets: tuple[str, ...] = ("qkv", "out")
    """Linear maps by the ends of their names: qkv, or q, k and v apart, out (of attention and of feed-forward layers),
    attention.out, up; all is every linear map of the blocks."""

    def __post_init__(self) -> None:
        check_choices(self)
        check_positive(self, "rank", "alpha")
        if not self.names:
            raise ValueError(f"targets = {self.targets!r} names no linear map")
        refuse_unused(self)

    @property
    def names(self) -> tuple[str, ...]:
        """The targets, however they are separated."""
        return tuple(name for word in self.targets for name in word.split(",") if name)

    def unused(self) -> dict[str, str]:
        """Fields without effect under this configuration, each with the reason."""
        idle = ("rank", "alpha", "targets") if self.kind == "none" else ()
        return dict.fromkeys(idle, "adapter = none trains every weight")
