# SPDX-License-Identifier: Apache-2.0
"""The random spatial transform: who gets which displacement, in which units, how strong, and how reproducible."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from scipy.ndimage import map_coordinates

from custom.layers import jacobian_determinant
from custom.transforms import RandSpatialTransform
from custom.transforms.spatial import elastic_displacement, elastic_knot_shape

SHAPE = (24, 32, 40)
STILL = {"rotation_degrees": 0, "scale": (1, 1), "translation": 0, "shear_degrees": 0, "elastic_rms": 0}


def make_batch(seeds=(5, 6), shape=SHAPE) -> dict:
    generator = torch.Generator().manual_seed(0)
    images = [torch.rand(len(seeds), 1, *shape, generator=generator) for _ in range(3)]
    return {
        "moving": images[0],
        "moving_transformed": images[1],
        "fixed": images[2],
        "moving_label": (images[0] * 4).to(torch.uint8),
        "fixed_label": (images[2] * 4).to(torch.int16),
        "seed": torch.tensor(seeds),
        "name": [f"pair_{seed}" for seed in seeds],
    }


def rms_length(displacement: torch.Tensor, spacing) -> torch.Tensor:
    millimetres = displacement * torch.tensor(spacing, dtype=torch.float32)[:, None, None, None]
    return millimetres.square().sum(1).flatten(1).mean(1).sqrt()


def test_none_returns_the_batch():
    batch = make_batch()
    result = RandSpatialTransform(mode="none")(batch)
    assert result is not batch and result.keys() == batch.keys()
    assert all(result[key] is batch[key] for key in batch)


@pytest.mark.parametrize("mode", ["shared", "independent"])
def test_zero_strengths_are_the_identity(mode):
    batch = make_batch()
    result = RandSpatialTransform(mode=mode, **STILL)(batch)
    for key in ("moving", "moving_transformed", "fixed"):
        torch.testing.assert_close(result[key], batch[key], atol=1e-5, rtol=0)
    for key in ("moving_label", "fixed_label"):
        assert torch.equal(result[key], batch[key])


@pytest.mark.parametrize("mode", ["shared", "independent"])
def test_who_shares_a_displacement(mode):
    batch = make_batch()
    batch["fixed"] = batch["moving_transformed"] = batch["moving"]
    result = RandSpatialTransform(mode=mode)(batch)
    assert torch.equal(result["moving"], result["moving_transformed"])
    assert torch.equal(result["moving"], result["fixed"]) == (mode == "shared")
    assert (result["moving"] - batch["moving"]).abs().mean() > 0.05
    assert (result["moving"][0] - result["moving"][1]).abs().mean() > 0.05


def test_images_and_labels_equal_scipy_sampling_at_the_displaced_positions():
    batch = make_batch()
    transform = RandSpatialTransform(elastic_rms=3.0)
    result = transform(batch)
    fields = transform.displacements([5, 6], SHAPE)
    grid = np.indices(SHAPE)
    for pair in range(2):
        for key, field in (("moving", fields[0]), ("moving_transformed", fields[0]), ("fixed", fields[1])):
            expected = map_coordinates(
                batch[key][pair, 0].numpy(), grid + field[pair].numpy(), order=1, mode="grid-constant"
            )
            np.testing.assert_allclose(result[key][pair, 0].numpy(), expected, atol=2e-4)
        for key, field in (("moving_label", fields[0]), ("fixed_label", fields[1])):
            expected = map_coordinates(
                batch[key][pair, 0].numpy(), grid + field[pair].numpy(), order=0, mode="grid-constant"
            )
            assert (result[key][pair, 0].numpy() == expected).mean() > 0.999
            assert result[key].dtype == batch[key].dtype


def test_other_entries_and_the_input_stay():
    batch = make_batch()
    before = {key: value.clone() for key, value in batch.items() if isinstance(value, torch.Tensor)}
    result = RandSpatialTransform()(batch)
    assert result["name"] is batch["name"] and result["seed"] is batch["seed"]
    assert all(torch.equal(batch[key], value) for key, value in before.items())
    without_labels = {key: value for key, value in batch.items() if not key.endswith("label")}
    assert RandSpatialTransform()(without_labels).keys() == without_labels.keys()


@pytest.mark.parametrize("spacing", [(1, 1, 1), (3, 1, 0.5)])
def test_rotation_alone_keeps_distances_in_millimetres(spacing):
    arguments = STILL | {"rotation_degrees": 20}
    field, _ = RandSpatialTransform(**arguments, spacing=spacing).displacements([0, 1, 2], SHAPE)
    millimetres = torch.tensor(spacing, dtype=torch.float64)[:, None]
    before = torch.stack(torch.meshgrid(*map(torch.arange, SHAPE), indexing="ij")).double().flatten(1) * millimetres
    picks = torch.randperm(before.shape[1], generator=torch.Generator().manual_seed(0))[:60]
    for displacement in field.double():
        after = before + displacement.flatten(1) * millimetres
        expected = torch.cdist(before[:, picks].T, before[:, picks].T)
        torch.testing.assert_close(torch.cdist(after[:, picks].T, after[:, picks].T), expected, atol=1e-3, rtol=0)
        assert (after - before).norm(dim=0).mean() > 0.2
        torch.testing.assert_close(after.mean(1), before.mean(1), atol=1e-3, rtol=0)


def test_affine_strengths_are_reached_and_not_exceeded():
    seeds = range(400)

    def corners(**arguments) -> torch.Tensor:
        """Displacement of two opposite corners and their mean, (N, 3, 3)."""
        field, _ = RandSpatialTransform(**STILL | arguments).displacements(seeds, (11, 21, 31))
        return torch.stack((field[..., 0, 0, 0], field[..., -1, -1, -1], field[..., 5, 10, 15]))

    half = torch.tensor([5.0, 10.0, 15.0])
    shift = corners(translation=0.1, spacing=(4, 2, 0.5)) / torch.tensor([11.0, 21.0, 31.0])
    torch.testing.assert_close(shift[0], shift[1], atol=1e-6, rtol=0)
    assert 0.098 < shift.abs().max() <= 0.1 + 1e-6 and shift.mean().abs() < 0.01
    scale = 1 + corners(scale=(0.75, 1.25))[1] / half
    assert 0.75 - 1e-6 <= scale.min() < 0.752 and 1.248 < scale.max() <= 1.25 + 1e-6
    assert scale.mean() == pytest.approx(1, abs=0.02)
    # A sheared corner moves along axis 0 by the tangents times the other two coordinates.
    shear = corners(shear_degrees=40)[1, :, 0] / (10 + 15) / np.tan(np.radians(40))
    assert 0.85 < shear.abs().max() <= 1 + 1e-6
    assert corners(rotation_degrees=20)[2].abs().max() < 1e-5


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (4.0, 2.0, 0.7)])
def test_elastic_rms_is_met_exactly(spacing):
    knots = elastic_knot_shape(SHAPE, spacing, 12.0)
    noise = torch.randn(3, 3, *knots, generator=torch.Generator().manual_seed(0))
    rms = torch.tensor([0.0, 1.5, 4.0])
    displacement = elastic_displacement(noise, rms, SHAPE, spacing, 12.0)
    assert displacement.shape == (3, 3, *SHAPE)
    torch.testing.assert_close(rms_length(displacement, spacing), rms, atol=1e-5, rtol=1e-5)


def test_elastic_strength_is_uniform_up_to_the_maximum():
    field, other = RandSpatialTransform(**STILL | {"elastic_rms": 2.0}).displacements(range(300), (12, 14, 16))
    rms = rms_length(torch.cat((field, other)), (1, 1, 1))
    assert 1.98 < rms.max() <= 2 + 1e-5 and rms.min() < 0.02
    assert rms.mean() == pytest.approx(1, abs=0.08)


@pytest.mark.parametrize("spacing", [(2.0, 2.0, 2.0), (4.0, 2.0, 3.0)])
def test_elastic_smoothness_is_that_of_gaussian_noise(spacing):
    # White noise under a Gaussian of s correlates with itself at distance d as exp(-d^2 / (4 s^2)).
    smoothing, shape = 12.0, [round(96 / step) for step in spacing]
    knots = elastic_knot_shape(shape, spacing, smoothing)
    noise = torch.randn(30, 3, *knots, generator=torch.Generator().manual_seed(1))
    field = elastic_displacement(noise, torch.ones(30), shape, spacing, smoothing)
    for axis in range(3):
        for distance in (12, 24):
            lag = round(distance / spacing[axis])
            ahead = field.narrow(2 + axis, lag, shape[axis] - lag)
            behind = field.narrow(2 + axis, 0, shape[axis] - lag)
            correlation = (ahead * behind).mean() / (ahead.square().mean() * behind.square().mean()).sqrt()
            assert correlation == pytest.approx(np.exp(-(distance**2) / (4 * smoothing**2)), abs=0.06)


@pytest.mark.parametrize(
    ("shape", "spacing"),
    [((24, 32, 28), (1, 1, 1)), ((24, 24, 20), (4, 4, 4)), ((12, 32, 40), (5, 0.8, 0.8)), ((16, 16, 16), (1, 1, 1))],
)
def test_defaults_do_not_fold(shape, spacing):
    transform = RandSpatialTransform(spacing=spacing)
    for start in range(0, 100, 20):
        fields = torch.cat(transform.displacements(range(start, start + 20), shape))
        # The affine part alone may go down to 0.75^3 * det(shear), about 0.38.
        assert jacobian_determinant(fields).min() > 0.25


@pytest.mark.parametrize("mode", ["shared", "independent"])
def test_batch_of_two_equals_two_batches_of_one(mode):
    batch = make_batch()
    transform = RandSpatialTransform(mode=mode)
    together = transform(batch)
    for pair in range(2):
        alone = transform({key: value[pair : pair + 1] for key, value in batch.items()})
        for key in ("moving", "moving_transformed", "fixed"):
            torch.testing.assert_close(alone[key][0], together[key][pair], atol=1e-5, rtol=0)


def test_the_seed_and_nothing_else_decides():
    batch = make_batch((5, 7))
    torch.manual_seed(1)
    first = RandSpatialTransform()(batch)
    torch.manual_seed(2)
    state = torch.get_rng_state()
    again = RandSpatialTransform()(batch)
    assert torch.equal(state, torch.get_rng_state())
    other = RandSpatialTransform()(batch | {"seed": torch.tensor([5, 8])})
    for key in ("moving", "fixed"):
        assert torch.equal(first[key], again[key])
        assert torch.equal(first[key][0], other[key][0])
        assert (first[key][1] - other[key][1]).abs().mean() > 0.05


def test_shared_is_the_moving_half_of_independent():
    shared, same = RandSpatialTransform(mode="shared").displacements([9], SHAPE)
    moving, fixed = RandSpatialTransform(mode="independent").displacements([9], SHAPE)
    assert shared is same and torch.equal(shared, moving) and not torch.equal(moving, fixed)


def test_keys_of_a_group_move_together_and_groups_apart():
    batch = make_batch()
    batch |= {name: batch["moving"].clone() for name in ("moving_transformed", "view")}
    result = RandSpatialTransform(groups=[["moving", "moving_transformed"], ["view"]])(batch)
    assert torch.equal(result["moving"], result["moving_transformed"])
    assert (result["moving"] - result["view"]).abs().mean() > 0.02
    assert torch.equal(result["fixed"], batch["fixed"]) and torch.equal(result["fixed_label"], batch["fixed_label"])
    assert not torch.equal(result["moving_label"], batch["moving_label"])


@pytest.mark.parametrize("groups", [[["moving"], ["moving", "fixed"]], [["moving"], []]])
def test_a_key_stands_in_one_group(groups):
    with pytest.raises(ValueError, match="each key once"):
        RandSpatialTransform(groups=groups)


def test_no_gradient_plain_tensors_and_padding():
    batch = make_batch()
    batch["moving"] = MetaTensor(batch["moving"].requires_grad_())
    batch["fixed"] = torch.ones_like(batch["fixed"])
    result = RandSpatialTransform()(batch)
    assert not result["moving"].requires_grad and type(result["moving"]) is torch.Tensor
    assert not list(RandSpatialTransform().parameters())
    assert result["fixed"].min() == 0
    border = RandSpatialTransform(padding_mode="border")(batch)
    torch.testing.assert_close(border["fixed"], torch.ones_like(border["fixed"]))


@pytest.mark.parametrize(
    "device", ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))]
)
def test_device_and_float32_under_autocast(device):
    batch = make_batch()
    expected = RandSpatialTransform()(batch)
    moved = {key: value.to(device) if isinstance(value, torch.Tensor) else value for key, value in batch.items()}
    with torch.autocast(device, dtype=torch.bfloat16):
        result = RandSpatialTransform()(moved)
    for key in ("moving", "moving_transformed", "fixed"):
        assert result[key].dtype == torch.float32 and result[key].device.type == device
        torch.testing.assert_close(result[key].cpu(), expected[key], atol=1e-4, rtol=0)


def test_errors():
    transform = RandSpatialTransform()
    batch = make_batch()
    with pytest.raises(KeyError, match="moving_transformed"):
        transform({key: value for key, value in batch.items() if key != "moving_transformed"})
    with pytest.raises(ValueError, match="one shape"):
        transform(batch | {"fixed": batch["fixed"][..., 1:]})
    with pytest.raises(ValueError, match="seed"):
        transform(batch | {"seed": torch.tensor([1])})
    for arguments in ({"mode": "both"}, {"scale": (1.2, 0.8)}, {"spacing": (1, 1)}, {"elastic_smoothing": 0}):
        with pytest.raises(ValueError, match=next(iter(arguments))):
            RandSpatialTransform(**arguments)
