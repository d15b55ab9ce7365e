"""Episodes as films: GIF by Pillow, or MP4 by ffmpeg if imageio-ffmpeg is installed."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import gymnasium
import numpy as np
from gymnasium.error import DependencyNotInstalled, Error
from numpy.typing import NDArray

from core.files.atomic import atomic_write
from core.messages import first_line
from decision.acting.episodes import play
from decision.acting.policy import ModelPolicy
from decision.environments.make import episode_seed, make, name_of, remedy
from decision.reports.options import ActingOptions
from decision.trained import Trained

if TYPE_CHECKING:
    from PIL.Image import Image

Format = Literal["gif", "mp4"]
FPS = 25  # the most frames a second
MOST_FRAMES = 1000  # what comes after them is left out
WIDTH = 320  # the most pixels a side of a GIF
COLOURS = 128


class Filmed(gymnasium.Wrapper[Any, Any, Any, Any]):
    """An environment that keeps a picture of every `stride`-th step, and of the last.

    Raises ValueError when it has no pictures, or needs a package for them, which is named.
    """

    def __init__(self, environment: gymnasium.Env[Any, Any]):
        super().__init__(environment)
        steps_per_second = environment.metadata.get("render_fps") or FPS
        self.stride = math.ceil(steps_per_second / FPS)
        self.fps = steps_per_second / self.stride
        self.frames: list[NDArray[np.uint8]] = []
        self._step = 0

    def reset(self, **settings: Any) -> tuple[Any, dict[str, Any]]:
        """Begins an episode and its film."""
        result = self.env.reset(**settings)
        self.frames, self._step = [], 0
        self._take_picture()
        return result

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """One step, and a picture if it is due."""
        result = self.env.step(action)
        self._step += 1
        if (self._step % self.stride == 0 or result[2] or result[3]) and len(self.frames) < MOST_FRAMES:
            self._take_picture()
        return result

    def _take_picture(self) -> None:
        try:
            picture: Any = self.env.render()
        except DependencyNotInstalled as missing:
            raise ValueError(f"pictures of {name_of(self.env)} need a package: {remedy(missing)}") from missing
        except (NotImplementedError, AttributeError, Error) as failure:
            raise ValueError(f"{name_of(self.env)} has no pictures to film: {first_line(failure)}") from failure
        if not isinstance(picture, np.ndarray):
            raise ValueError(f"{name_of(self.env)} has no pictures to film")
        self.frames.append(picture)


def make_filmed(identifier: str, *, max_steps: int | None = None, longest: int | None = None) -> Filmed:
    """An environment that is filmed, see `environments.make`; without a screen, MuJoCo and SDL draw off screen."""
    if sys.platform == "linux" and not os.environ.get("DISPLAY"):
        os.environ.setdefault("MUJOCO_GL", "egl")
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    return Filmed(make(identifier, max_steps=max_steps, longest=longest, render_mode="rgb_array"))


def check_format(kind: Format) -> None:
    """Raise ValueError when a format needs a package that is not installed."""
    if kind == "mp4" and find_spec("imageio_ffmpeg") is None:
        raise ValueError("video_format = 'mp4' needs a package: pip install imageio-ffmpeg; 'gif' needs none")


def film_targets(
    environment: Filmed, trained: Trained, options: ActingOptions, targets: Sequence[float], folder: Path, kind: Format
) -> dict[float | None, Path]:
    """Films the first episode of each target, or of the model that has none; the files."""
    seeds, films = [episode_seed(options.seed, 0)], dict[float | None, Path]()
    wanted: Sequence[float | None] = targets or [None]
    for target in wanted:
        policy = ModelPolicy(
            trained.model, trained.summary.normaliser, [target or 0.0], temperature=options.temperature, seeds=seeds
        )
        play([environment], seeds, policy)
        films[target] = folder / f"{'episode' if target is None else f'target-{target:g}'}.{kind}"
        write_film(environment.frames, environment.fps, films[target])
    return films


def write_film(frames: list[NDArray[np.uint8]], fps: float, path: Path) -> None:
    """Writes frames (H, W, 3) in the format of the path's suffix, whole or not at all."""
    with atomic_write(path) as aside:
        if path.suffix == ".mp4":
            _write_mp4(frames, fps, aside)
        else:
            first, *rest = map(_reduce, frames)
            milliseconds = max(20, 10 * round(100 / fps))  # in hundredths of a second; viewers slow down what is faster
            first.save(aside, "GIF", save_all=True, append_images=rest, duration=milliseconds, loop=0)


def _reduce(frame: NDArray[np.uint8]) -> Image:
    """A frame with fewer pixels and colours."""
    from PIL import Image

    picture = Image.fromarray(frame)
    picture.thumbnail((WIDTH, WIDTH))
    return picture.quantize(COLOURS, dither=Image.Dither.NONE)


def _write_mp4(frames: list[NDArray[np.uint8]], fps: float, path: Path) -> None:
    ffmpeg = import_module("imageio_ffmpeg")
    height, width = frames[0].shape[:2]
    mp4 = ["-f", "mp4"]  # the temporary path has no such suffix
    film = ffmpeg.write_frames(str(path), (width, height), fps=fps, macro_block_size=2, output_params=mp4)
    film.send(None)
    for frame in frames:
        film.send(np.ascontiguousarray(frame))
    film.close()
