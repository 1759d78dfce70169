# SPDX-License-Identifier: Apache-2.0
"""Rotation: a group of 24, exact turns, nothing but the content tells a class, and a loss that learns."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from custom.networks import UNet3D
from custom.pretext.rotation import (
    RotationLoss,
    RotationPretext,
    centre_cube,
    draw_rotations,
    right_angle_rotations,
    rotation_matrix,
    turn,
)
from custom.transforms import RandSpatialTransform
from custom.weights import load_pretext, save_pretext

CHANNELS = (8, 16, 32)
FROZEN = [[5, 8], [2, 9], [5, 8], [9, 1], [8, 7], [9, 2], [8, 7], [9, 1]]
VOLUME = torch.arange(2 * 3 * 4.0).view(1, 2, 3, 4)


def network(rotations: int = 10, copies: int = 4, seed: int = 0) -> RotationPretext:
    torch.manual_seed(seed)
    return RotationPretext(UNet3D(1, CHANNELS), CHANNELS[-1], rotations, copies)


def pairs(count: int = 2, shape: tuple[int, ...] = (16, 16, 16), seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    batch = {name: torch.rand(count, 1, *shape, generator=generator) for name in ("moving", "fixed")}
    return batch | {"seed": torch.arange(count) + 1000 * seed}


def key(matrix: np.ndarray) -> tuple[int, ...]:
    return tuple(matrix.flatten().tolist())


def test_the_24_are_a_group_of_proper_rotations_and_the_identity_is_first():
    matrices = [rotation_matrix(rotation) for rotation in right_angle_rotations()]
    keys = {key(matrix) for matrix in matrices}
    assert len(keys) == 24 and key(matrices[0]) == key(np.eye(3, dtype=int))
    for matrix in matrices:
        assert round(np.linalg.det(matrix)) == 1 and key(matrix @ matrix.T) == key(np.eye(3, dtype=int))
        assert key(matrix.T) in keys
    assert all(key(first @ second) in keys for first, second in itertools.product(matrices, repeat=2))


def test_the_10_are_those_about_one_axis():
    chosen = {key(rotation_matrix(rotation)) for rotation in right_angle_rotations(10)}
    expected = set()
    for first, second in itertools.combinations(range(3), 2):
        quarter = np.eye(3, dtype=int)
        quarter[[first, second]] = quarter[[second, first]]
        quarter[first] *= -1
        expected |= {key(np.linalg.matrix_power(quarter, times)) for times in range(4)}
    assert chosen == expected and len(chosen) == 10
    assert right_angle_rotations(10) == right_angle_rotations(24)[:10]
    with pytest.raises(ValueError, match="10 or 24 .* got 4"):
        right_angle_rotations(4)


def test_turns_take_each_voxel_where_the_matrix_says():
    for rotation in right_angle_rotations():
        turned, matrix = turn(VOLUME, rotation)[0], rotation_matrix(rotation)
        before, after = np.array(VOLUME.shape[1:]), np.array(turned.shape)
        for position in np.ndindex(*before):
            moved = matrix @ (2 * np.array(position) - before + 1)  # twice the distance from the centre
            assert turned[tuple((moved + after - 1) // 2)] == VOLUME[0][position]


def test_the_10_are_what_rot90_makes():
    for axes in itertools.combinations((1, 2, 3), 2):
        for times in range(4):
            expected = torch.rot90(VOLUME, times, axes)
            found = [turn(VOLUME, rotation) for rotation in right_angle_rotations(10)]
            assert sum(volume.shape == expected.shape and torch.equal(volume, expected) for volume in found) == 1


def test_turns_compose_as_their_matrices():
    matrices = {key(rotation_matrix(rotation)): rotation for rotation in right_angle_rotations()}
    for first, second in itertools.product(right_angle_rotations(), repeat=2):
        both = matrices[key(rotation_matrix(second) @ rotation_matrix(first))]
        assert torch.equal(turn(turn(VOLUME, first), second), turn(VOLUME, both))


def test_only_the_content_tells_the_class():
    """What the encoder sees: one shape, the same voxels, and without content no difference at all."""
    seen = []
    model = network(24, copies=24)
    model.backbone.forward_bottleneck = lambda turned: seen.append(turned) or turned.new_zeros(len(turned), 32, 1, 1, 1)
    for content in (torch.ones(1, 1, 9, 12, 10), torch.rand(1, 1, 9, 12, 10)):
        seen.clear()
        outputs = model.train()({"moving": content, "fixed": content, "seed": torch.tensor([5])})
        (turned,), rotation = seen, outputs["rotation"].flatten()
        assert turned.shape == (48, 1, 9, 9, 9)
        cube = content[0, 0, :, 1:10, 0:9]
        assert torch.equal(turned.flatten(1).sort(dim=1).values, cube.flatten().sort().values.expand(48, -1))
        for volume, index in zip(turned, rotation.tolist(), strict=True):
            assert torch.equal(volume[0], turn(cube, right_angle_rotations(24)[index]))
    assert len(turned.flatten(1).unique(dim=0)) == 24  # with content all differ


def test_centre_cube():
    volume = torch.rand(2, 1, 5, 9, 6)
    assert torch.equal(centre_cube(volume), volume[:, :, :, 2:7, 0:5])
    assert centre_cube(torch.rand(1, 4, 4, 4)).shape == (1, 4, 4, 4)


def test_rotations_come_from_the_seed_alone():
    seeds = torch.tensor([7, 2**62 + 1, 7, 0])
    rotation = draw_rotations(seeds, 10, 2)
    assert rotation.tolist() == FROZEN  # the same in every process and version
    torch.manual_seed(5), np.random.seed(5)
    assert draw_rotations(seeds[1:2], 10, 2).tolist() == [FROZEN[1], FROZEN[5]]
    everything = draw_rotations(torch.arange(50), 24, 24)
    assert torch.equal(everything.sort(dim=1).values, torch.arange(24).expand(100, -1))
    with pytest.raises(ValueError, match="copies is 11, expected 1 to 10"):
        network(10, copies=11)


def test_rotations_are_uniform_and_each_volume_has_its_own():
    moving, fixed = draw_rotations(torch.arange(4000), 10, 1).flatten().chunk(2)
    joint = (10 * moving + fixed).bincount(minlength=100)
    assert ((joint - 40.0) ** 2 / 40).sum() < 99 + 5 * math.sqrt(2 * 99)


def test_rotations_are_independent_of_the_spatial_transform():
    """Which draws from the same seeds."""
    seeds = torch.arange(3000)
    affine_matrix, *_ = RandSpatialTransform()._draw(seeds.tolist(), (8, 8, 8))
    numbers = affine_matrix[: len(seeds)].flatten(1)
    rotation = draw_rotations(seeds, 10, 1)[: len(seeds), 0]
    means = torch.stack([numbers[rotation == index].mean(dim=0) for index in range(10)])
    assert ((means - numbers.mean(dim=0)) / (numbers.std(dim=0) / 300**0.5)).abs().max() < 4.5


def test_outputs_in_training_and_evaluation():
    model, batch = network(24, copies=3), pairs(2, (16, 20, 18))
    outputs = model.train()(batch)
    shapes = {name: tuple(value.shape) for name, value in outputs.items()}
    assert shapes == {"logits": (12, 24), "rotation": (4, 3)}
    held_out = model.eval()(batch)
    assert torch.equal(held_out["rotation"], outputs["rotation"])
    torch.testing.assert_close(held_out["logits"], outputs["logits"])
    bottleneck, local = model.backbone.forward_features(torch.cat((batch["moving"], batch["fixed"])))
    torch.testing.assert_close(held_out["bottleneck"], bottleneck)
    torch.testing.assert_close(held_out["local"], local)


def test_loss_is_that_of_a_loop_over_the_volumes():
    """Each volume cut and turned on its own, by rot90; the probability of the class that was applied."""
    model, batch = network(copies=2), pairs(3, (16, 18, 17))
    outputs = model(batch)
    turned = {}
    for first, second, times in itertools.product(range(3), range(3), range(4)):
        if first < second:
            turned.setdefault(key(_matrix(first, second, times)), (first, second, times))
    expected, hits = 0.0, 0
    for side, name in enumerate(("moving", "fixed")):
        for row, seed in enumerate(batch["seed"].tolist()):
            cube = batch[name][row, 0, :, 1:17, 0:16]
            for index in draw_rotations(torch.tensor([seed]), 10, 2)[side].tolist():
                first, second, times = turned[key(rotation_matrix(right_angle_rotations(10)[index]))]
                features = model.backbone.forward_bottleneck(torch.rot90(cube, times, (first, second))[None, None])
                logits = features.mean(dim=(2, 3, 4)) @ model.classifier.weight.T + model.classifier.bias
                expected -= float(logits.detach().double().log_softmax(dim=1)[0, index]) / 12
                hits += logits.argmax().item() == index
    terms = RotationLoss()(outputs, batch)
    assert terms["loss"].item() == pytest.approx(expected, abs=1e-5)
    assert float(terms["accuracy"]) == pytest.approx(hits / 12)


def _matrix(first: int, second: int, times: int) -> np.ndarray:
    """Of rot90: one quarter takes axis `first` to axis `second`."""
    quarter = np.eye(3, dtype=int)
    quarter[first, first] = quarter[second, second] = 0
    quarter[second, first], quarter[first, second] = 1, -1
    return np.linalg.matrix_power(quarter, times)


def test_loss_in_float32_and_of_certain_answers():
    rotation = torch.tensor([[0, 1, 3], [2, 9, 5]])
    logits = 40 * torch.eye(10)[rotation.flatten()]
    terms = RotationLoss()({"logits": logits.bfloat16(), "rotation": rotation}, {})
    assert terms["loss"].dtype == torch.float32
    assert float(terms["loss"]) < 1e-6 and float(terms["accuracy"]) == 1


def test_constant_features_cost_log_of_the_number_of_rotations():
    model = network(24)
    every = torch.arange(24).expand(2, 24)
    for scale in (0.0, 1.0, 5.0):
        logits = scale * model.classifier(torch.ones(32)).detach().expand(48, -1)
        assert float(RotationLoss()({"logits": logits, "rotation": every}, {})["loss"]) >= math.log(24) - 1e-5


def test_gradient_reaches_encoder_and_classifier_only():
    model, batch = network(), pairs()
    RotationLoss()(model(batch), batch)["loss"].backward()
    for name, parameter in model.named_parameters():
        has_gradient = parameter.grad is not None and bool(parameter.grad.abs().sum() > 0)
        assert has_gradient != name.startswith("backbone.decoder."), name
    for name in ("moving", "fixed"):  # each of the two volumes counts
        alone = {**batch, name: batch[name].clone().requires_grad_()}
        RotationLoss()(model(alone), alone)["loss"].backward()
        assert alone[name].grad.abs().sum() > 0


def test_a_few_steps_reduce_the_loss():
    """Two volumes that are brighter towards one corner, noisy, in all ten rotations."""
    x, y, z = torch.meshgrid(*[torch.linspace(0, 1, 16)] * 3, indexing="ij")
    noise = torch.rand(2, 1, 16, 16, 16, generator=torch.Generator().manual_seed(0))
    moving, fixed = (0.5 * x + 0.3 * y**2 + 0.2 * z**3 + 0.1 * noise).unsqueeze(1)
    model, losses = network(10, copies=10), []
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    batch = {"moving": moving, "fixed": fixed, "seed": torch.zeros(1, dtype=torch.long)}
    batch = {name: value[None] if value.ndim == 4 else value for name, value in batch.items()}
    for _ in range(30):
        terms = RotationLoss()(model(batch), batch)
        optimizer.zero_grad()
        terms["loss"].backward()
        optimizer.step()
        losses.append(terms["loss"].item())
    assert losses[0] > 2 and losses[-1] < 0.6 * losses[0]


def test_weights_make_the_round_trip(tmp_path):
    model, other, batch = network(), network(seed=1), pairs()
    save_pretext(model, tmp_path, {"pretext_task": "rotation"})
    assert load_pretext(other, tmp_path)["pretext_task"] == "rotation"
    assert torch.equal(model(batch)["logits"], other(batch)["logits"])
    with pytest.raises(ValueError, match="classifier"):
        load_pretext(network(24), tmp_path)
