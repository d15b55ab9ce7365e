"""An episode as a film: GIF by Pillow, or MP4 by ffmpeg where imageio-ffmpeg is installed."""

from __future__ import annotations

import math
import os
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import gymnasium
import numpy as np
from gymnasium.error import DependencyNotInstalled, Error
from numpy.typing import NDArray

from core.files.downloads import atomic_write
from core.messages import first_line
from decision.environments.make import make, name_of, remedy

if TYPE_CHECKING:
    from PIL.Image import Image

Format = Literal["gif", "mp4"]
PACE = 25  # frames a second at most, as far as a GIF's hundredths of a second allow
LONGEST = 1000  # frames of a film; what comes after them is left out
WIDTH = 320  # pixels of a GIF's frames at most
COLOURS = 128


class Filmed(gymnasium.Wrapper[Any, Any, Any, Any]):
    """An environment that keeps a picture of every so many steps.

    Raises ValueError when it gives no pictures, and names what is to be installed for them.
    """

    def __init__(self, environment: gymnasium.Env[Any, Any]):
        super().__init__(environment)
        steps_a_second = environment.metadata.get("render_fps") or PACE
        self.stride = math.ceil(steps_a_second / PACE)
        self.pace = steps_a_second / self.stride
        self.frames: list[NDArray[np.uint8]] = []
        self._step = 0

    def reset(self, **settings: Any) -> tuple[Any, dict[str, Any]]:
        """Begins an episode, and the film."""
        begun = self.env.reset(**settings)
        self.frames, self._step = [], 0
        self._look()
        return begun

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """One step; its picture is kept when it is the turn of one, or the last."""
        came = self.env.step(action)
        self._step += 1
        if (self._step % self.stride == 0 or came[2] or came[3]) and len(self.frames) < LONGEST:
            self._look()
        return came

    def _look(self) -> None:
        try:
            picture: Any = self.env.render()
        except DependencyNotInstalled as missing:
            raise ValueError(f"pictures of {name_of(self.env)} need a package: {remedy(missing)}") from missing
        except (NotImplementedError, AttributeError, Error) as failure:
            told = f"{name_of(self.env)} gives no pictures to film: {first_line(failure)}"
            raise ValueError(told) from failure
        if not isinstance(picture, np.ndarray):
            raise ValueError(f"{name_of(self.env)} gives no pictures to film")
        self.frames.append(picture)


def make_filmed(identifier: str, *, max_steps: int | None = None, longest: int | None = None) -> Filmed:
    """An environment that is filmed, see `environments.make`; MuJoCo and SDL draw without a screen if there is none."""
    if sys.platform == "linux" and not os.environ.get("DISPLAY"):
        os.environ.setdefault("MUJOCO_GL", "egl")
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    return Filmed(make(identifier, max_steps=max_steps, longest=longest, rendered=True))


def check_format(kind: Format) -> None:
    """Raise ValueError when a format needs a package that is not installed."""
    if kind == "mp4" and find_spec("imageio_ffmpeg") is None:
        raise ValueError("video_format = 'mp4' needs a package: pip install imageio-ffmpeg; 'gif' needs none")


def write_film(frames: list[NDArray[np.uint8]], pace: float, path: Path) -> None:
    """Writes frames (H, W, 3), `pace` a second, as what the path's suffix says, whole or not at all."""
    with atomic_write(path) as aside:
        if path.suffix == ".mp4":
            _write_mp4(frames, pace, aside)
        else:
            first, *rest = map(_small, frames)
            milliseconds = max(20, 10 * round(100 / pace))  # viewers slow down what is faster
            first.save(aside, "GIF", save_all=True, append_images=rest, duration=milliseconds, loop=0)


def _small(frame: NDArray[np.uint8]) -> Image:
    """A frame with few pixels and colours."""
    from PIL import Image

    picture = Image.fromarray(frame)
    picture.thumbnail((WIDTH, WIDTH))
    return picture.quantize(COLOURS, dither=Image.Dither.NONE)


def _write_mp4(frames: list[NDArray[np.uint8]], pace: float, path: Path) -> None:
    ffmpeg = import_module("imageio_ffmpeg")

    height, width = frames[0].shape[:2]
    options = {"fps": pace, "macro_block_size": 2, "output_params": ["-f", "mp4"]}  # the path has no telling suffix
    film = ffmpeg.write_frames(str(path), (width, height), **options)
    film.send(None)
    for frame in frames:
        film.send(np.ascontiguousarray(frame))
    film.close()
