"""Episodes as films: GIF by Pillow, or MP4 by ffmpeg if imageio-ffmpeg is installed."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Sequence
from contextlib import closing
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import gymnasium
import numpy as np
from gymnasium.error import DependencyNotInstalled, Error
from numpy.typing import NDArray

from core.files.atomic import atomic_write
from core.messages import first_line, number
from decision.acting.episodes import labels, play
from decision.acting.policy import ModelPolicy
from decision.environments.make import episode_seed, make, remedy
from decision.environments.observations import name_of
from decision.environments.settings import AS_REGISTERED, EnvSettings
from decision.reports.options import ActingOptions, choose_environment, choose_settings, limits
from decision.trained import Trained

if TYPE_CHECKING:
    from PIL.Image import Image

Format = Literal["gif", "mp4"]
FPS = 25  # the most frames a second
MOST_FRAMES = 1000  # what comes after them is left out
WIDTH = 320  # the most pixels a side of a GIF
READABLE = 200  # pixels across that a caption needs: smaller pictures are enlarged
COLOURS = 128


class Filmed(gymnasium.Wrapper[Any, Any, Any, Any]):
    """An environment that keeps a picture of every `stride`-th step, and of the last, each with step and return.

    Raises ValueError when it has no pictures, or needs a package for them, which is named.
    """

    def __init__(self, environment: gymnasium.Env[Any, Any]):
        super().__init__(environment)
        steps_per_second = environment.metadata.get("render_fps") or FPS
        self.stride = math.ceil(steps_per_second / FPS)
        self.fps = steps_per_second / self.stride
        self.frames: list[NDArray[np.uint8]] = []
        self.captions: list[str] = []
        self._step, self._return = 0, 0.0

    def reset(self, **settings: Any) -> tuple[Any, dict[str, Any]]:
        """Begins an episode and its film."""
        result = self.env.reset(**settings)
        self.frames, self.captions, self._step, self._return = [], [], 0, 0.0
        self._take_picture()
        return result

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """One step, and a picture if it is due."""
        result = self.env.step(action)
        self._step += 1
        self._return += float(result[1])
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
        self.captions.append(f"step {self._step}   return {number(self._return)}")


def make_filmed(
    identifier: str,
    settings: EnvSettings = AS_REGISTERED,
    *,
    max_steps: int | None = None,
    longest: int | None = None,
) -> Filmed:
    """An environment that is filmed, see `environments.make`; without a screen, MuJoCo and SDL draw off screen."""
    if sys.platform == "linux" and not os.environ.get("DISPLAY"):
        os.environ.setdefault("MUJOCO_GL", "egl")
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    return Filmed(make(identifier, settings, max_steps=max_steps, longest=longest, render_mode="rgb_array"))


def check_format(kind: Format) -> None:
    """Raise ValueError when a format needs a package that is not installed."""
    if kind == "mp4" and find_spec("imageio_ffmpeg") is None:
        raise ValueError("video_format = 'mp4' needs a package: pip install imageio-ffmpeg; 'gif' needs none")


def check_films(trained: Trained, options: ActingOptions, kind: Format) -> None:
    """Raise ValueError when the pictures of the environment or the format need another package."""
    check_format(kind)
    with closing(environment_to_film(trained, options)) as environment:
        environment.reset(seed=0)


def environment_to_film(trained: Trained, options: ActingOptions) -> Filmed:
    """The environment in which a command acts, filmed."""
    identifier, settings = choose_environment(options, trained), choose_settings(options, trained)
    return make_filmed(identifier, settings, **limits(trained.model, options))


def film_targets(
    trained: Trained, options: ActingOptions, targets: Sequence[float], folder: Path, kind: Format
) -> list[Path]:
    """Films the first episode of each target, or of the model that has none; the files."""
    seeds, settings = [episode_seed(options.seed, 0)], {"temperature": options.temperature}
    names = [f"target-{label}" for label in labels(targets, 6)] or ["episode"]
    films = [folder / f"{name}.{kind}" for name in names]
    wanted: Sequence[float | None] = targets or [None]
    with closing(environment_to_film(trained, options)) as environment:
        for target, film in zip(wanted, films, strict=True):
            policy = ModelPolicy(trained.model, trained.summary.normaliser, [target or 0.0], seeds=seeds, **settings)
            play([environment], seeds, policy)
            asked = "" if target is None else f"target {number(target)}   "
            frames = [
                caption(frame, asked + said)
                for frame, said in zip(environment.frames, environment.captions, strict=True)
            ]
            write_film(frames, environment.fps, film)
    return films


def caption(frame: NDArray[np.uint8], text: str) -> NDArray[np.uint8]:
    """A frame (H, W, 3) with a line of text below it; a small one is enlarged, so that the line fits."""
    from PIL import Image, ImageDraw, ImageFont

    times = math.ceil(READABLE / frame.shape[1])
    picture = Image.fromarray(frame.repeat(times, axis=0).repeat(times, axis=1))
    size = picture.width / 18
    while (font := ImageFont.load_default(size)).getlength(text) > 0.95 * picture.width:
        size *= 0.95
    captioned = Image.new("RGB", (picture.width, picture.height + 2 * math.ceil(0.8 * size)), "white")
    captioned.paste(picture)
    middle = picture.width / 2, (picture.height + captioned.height) / 2
    ImageDraw.Draw(captioned).text(middle, text, "black", font, anchor="mm")
    return np.asarray(captioned)


def write_film(frames: Sequence[NDArray[np.uint8]], fps: float, path: Path) -> None:
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


def _write_mp4(frames: Sequence[NDArray[np.uint8]], fps: float, path: Path) -> None:
    ffmpeg = import_module("imageio_ffmpeg")
    height, width = frames[0].shape[:2]
    mp4 = ["-f", "mp4"]  # the temporary path has no such suffix
    film = ffmpeg.write_frames(str(path), (width, height), fps=fps, macro_block_size=2, output_params=mp4)
    film.send(None)
    for frame in frames:
        film.send(np.ascontiguousarray(frame))
    film.close()
