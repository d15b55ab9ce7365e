"""The order, coordinates and values of a trajectory's tokens."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from decision.environments.spaces import Space
from decision.models.tokens import ActionScale, VectorEncoder, build_encoder
from tests.decision.toys import BOX, FROM_ONE, IMAGE, OPEN, SEVERAL, VECTOR, agent, window


@pytest.mark.parametrize(("returns", "each"), [("token", 3), ("none", 2)])
def test_tokens_are_interleaved_and_those_of_a_step_share_its_timestep(returns, each):
    model = agent("rotary", returns=returns)
    given = window(model, rows=2, steps=6)
    x, coords = model.embed(given)
    assert x.shape == (2, each * 6, 16)
    assert coords.shape == (2, each * 6, 1)
    assert (coords.unflatten(1, (6, each)).squeeze(-1) == given.timesteps.unsqueeze(-1)).all()
    encoders = [model.embed.observations(given.observations), model.embed.actions(given.actions)]
    if returns == "token":
        encoders.insert(0, model.embed.returns(given.returns))
    for place, vectors in enumerate(encoders):
        torch.testing.assert_close(x[:, place::each], model.embed.norm(vectors))


def test_an_embedded_timestep_is_added_to_the_three_tokens_of_its_step():
    model = agent("embedded")
    given = window(model, rows=1)
    before, _ = model.embed(given)
    with torch.no_grad():
        model.embed.timesteps.weight[2] += 1.0
    after, _ = model.embed(given)
    changed = (before != after).any(-1).nonzero()[:, 1].tolist()
    assert changed == [6, 7, 8]


@pytest.mark.parametrize("times", ["embedded", "rotary"])
@pytest.mark.parametrize("returns", ["token", "none"])
@pytest.mark.parametrize("action", [BOX, OPEN, SEVERAL, FROM_ONE], ids=str)
@pytest.mark.parametrize("observation", [VECTOR, IMAGE, SEVERAL, FROM_ONE, OPEN], ids=str)
def test_tokens_one_step_at_a_time_are_those_of_the_window(observation, action, returns, times):
    model = agent(times, action, observation, returns=returns)
    given = window(model, rows=2, steps=3, seed=4)._replace(timesteps=torch.arange(3).expand(2, 3))
    whole, coords = model.embed(given)
    each, last = model.embed.per_step, None
    for step in range(3):
        known = given.observations[:, step], given.returns[:, step]
        start = max(0, each * step - 1)
        stop = each * (step + 1) - 1
        got = model.embed.step(last, known[1], known[0], coords[0, start:stop, 0])
        torch.testing.assert_close(got, whole[:, start:stop])
        last = given.actions[:, step]


def test_bounded_actions_are_encoded_and_decoded_between_minus_one_and_one():
    scale = agent(action=BOX).embed.actions.scale
    corners = torch.tensor([[-2.0, 0.0], [2.0, 1.0], [0.0, 0.5]])
    unit = torch.tensor([[-1.0, -1.0], [1.0, 1.0], [0.0, 0.0]])
    torch.testing.assert_close(scale.unit(corners), unit)
    torch.testing.assert_close(scale.environment(unit), corners)
    beyond = torch.tensor([[-1.5, 1.5]])
    torch.testing.assert_close(scale.environment(beyond), torch.tensor([[-2.0, 1.0]]))


def test_an_action_that_cannot_vary_is_nought_between_its_bounds():
    scale = ActionScale(Space("box", (2,), "float32", (0.0, 1.0), (0.0, 3.0)))
    torch.testing.assert_close(scale.unit(torch.tensor([[0.0, 3.0]])), torch.tensor([[0.0, 1.0]]))
    torch.testing.assert_close(scale.environment(torch.tensor([[0.9, -1.0]])), torch.tensor([[0.0, 1.0]]))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_actions_bounded_by_the_largest_number_are_left_as_they_are(dtype):
    most = float(np.finfo(dtype).max)
    scale, actions = ActionScale(Space("box", (1,), dtype, (-most,), (most,))), torch.tensor([[-7.0], [1e4]])
    assert not scale.bounded
    assert torch.equal(scale.unit(actions), actions)
    assert torch.equal(scale.environment(actions), actions)


def test_returns_are_as_exact_in_training_of_fewer_digits_as_in_acting():
    model = agent("rotary")
    given, exact = window(model), {}
    for rounded in (False, True):
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=rounded):
            exact[rounded] = model.embed(given)[0][:, ::3]
    assert torch.equal(exact[True], exact[False])


def test_a_picture_is_seen_alike_whichever_axis_holds_its_channels():
    from decision.models.tokens import ImageEncoder

    torch.manual_seed(0)
    last, first = ImageEncoder((44, 40, 4), 16), ImageEncoder((4, 44, 40), 16)
    first.load_state_dict(last.state_dict())
    pixels = torch.randint(256, (2, 3, 44, 40, 4), dtype=torch.uint8)
    torch.testing.assert_close(first(pixels.movedim(-1, -3)), last(pixels))


def test_a_picture_of_few_pixels_is_read_as_numbers():
    encoder = build_encoder(Space("box", (7, 7, 3), "uint8", (0.0,), (255.0,)), 16)
    assert isinstance(encoder, VectorEncoder)
    assert encoder(torch.zeros(2, 5, 7, 7, 3)).shape == (2, 5, 16)


@pytest.mark.parametrize(
    ("shape", "same"),
    [
        ((40, 36), lambda x: x[:, None, None]),  # grey
        ((3, 40, 36, 2), lambda x: x.permute(0, 1, 4, 2, 3)),  # a stack of frames, channels last
        ((3, 2, 40, 36), lambda x: x),  # and first
    ],
)
def test_grey_images_and_stacks_of_frames_are_images_of_more_channels(shape, same):
    encoder = build_encoder(Space("box", shape, "uint8", (0.0,), (255.0,)), 8)
    x = torch.randint(256, (5, *shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    channels = same(x).flatten(1, 2)  # (5, K C, H, W)
    torch.testing.assert_close(encoder(x), encoder.project(encoder.layers(channels / 255)))
    assert encoder(x.unflatten(0, (1, 5))).shape == (1, 5, 8)


def test_pictures_in_a_dictionary_go_through_convolutions_and_the_rest_through_a_linear_map():
    first, second = (40, 36), (3, 37, 36)
    size = 2 + 40 * 36 + 1 + 3 * 37 * 36
    places = ((2, *first), (2 + 40 * 36 + 1, *second))
    encoder = build_encoder(Space("box", (size,), "float32", (None,), (None,), pictures=places), 8)
    x = torch.randint(256, (2, 3, size), generator=torch.Generator().manual_seed(0)).float()
    parts = x.split((2, 40 * 36, 1, 3 * 37 * 36), dim=-1)
    expected = encoder.numbers(torch.cat((parts[0], parts[2]), dim=-1))
    for encode, part, shape in zip(encoder.pictures, parts[1::2], (first, second), strict=True):
        expected = expected + encode(part.unflatten(-1, shape).to(torch.uint8))
    torch.testing.assert_close(encoder(x), expected)
