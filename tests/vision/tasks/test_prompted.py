"""Tasks that are told captions: pixels and their bits, pairs of images and captions, and flow by captions."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from core.config import PositionConfig, TransformerConfig
from core.decoding.filters import Sampling
from core.training.order import Share
from tests.core.helpers import awake
from tests.panels.subjects import captioned
from vision.data.batches import Images
from vision.generation.options import DrawingOptions
from vision.models.contrastive import ContrastiveConfig
from vision.models.dit import DiTConfig
from vision.models.image_gpt import ImageGPT, ImageGPTConfig
from vision.tasks.contrastive import Captioning, moved, retrieval, vectors
from vision.tasks.contrastive_config import ContrastiveRunConfig
from vision.tasks.drawing.flow import Flow
from vision.tasks.drawing.flow_config import FlowConfig
from vision.tasks.drawing.pixels import Pixels, coding_error, nats, per_unit
from vision.tasks.drawing.pixels_config import PixelsConfig
from vision.tasks.loop import train
from vision.trained import load_contrastive

CORE = TransformerConfig(dim=16, depth=1, n_heads=2, position=PositionConfig("learned"))
SETTINGS = {"steps": 3, "batch_size": 16, "precision": "fp32", "device": "cpu"}
DIGITS = PixelsConfig(model=ImageGPTConfig(image_size=8, codes=17, core=CORE), **SETTINGS)


@pytest.fixture(scope="module")
def task() -> Pixels:
    prepared = Pixels.prepare(DIGITS)
    prepared.to(torch.device("cpu"))
    return prepared


def test_digits_are_told_exactly_by_their_shades(task: Pixels) -> None:
    assert len(task.codebook) == 17
    assert coding_error(task.data.validation, task.data.preparation, task.codebook, 8) == 0
    [(told, codes)] = task.order(0, Share(), 0.0)
    assert (told.shape, codes.shape) == ((16, 1), (16, 64))
    assert task.count(told, codes) == 16 * 64


def test_bits_per_dimension_are_those_of_a_computation_by_hand(task: Pixels) -> None:
    """Token by token, each from a state that has read all before it, whatever the batches and processes."""
    model, held = awake(ImageGPT(task.config.model)), task.data.validation
    assert isinstance(held, Images)
    few = held.subset(torch.arange(5).numpy())
    given = few, task.data.preparation, task.prompts, task.codebook
    codes = task.codebook.encode(few.pixels)
    by_hand = 0.0
    for label, image in zip(few.labels.tolist(), codes.tolist(), strict=True):
        state, before = model.new_state(1, 65), 17 + label
        for code in image:
            logits = model.step(torch.tensor([[before]]), state)[0].double()
            by_hand -= float(logits.log_softmax(0)[code].detach())
            before = code
    found = per_unit(float(nats(model, *given, rows=3)), 5, model)
    assert found["bits_per_dim"] == pytest.approx(by_hand / (5 * 64) / math.log(2), rel=1e-5)
    assert found["loss"] == pytest.approx(by_hand / (5 * 64), rel=1e-5)
    shares = [float(nats(model, *given, rows=2, part=(rank, 3))) for rank in range(3)]
    assert sum(shares) == pytest.approx(by_hand, rel=1e-5)


def test_colours_have_three_numbers_a_pixel() -> None:
    model = ImageGPT(
        ImageGPTConfig(image_size=4, channels=3, patch=2, codes=4, prompt_codes=2, prompt_length=1, core=CORE)
    )
    assert per_unit(24 * math.log(2), 2, model) == pytest.approx({"loss": 3 * math.log(2), "bits_per_dim": 0.25})


def test_a_step_is_the_same_however_it_is_divided(task: Pixels) -> None:
    [whole] = task.order(5, Share(), 0.0)
    parts = [task.order(5, Share(rank, 2, 2), 0.0) for rank in (0, 1)]
    for n in (0, 1):
        assert torch.equal(whole[n], torch.cat([parts[rank][micro][n] for micro in (0, 1) for rank in (0, 1)]))
    told = torch.cat([task.order(step, Share(), 0.0)[0][0] for step in range(60)])
    assert (told == 10).float().mean().item() == pytest.approx(0.1, abs=0.04)  # 960 draws


def test_how_images_are_drawn_is_the_runs_own_but_for_what_is_given() -> None:
    assert DIGITS.how(DrawingOptions(top_k=3)) == Sampling(top_k=3)
    with pytest.raises(ValueError, match="guidance = 2.0 has no effect on the task 'pixels'"):
        DIGITS.how(DrawingOptions(guidance=2.0))
    with pytest.raises(ValueError, match="temperature = -1"):
        DIGITS.how(DrawingOptions(temperature=-1.0))


def test_captions_are_told_and_some_are_left_out(tmp_path: Path) -> None:
    shape = DiTConfig(image_size=8, told="caption", patch=4, core=replace(CORE, modulation="adaln"))
    flow = Flow.prepare(FlowConfig(data=str(captioned(tmp_path)), class_dropout=0.5, model=shape, **SETTINGS))
    flow.to(torch.device("cpu"))
    assert (flow.config.model.words, flow.config.model.classes) == (7, 0)
    [(_, told, *_)] = flow.order(0, Share(), 0.0)
    words = (told > 0).sum(1)
    assert set(words.tolist()) == {0, 2}
    assert len(flow.data.validation) == 4
    held, trained = (set(part.labels.tolist()) for part in (flow.data.validation, flow.data.train))
    assert not held & trained


@pytest.fixture(scope="module")
def judging(tmp_path_factory: pytest.TempPathFactory) -> ContrastiveRunConfig:
    folder = tmp_path_factory.mktemp("judging")
    shape = ContrastiveConfig(image_size=12, patch=4, width=16, core=replace(CORE, dim=32, depth=2))
    settings = {**SETTINGS, "steps": 80, "batch_size": 32, "group": 16, "eval_every": 80, "log_every": 80}
    return ContrastiveRunConfig(data=str(captioned(folder)), out=folder / "run", model=shape, **settings)


def test_a_judge_learns_which_caption_an_image_has(judging: ContrastiveRunConfig) -> None:
    """In training images: all twelve captions but the one held out, of which a quarter is guessed by chance."""
    quick = replace(judging.optimizer, lr=3e-3)
    train(replace(judging, optimizer=quick))
    task = Captioning.prepare(replace(judging, resume=True))
    trained = load_contrastive(judging.out, "last")
    found = retrieval(*vectors(trained.model, task.data.train, trained.preparation, trained.prompts))
    assert found["accuracy"] > 0.5 > 5 * found["chance"]


def test_retrieval_counts_ranks_among_different_captions_and_ties_against() -> None:
    read = torch.eye(4)[[0, 1, 2, 3, 3]]
    labels = torch.tensor([10, 7, 3, 5, 5])
    assert retrieval(read, read, labels) == {"accuracy": 1.0, "top5": 1.0, "mrr": 1.0, "chance": 0.25}
    wrong = torch.eye(4)[[1, 0, 2, 3, 3]]
    assert retrieval(wrong, read, labels)["accuracy"] == pytest.approx(0.6)
    assert retrieval(torch.ones(5, 4) / 2, read, labels)["accuracy"] == 0


def test_images_are_moved_by_their_offsets() -> None:
    images = torch.arange(18.0).view(2, 1, 3, 3)
    offsets = torch.tensor([[1, 1], [2, 0]])
    first, second = moved(images, offsets, 1)
    assert torch.equal(first, images[0])
    assert second[0].tolist() == [[12, 12, 13], [15, 15, 16], [15, 15, 16]]


def test_a_group_must_divide_a_micro_batch(judging: ContrastiveRunConfig) -> None:
    with pytest.raises(ValueError, match="group = 16 must divide the 8 images"):
        replace(judging, accumulate=4)
