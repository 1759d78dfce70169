# SPDX-License-Identifier: Apache-2.0
"""Rotation: predict by which right angles a volume was turned.

S. Gidaris, P. Singh, N. Komodakis, "Unsupervised Representation Learning by Predicting Image Rotations", ICLR 2018
(equations 1 to 3). In 3D: A. Taleb et al., "3D Self-Supervised Methods for Medical Imaging", NeurIPS 2020.

    loss = - mean over volumes x, and over the rotations y applied to x, of log p(y | R_y x)

R_y x is the turned volume; p is the softmax over K rotations of a linear layer on the encoder's features, averaged over
space.

- The paper has the K = 4 turns of a picture. Here K is 10, as in Taleb et al. (none; 90, 180 and 270 degrees about each
  axis), or 24, all proper rotations of the cube. A rotation permutes and flips axes: no interpolation leaves traces.
- The paper shows the network all K = 4 copies of a picture in one batch, which it found better than one of them at
  random; Taleb et al. show one. Here each volume is seen in `copies` different rotations, drawn uniformly. With one
  copy the network learned nothing in 300 steps of two pairs; four, the paper's number, take as long as a step of GVSL
  (1.9 s on CPU).
- A volume that is not a cube is cropped to the cube in its centre before it is turned: otherwise the shape or the
  padding would give the answer away. Two things still can: a spacing that differs between axes (the anatomy looks
  stretched), and padding along one axis alone in the preprocessing.
- Collapse has its price: constant features leave the loss at log(K) or more.
"""

from __future__ import annotations

import itertools

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from ..layers import at_least_float32, to_device
from .pairs import features_of_pairs

Rotation = tuple[tuple[int, int, int], tuple[int, int, int]]
STREAM = 24  # second seed, so that the draws differ from those of transforms with the same seed


def right_angle_rotations(count: int = 24) -> list[Rotation]:
    """The rotations by multiples of 90 degrees, the identity first.

    Args:
        count: 24 for all; 10 for those that leave the direction of one axis as it is, which are the first 10 of the 24.

    Returns:
        For each (permutation, signs): axis i of the turned volume is axis permutation[i] of the volume, reversed where
        signs[i] is -1.

    Raises:
        ValueError: another count.
    """
    if count not in (10, 24):
        raise ValueError(f"count must be 10 or 24 right-angle rotations, got {count}")
    every = itertools.product(itertools.permutations(range(3)), itertools.product((1, -1), repeat=3))
    proper = [rotation for rotation in every if np.linalg.det(rotation_matrix(rotation)) > 0]
    proper.sort(key=lambda rotation: 1 not in rotation_matrix(rotation).diagonal())
    return proper[:count]


def rotation_matrix(rotation: Rotation) -> np.ndarray:
    """3x3 matrix: maps a position in the volume to the position in the turned volume, in voxels from the centre."""
    permutation, signs = rotation
    return np.eye(3, dtype=int)[list(permutation)] * np.array(signs)[:, None]


def turn(volumes: torch.Tensor, rotation: Rotation) -> torch.Tensor:
    """Turns volumes (..., *spatial) without interpolation; the sides are permuted."""
    permutation, signs = rotation
    leading = volumes.ndim - 3
    turned = volumes.permute(*range(leading), *(leading + axis for axis in permutation))
    return turned.flip([leading + axis for axis in range(3) if signs[axis] < 0])


def centre_cube(volumes: torch.Tensor) -> torch.Tensor:
    """The cube in the centre of volumes (..., *spatial), as large as the shortest side; a view."""
    shape = volumes.shape[-3:]
    side = min(shape)
    x, y, z = (slice((size - side) // 2, (size - side) // 2 + side) for size in shape)
    return volumes[..., x, y, z]


def draw_rotations(seeds: torch.Tensor, count: int, copies: int) -> torch.Tensor:
    """Draws different rotations for each volume of a batch, from the seed of its pair alone.

    Args:
        seeds: (N,), one for each pair, 0 or more.
        count: number of rotations to draw from.
        copies: number of rotations for each volume, at most `count`.

    Returns:
        (2N, copies) indices below `count`, of all moving volumes, then of all fixed volumes; on the CPU.
    """
    generators = [np.random.default_rng([seed, STREAM]) for seed in seeds.tolist()]
    drawn = [[generator.permutation(count)[:copies] for generator in generators] for _ in ("moving", "fixed")]
    return torch.from_numpy(np.concatenate(drawn))


class RotationPretext(nn.Module):
    """Turns each volume of a pair and classifies the rotation from the encoder's pooled features.

    Args:
        backbone: a module with `forward_bottleneck` and `forward_features`, as `UNet3D`.
        channels: channels of the bottleneck.
        rotations: number of classes, 10 or 24 (see `right_angle_rotations`).
        copies: number of rotations in which each volume is seen in a step, from 1 to `rotations`.

    Raises:
        ValueError: another number of rotations or copies.
    """

    def __init__(self, backbone: nn.Module, channels: int, rotations: int = 10, copies: int = 4) -> None:
        super().__init__()
        self.rotations = right_angle_rotations(rotations)
        if not 1 <= copies <= rotations:
            raise ValueError(f"copies is {copies}, expected 1 to {rotations}, the number of rotations")
        self.copies = copies
        self.backbone = backbone
        self.classifier = nn.Linear(channels, rotations)

    def forward(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """One pass of a batch of pairs.

        Args:
            batch: "moving" and "fixed", (N, C, *spatial), and "seed", (N,), from which the rotations are drawn.

        Returns:
            "rotation" (2N, copies), indices of the applied rotations, of all moving volumes, then of all fixed volumes.
            "logits" (2N * copies, rotations), in the same order.
            In evaluation also the features of `features_of_pairs`.
        """
        volumes = torch.cat((batch["moving"], batch["fixed"]))
        rotation = draw_rotations(batch["seed"], len(self.rotations), self.copies)
        pairs = zip(centre_cube(volumes), rotation.tolist(), strict=True)
        turned = torch.stack([turn(volume, self.rotations[index]) for volume, indices in pairs for index in indices])
        pooled = self.backbone.forward_bottleneck(turned).mean(dim=(2, 3, 4))
        outputs = {"logits": self.classifier(pooled), "rotation": to_device(rotation, pooled.device)}
        return outputs if self.training else outputs | features_of_pairs(self.backbone, batch)


class RotationLoss(nn.Module):
    """Cross-entropy of the logits and the applied rotations."""

    def forward(self, outputs: dict[str, torch.Tensor], batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Outputs of `RotationPretext` -> "loss" and "accuracy", the share of correct rotations; scalars."""
        logits, rotation = at_least_float32(outputs["logits"]), outputs["rotation"].flatten()
        accuracy = (logits.argmax(dim=1) == rotation).to(logits.dtype).mean()
        return {"loss": F.cross_entropy(logits, rotation), "accuracy": accuracy}
