# SPDX-License-Identifier: Apache-2.0
"""What gradient descent finds: planted affine maps, a planted elastic map, and a live affine head."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from custom.metrics import RegistrationMeasures
from custom.pretext import GVSLLoss

SIDE = 24


def volume(array: np.ndarray) -> torch.Tensor:
    """(N, *spatial) -> (N, 1, *spatial)."""
    return torch.from_numpy(array).float().unsqueeze(1)


def pairs(moving: np.ndarray, fixed: np.ndarray) -> dict[str, torch.Tensor]:
    """A batch without appearance transform."""
    moving = volume(moving)
    return {"moving": moving, "moving_transformed": moving, "fixed": volume(fixed)}


def descend(network: torch.nn.Module, batches, steps: int, learning_rate: float) -> list[float]:
    """Adam on the GVSL loss; `batches` maps a step to its batch. The registration loss of each step."""
    optimizer = torch.optim.Adam(network.parameters(), learning_rate)
    loss_function, losses = GVSLLoss(), []
    for step in range(steps):
        batch = batches(step)
        terms = loss_function(network(batch), batch)
        optimizer.zero_grad()
        terms["loss"].backward()
        optimizer.step()
        losses.append(terms["registration"].item())
    return losses


@pytest.fixture
def planted_affine(blobs, voxel_grid):
    """Two pairs with opposite maps, so that no constant answers both: +-10 degrees, 1.1 and 0.9, +-4 voxels."""
    grid, planted = voxel_grid(SIDE, SIDE, SIDE), []
    for sign, scale in ((1, 1.1), (-1, 0.9)):
        rotation = Rotation.from_rotvec(sign * np.deg2rad(10) * np.array([1, 2, 2]) / 3)
        translation = sign * 4 * np.array([2, -1, 2]) / 3
        planted.append((rotation, scale, translation))
    fixed = np.stack([blobs(scale * rotation.apply(grid.reshape(-1, 3)) + shift) for rotation, scale, shift in planted])
    moving = blobs(grid)
    return planted, pairs(np.stack((moving, moving)), fixed.reshape(2, SIDE, SIDE, SIDE))


@pytest.mark.parametrize("keypoints", [False, True])
def test_the_affine_head_alone_recovers_planted_maps(make_pretext, planted_affine, keypoints):
    planted, batch = planted_affine
    network = make_pretext(deformable=None, restoration=None, keypoints=keypoints)
    losses = descend(network, lambda _: batch, 80, 4e-3)
    assert losses[0] > 0.2 and losses[-1] < 0.005
    with torch.no_grad():
        found = network(batch)["affine_matrix"].double().numpy()
    for matrix, (rotation, scale, translation) in zip(found, planted, strict=True):
        left, scales, right = np.linalg.svd(matrix[:, :3])  # = rotation * symmetric stretch
        error = Rotation.from_matrix(left @ right) * rotation.inv()
        assert np.rad2deg(error.magnitude()) < 1
        assert np.abs(scales - scale).max() < 0.02
        assert np.linalg.norm(matrix[:, 3] - translation) < 0.5


def test_a_planted_smooth_elastic_map_is_found_by_both_heads(make_pretext, voxel_grid):
    grid, frequency = voxel_grid(SIDE, SIDE, SIDE), 2 * np.pi / SIDE
    phase = np.random.default_rng(0).uniform(0, 2 * np.pi, (3, 2))
    displacement = [
        2 * np.sin(frequency * grid[..., c - 2] + phase[c, 0]) * np.cos(frequency * grid[..., c - 1] + phase[c, 1])
        for c in range(3)
    ]
    centres = 0.2 * SIDE * np.array([(1, 1, 1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1)])

    def draw(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Image and label of four soft ellipsoids of different brightness, (1, *spatial)."""
        image, label = np.zeros(points.shape[:3]), np.zeros(points.shape[:3])
        for index, centre in enumerate(centres):
            distance = np.linalg.norm((points - centre) * (1, 0.9, 1.15), axis=-1)
            label[distance < 0.23 * SIDE] = index + 1
            image += (0.4 + 0.1 * index) / (1 + np.exp((distance - 0.23 * SIDE) / 0.7))
        return image[None], label[None]

    moving, moving_label = draw(grid)
    fixed, fixed_label = draw(grid + np.stack(displacement, axis=-1))
    batch = pairs(moving, fixed) | {"moving_label": volume(moving_label), "fixed_label": volume(fixed_label)}
    network = make_pretext()
    descend(network, lambda _: batch, 50, 3e-3)
    with torch.no_grad():
        measured = RegistrationMeasures(network.matching_head, range(1, 5))(network(batch), batch)
    assert measured["dice_before"].item() < 0.8
    assert measured["dice_after"].item() > 0.9
    assert measured["folded_share"].item() < 0.01


@pytest.mark.parametrize("keypoints", [False, True])
def test_the_affine_head_is_alive_after_fifty_steps(make_pretext, blobs, voxel_grid, keypoints):
    random = np.random.default_rng(0)
    grid = voxel_grid(16, 16, 16)
    seeds = random.integers(0, 1000, (53, 2))

    def batch(step: int) -> dict[str, torch.Tensor]:
        return pairs(*(blobs(grid, seed, radius=5)[None] for seed in seeds[step]))

    network = make_pretext(keypoints=keypoints)
    descend(network, batch, 50, 1e-3)

    def norm(module: torch.nn.Module) -> float:
        weights = [layer.weight for layer in module.modules() if isinstance(layer, torch.nn.Conv3d)]
        return torch.cat([weight.grad.flatten() for weight in weights]).norm().item()

    network.zero_grad()
    for step in range(50, 53):  # summed over pairs that it has not seen
        unseen = batch(step)
        GVSLLoss()(network(unseen), unseen)["loss"].backward()
    assert norm(network.matching_head.affine_head) >= 1e-3 * norm(network.backbone)
