"""The commands that let a trained model act: their shared settings, and acting by them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, TypeVar

from core.checks import check_at_least, check_positive
from core.cli.arguments import parse_fields, run_folder
from core.devices import device_kind, keep_freed_memory
from core.messages import notice
from core.training.trained import EvaluateOptions
from decision.acting.episodes import Rollouts, roll_out, without_limit
from decision.acting.policy import check_finite
from decision.config import renamed
from decision.environments.make import open_environments
from decision.environments.settings import AS_REGISTERED, EnvSettings, parse_arguments
from decision.models.decision_transformer import DecisionTransformer
from decision.trained import Trained, load


@dataclass(frozen=True)
class ActingOptions(EvaluateOptions):
    """The settings that `decision.evaluate` and `decision.rollout` share."""

    target_return: tuple[float, ...] = ()
    """Returns to ask for, in the unit of the environment; default those of the data."""
    episodes: int = 100
    """Episodes for each target."""
    seed: int = 0
    """Decides how the episodes begin, the same way for every target."""
    temperature: float = 0.0
    """0 takes the most probable action; above 0 actions are drawn, at 1 as often as predicted."""
    env: str = ""
    """Gymnasium's id of another environment of the same spaces; default the one that the run was evaluated in."""
    env_args: tuple[str, ...] = ()
    """Arguments of the environment, NAME=VALUE, such as is_slippery=false; max_episode_steps=N sets its limit."""
    envs: int = 64
    """The most environments to act in at once."""
    max_steps: int | None = None
    """Steps after which an episode is cut off; default the environment's own limit, else that of the model."""
    out: Path | None = None
    """Folder for the episodes and the figures; default one inside DIR, or DIR itself."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "episodes", "envs", "max_steps")
        check_at_least(self, 0, "temperature", "seed")
        parse_arguments(self.env_args)
        for target in self.target_return:
            check_finite("target_return", target)


S = TypeVar("S", bound=ActingOptions)


def read_command(argv: list[str], settings: S, command: str, description: str) -> tuple[Path, S, Trained]:
    """The run folder of a command line, its settings, and the agent."""
    folder, rest = run_folder(renamed(argv), command)
    options = parse_fields(settings, rest, prog=f"python -m {command} DIR", description=description)
    kind = device_kind(options.device)
    if kind == "cpu":
        keep_freed_memory()  # for the next step
    return folder, options, load(folder, options.checkpoint, kind)


def choose_targets(options: ActingOptions, trained: Trained) -> dict[float, str]:
    """Returns to ask for, each with its name ("" where it has none); equal ones once.

    Raises ValueError for a target of a model without return tokens.
    """
    conditioned = trained.model.config.returns == "token"
    if options.target_return:
        if not conditioned:
            raise ValueError("--target-return has no effect: the model takes no return to reach")
        return dict.fromkeys(options.target_return, "")
    targets: dict[float, str] = {}
    for name, target in trained.summary.targets().items() if conditioned else ():
        targets[target] = f"{targets[target]}, {name}" if target in targets else name
    return targets


def choose_environment(options: ActingOptions, trained: Trained) -> str:
    """Gymnasium's id of the environment to act in. Raises ValueError where it is unknown."""
    identifier = options.env or trained.config.env or trained.summary.environment
    if not identifier:
        raise ValueError("the environment of the data is unknown: name one with --env")
    return identifier


def choose_settings(options: ActingOptions, trained: Trained) -> EnvSettings:
    """How that environment is made: as in the run, or as it is registered where another is named."""
    own = AS_REGISTERED if options.env else trained.config.settings(trained.summary.settings)
    return own.with_arguments(options.env_args)


def act(trained: Trained, options: ActingOptions, targets: Sequence[float]) -> Rollouts:
    """Plays all episodes, with a progress bar on a terminal. Raises what `roll_out` and `environments.make` raise."""
    from tqdm import tqdm

    identifier, total = choose_environment(options, trained), options.episodes * max(1, len(targets))
    settings, most = choose_settings(options, trained), min(total, options.envs)
    if options.max_steps is None and (said := without_limit(identifier, settings, trained.model.config.longest)):
        notice(said)
    with (
        open_environments(identifier, most, settings, **limits(trained.model, options)) as environments,
        tqdm(total=total, unit="episodes", desc=identifier, disable=None) as bar,
    ):
        return roll_out(
            trained.model,
            trained.summary.normaliser,
            environments,
            targets,
            options.episodes,
            seed=options.seed,
            temperature=options.temperature,
            progress=bar.update,
        )


def limits(model: DecisionTransformer, options: ActingOptions) -> dict[str, int | None]:
    """Where episodes are cut off, as arguments of `environments.make`."""
    return {"max_steps": options.max_steps, "longest": model.config.longest}


def record_of(options: ActingOptions, trained: Trained) -> dict[str, Any]:
    """What was evaluated, and how, as the beginning of a command's JSON object."""
    return {
        "step": trained.step,
        "environment": choose_environment(options, trained),
        "episodes": options.episodes,
        "seed": options.seed,
        "temperature": options.temperature,
    }


def heading(options: ActingOptions, trained: Trained) -> str:
    """The first line of what a command prints."""
    environment = choose_environment(options, trained)
    return f"{environment}, checkpoint of step {trained.step}: {options.episodes} episodes for each target"


def place_to_write(options: ActingOptions, default: Path) -> Path | None:
    """The folder for results; None, with a notice, where that of the run is read-only and --out names no other.

    Raises ValueError where nothing can be written to the folder that --out names.
    """
    try:
        require_writable(options.out or default)
    except ValueError as error:
        if options.out:
            raise
        notice(f"{error}: the results are only printed, --out FOLDER keeps them")
        return None
    return options.out or default


def require_writable(folder: Path) -> None:
    """Raise ValueError unless files can be written to a folder, which may have to be made."""
    existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    try:
        with TemporaryFile(dir=existing):
            pass
    except OSError as error:
        raise ValueError(f"nothing can be written to {folder}: {error.strerror}") from error
