"""Learning to draw: what a step is made of, what is held out, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from core.config import PositionConfig, TransformerConfig
from core.training.order import Share
from tests.core.helpers import awake
from vision.generation.flow import FlowLoss
from vision.generation.options import DrawingOptions
from vision.generation.samplers import Drawing, integrate
from vision.models.dit import DiT, DiTConfig
from vision.tasks.drawing.drawn import nearest_figures
from vision.tasks.drawing.flow import Flow, held_out_loss, held_out_times
from vision.tasks.drawing.flow_config import FlowConfig
from vision.tasks.loop import train
from vision.trained import load, load_generator

CORE = TransformerConfig(dim=16, depth=2, n_heads=2, modulation="adaln", position=PositionConfig("learned"))
CONFIG = FlowConfig(
    steps=3, batch_size=16, precision="fp32", device="cpu", model=DiTConfig(image_size=8, patch=4, core=CORE)
)


@pytest.fixture(scope="module")
def task() -> Flow:
    prepared = Flow.prepare(CONFIG)
    prepared.to(torch.device("cpu"))
    return prepared


def test_a_step_is_the_same_however_it_is_divided(task: Flow) -> None:
    """And its noise, times and dropped classes belong to places in the global batch."""
    [whole] = task.order(5, Share(), 0.0)
    parts = [task.order(5, Share(rank, 2, 2), 0.0) for rank in (0, 1)]
    together = [torch.cat([parts[rank][micro][n] for micro in (0, 1) for rank in (0, 1)]) for n in range(4)]
    for one, other in zip(whole, together, strict=True):
        assert torch.equal(one, other)
    [again] = task.order(6, Share(), 0.0)
    assert not torch.equal(again[3], whole[3])


def test_a_tenth_of_the_classes_is_not_told(task: Flow) -> None:
    told = torch.cat([task.order(step, Share(), 0.0)[0][1] for step in range(60)])
    assert (told == 10).float().mean().item() == pytest.approx(0.1, abs=0.04)  # 960 draws


def test_half_of_the_images_are_mirrored_where_that_is_wanted() -> None:
    flipping = Flow.prepare(replace(CONFIG, flip="random"))
    flipping.to(torch.device("cpu"))
    plain = Flow.prepare(CONFIG)
    plain.to(torch.device("cpu"))
    [(some, *_)], [(others, *_)] = (each.order(0, Share(), 0.0) for each in (flipping, plain))
    mirrored = [torch.equal(a, b.flip(-1)) and not torch.equal(a, b) for a, b in zip(some, others, strict=True)]
    assert 0 < sum(mirrored) < 16
    assert all(flipped or torch.equal(a, b) for flipped, a, b in zip(mirrored, some, others, strict=True))


def test_the_held_out_loss_does_not_depend_on_batches_or_processes(task: Flow) -> None:
    model, given = awake(DiT(task.config.model)), (task.data.validation, task.data.preparation, task.prompts)
    whole = held_out_loss(model, *given, task.config)
    for rows, world in ((7, 1), (50, 3)):
        config = replace(task.config, eval_batch=rows)
        shares = [held_out_loss(model, *given, config, (rank, world)) for rank in range(world)]
        torch.testing.assert_close(torch.stack(shares).sum(), whole, atol=1e-4, rtol=1e-6)


@pytest.mark.parametrize("times", ["uniform", "logit-normal"])
def test_held_out_times_are_spread_like_those_of_training(times: str) -> None:
    found = held_out_times(torch.arange(1000), replace(CONFIG, times=times))  # type: ignore[arg-type]
    even = found if times == "uniform" else torch.special.ndtr(found.logit())
    assert (even.sort().values - (torch.arange(1000) + 0.5) / 1000).abs().max() < 0.003


def test_a_model_of_one_image_a_class_learns_to_draw_it() -> None:
    """Learned by heart, each class comes back as its image: at the fine end of the path, noise is gone."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2, 1, 8, 8, generator=generator)
    torch.manual_seed(0)
    model = DiT(replace(CONFIG.model, channels=1, classes=2, core=replace(CORE, dim=32)))
    optimizer, labels = torch.optim.AdamW(model.parameters(), lr=3e-3), torch.arange(32) % 2
    for _ in range(240):
        times, noise = torch.rand(32, generator=generator), torch.randn(32, 1, 8, 8, generator=generator)
        (FlowLoss(model)(images[labels], labels, times, noise) / 32).backward()
        optimizer.step()
        optimizer.zero_grad()
    start = torch.randn(2, 1, 8, 8, generator=generator)

    @torch.no_grad()
    def velocity(x: torch.Tensor, t: float) -> torch.Tensor:
        return model(x, torch.full((2,), t), torch.arange(2))

    *_, drawn = integrate(velocity, start, Drawing(steps=10, sampler="euler"))
    own, swapped = ((drawn - each).square().mean() for each in (images, images.flip(0)))
    assert own < 0.1 * swapped


def test_copies_are_found_out(task: Flow) -> None:
    seen, unseen = task.data.train, task.data.validation
    figures = nearest_figures(seen.subset(torch.arange(20).numpy()), seen, unseen)  # type: ignore[union-attr,arg-type]
    assert figures["samples/nearest"] < 1e-3 < 0.05 < figures["samples/nearest_real"]


def test_a_run_may_start_from_another(tmp_path: Path) -> None:
    train(replace(CONFIG, out=tmp_path / "first", sample=0))
    tuned = replace(CONFIG, out=tmp_path / "tuned", init_from=str(tmp_path / "first"), steps=1, sample=0)
    train(replace(tuned, schedule=replace(tuned.schedule, kind="constant", warmup=0.9)))
    first, second = (load_generator(tmp_path / name, "last").model.state_dict() for name in ("first", "tuned"))
    assert all((first[name] - second[name]).abs().max() < 0.01 for name in first)
    with pytest.raises(ValueError, match="not one that classifies images"):
        load(tmp_path / "first")
    with pytest.raises(ValueError, match=r"has model\.patch = 4, not 2"):
        Flow.prepare(replace(tuned, model=replace(tuned.model, patch=2)))


def test_guidance_needs_a_model_that_has_been_left_without_the_class() -> None:
    with pytest.raises(ValueError, match="guidance = 2 must be 1"):
        replace(CONFIG, class_dropout=0.0).how(DrawingOptions(guidance=2.0))
    assert CONFIG.how(DrawingOptions(steps=7, sampler="heun")) == Drawing(steps=7, sampler="heun", guidance=1.0)
    assert CONFIG.how(DrawingOptions()) == CONFIG.drawing
    with pytest.raises(ValueError, match="temperature = 0.5 has no effect on the task 'flow'"):
        CONFIG.how(DrawingOptions(temperature=0.5))
