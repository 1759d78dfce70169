# SPDX-License-Identifier: Apache-2.0
"""Rotation: by which right angles has this volume been turned?

S. Gidaris, P. Singh, N. Komodakis, "Unsupervised Representation Learning by Predicting Image Rotations", ICLR 2018
(equations 1 to 3). In 3D: A. Taleb et al., "3D Self-Supervised Methods for Medical Imaging", NeurIPS 2020.

    loss = - mean over volumes x, and over rotations y that x is seen in, of log p(y | R_y x)

with p the softmax over K rotations of a linear layer on the encoder's features, averaged over space.

- The paper has the K = 4 turns of a picture. Here K is 10, as in Taleb et al. (none; 90, 180 and 270 degrees about each
  axis), or 24, all proper rotations of the cube. A rotation permutes and flips axes: no interpolation leaves traces.
- The paper shows the network all K = 4 copies of a picture in one batch, as better than one of them at random; Taleb et
  al. show one. Here each volume is seen in `copies` different rotations, drawn uniformly: one alone taught nothing
  in 300 steps of two pairs; four, the paper's number, make a step of the encoder as long as one of GVSL (1.9 s on CPU).
- A volume that is not a cube is cropped to the cube in its centre before it is turned. So all classes have one shape
  and no padding of ours, either of which would give the answer away. What the crop cannot remove does so still: spacing
  that differs between axes (the anatomy looks stretched), or a preprocessing that had to pad along one axis only.
- Features cannot collapse at no cost: constant ones leave the loss at log(K) or more.
"""

from __future__ import annotations

import itertools

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from ..layers import at_least_float32
from .pairs import features_of_pairs

Rotation = tuple[tuple[int, int, int], tuple[int, int, int]]
STREAM = 24  # a random stream apart from that of other transforms with the same seed


def right_angle_rotations(count: int = 24) -> list[Rotation]:
    """The rotations that map the axes onto each other, the identity first.

    Args:
        count: 24, all of them, or 10, those that keep an axis where it is; they are the first 10 of the 24.

    Returns:
        (permutation, signs) each: axis i of the turned volume is axis permutation[i], backwards where signs[i] is -1.

    Raises:
        ValueError: another count.
    """
    if count not in (10, 24):
        raise ValueError(f"there are 10 or 24 right-angle rotations to tell apart, got {count}")
    every = itertools.product(itertools.permutations(range(3)), itertools.product((1, -1), repeat=3))
    proper = [rotation for rotation in every if np.linalg.det(rotation_matrix(rotation)) > 0]
    proper.sort(key=lambda rotation: 1 not in rotation_matrix(rotation).diagonal())
    return proper[:count]


def rotation_matrix(rotation: Rotation) -> np.ndarray:
    """3x3: maps a position relative to the volume's centre, in voxels, to where the rotation takes it."""
    permutation, signs = rotation
    return np.eye(3, dtype=int)[list(permutation)] * np.array(signs)[:, None]


def turn(volumes: torch.Tensor, rotation: Rotation) -> torch.Tensor:
    """Volumes (..., *spatial), turned exactly; the sides are permuted."""
    permutation, signs = rotation
    leading = volumes.ndim - 3
    turned = volumes.permute(*range(leading), *(leading + axis for axis in permutation))
    return turned.flip([leading + axis for axis in range(3) if signs[axis] < 0])


def centre_cube(volumes: torch.Tensor) -> torch.Tensor:
    """The cube in the centre of volumes (..., *spatial), of the shortest side; a view."""
    shape = volumes.shape[-3:]
    side = min(shape)
    x, y, z = (slice((size - side) // 2, (size - side) // 2 + side) for size in shape)
    return volumes[..., x, y, z]


def draw_rotations(seeds: torch.Tensor, count: int, copies: int) -> torch.Tensor:
    """Different rotations for each volume of a batch, from the seed of its pair alone.

    Args:
        seeds: (N,), not negative. count: of rotations to draw from. copies: of each volume, at most `count`.

    Returns:
        (2N, copies) indices below `count`, first of all moving, then of all fixed volumes; on the CPU.
    """
    generators = [np.random.default_rng([seed, STREAM]) for seed in seeds.tolist()]
    drawn = [[generator.permutation(count)[:copies] for generator in generators] for _ in ("moving", "fixed")]
    return torch.from_numpy(np.concatenate(drawn))


class RotationPretext(nn.Module):
    """Turns both volumes of a pair, each on its own, and says by which rotations from the encoder's pooled features.

    Args:
        backbone: a module with `forward_bottleneck` and `forward_features`, as `UNet3D`.
        channels: of its bottleneck.
        rotations: 10 or 24 (see `right_angle_rotations`).
        copies: of each volume in a step, in different rotations; the paper has as many as rotations.

    Raises:
        ValueError: another number of rotations, no copies or more than there are rotations.
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
            batch: "moving" and "fixed", (N, 1, *spatial), and "seed", (N,), from which the rotations are drawn.

        Returns:
            "rotation" (2N, copies), the indices to be found, first for all moving, then for all fixed volumes; "logits"
            (2N * copies, rotations), in the same order; in evaluation "bottleneck" and "local" features of both volumes
            as they are, (2N, C, ...).
        """
        volumes = torch.cat((batch["moving"], batch["fixed"]))
        rotation = draw_rotations(batch["seed"], len(self.rotations), self.copies)
        pairs = zip(centre_cube(volumes), rotation.tolist(), strict=True)
        turned = torch.stack([turn(volume, self.rotations[index]) for volume, indices in pairs for index in indices])
        pooled = self.backbone.forward_bottleneck(turned).mean(dim=(2, 3, 4))
        outputs = {"logits": self.classifier(pooled), "rotation": rotation.to(pooled.device)}
        return outputs if self.training else outputs | features_of_pairs(self.backbone, batch)


class RotationLoss(nn.Module):
    """Cross-entropy between the logits and the rotations that were applied."""

    def forward(self, outputs: dict[str, torch.Tensor], batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Outputs of `RotationPretext` -> "loss" and "accuracy", the share of rotations that are found; scalars."""
        logits, rotation = at_least_float32(outputs["logits"]), outputs["rotation"].flatten()
        accuracy = (logits.argmax(dim=1) == rotation).to(logits.dtype).mean()
        return {"loss": F.cross_entropy(logits, rotation), "accuracy": accuracy}
