"""A trained decision model, brought back from its run folder.

policy = load_policy("runs/cartpole")
policy.reset(target_return=500)
action = policy.act(observation)
...
action = policy.act(observation, reward)
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.adapters.lora import adapt
from core.files.json_files import read_json, write_json
from core.files.serialize import from_dict, to_dict
from core.training.checkpoints import read_config
from core.training.trained import TrainedRun, load_run
from decision.acting.policy import Policy
from decision.acting.vector import VectorPolicy
from decision.config import TrainConfig
from decision.data.summary import Normaliser, Summary
from decision.models.decision_transformer import DecisionTransformer
from decision.models.pretrained import load_pretrained

if TYPE_CHECKING:
    from gymnasium.vector import VectorEnv

FILE = "trajectories.json"
"""The summary of the data, in a run folder."""


@dataclass(frozen=True)
class Trained(TrainedRun[DecisionTransformer, TrainConfig]):
    """A model in evaluation mode with what it needs to act."""

    summary: Summary


def load(folder: Path | str, which: str | int = "best", device: str = "cpu") -> Trained:
    """The model of a run folder and the summary of its data, see `core.training.trained.load_run`."""
    summary = read_summary(Path(folder))
    run = load_run(folder, TrainConfig, starting_model, which, device)
    return Trained(**vars(run), summary=summary)


def starting_model(config: TrainConfig, started: bool = False) -> DecisionTransformer:
    """The model that a run begins with: a new one, or one that has `started` from the weights of another.

    Adapters always stand beside those, whether their own weights are new or are to be filled in.
    """
    model = DecisionTransformer(config.model)
    if started or config.adapter.kind != "none":
        model.load_state_dict(read_initial(config)[0].state_dict())
    return adapt(model, config.adapter)


def read_initial(config: TrainConfig) -> tuple[DecisionTransformer, Normaliser | None]:
    """The weights to start from, and the statistics that they were trained with, where those are known."""
    folder = Path(config.init_from).expanduser()
    if (folder / FILE).is_file() or (folder / "checkpoints").is_dir():
        trained = load(folder)
        return trained.model, trained.summary.normaliser
    if not (folder / "config.json").is_file():
        accepted = "neither a run folder of decision.train nor a folder in Hugging Face's layout"
        raise ValueError(f"init_from = {config.init_from!r} is {accepted}")
    return load_pretrained(folder, config.model.context), None


def load_policy(
    folder: Path | str, which: str | int = "best", device: str = "cpu", *, temperature: float = 0.0, seed: int = 0
) -> Policy:
    """The agent of a run folder, for use in your own loop. Raises ValueError as `load` does."""
    trained = load(folder, which, device)
    return Policy(trained.model, trained.summary.normaliser, temperature=temperature, seed=seed)


def load_vector_policy(
    folder: Path | str,
    environments: VectorEnv[Any, Any, Any],
    which: str | int = "best",
    device: str = "cpu",
    *,
    temperature: float = 0.0,
    seed: int = 0,
) -> VectorPolicy:
    """The agent of a run folder, for all environments of a vector environment. Raises ValueError as `load` does."""
    trained = load(folder, which, device)
    return VectorPolicy(trained.model, trained.summary.normaliser, environments, temperature=temperature, seed=seed)


def save_summary(summary: Summary, folder: Path) -> None:
    """Keeps in a run folder the summary of the data, and the returns that are worth asking for."""
    write_json(folder / FILE, {"targets": summary.targets()} | to_dict(summary))


def read_summary(folder: Path) -> Summary:
    """The summary of the data that a run learns from. Raises ValueError naming the file or the key that is damaged."""
    require_run(folder)
    record: dict[str, Any] = read_json(folder / FILE)
    record.pop("targets", None)
    try:
        return from_dict(Summary, record)
    except ValueError as error:
        raise ValueError(f"{folder / FILE}: {error}") from error


def read_run(folder: Path) -> TrainConfig:
    """The configuration of a run. Raises ValueError naming the file that is missing, damaged or of another version."""
    require_run(folder)
    return read_config(folder, TrainConfig)


def require_run(folder: Path) -> None:
    """Raise ValueError unless a folder holds a run of `decision.train`, finished or not."""
    if not (folder / FILE).is_file():
        raise ValueError(f"{folder} is not a run folder of decision.train: it has no {FILE}")
