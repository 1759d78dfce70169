# SPDX-License-Identifier: Apache-2.0
"""How the outputs of the heads become a map between volumes: our conventions, and the authors' for their weights."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from .affine import affine_to_displacement, compose_affine, linear_matrix
from .authors import authors_affine_matrix, authors_affine_warp, authors_displacement, authors_flow_warp
from .constants import constant
from .displacement import fuse, fuse_equation_12
from .precision import at_least_float32
from .warping import warp

ROTATION_RANGE = math.pi / 9  # these ranges are the authors' code's; the paper only says that ranges are limited
SCALE_RANGE = 0.25
SHEAR_RANGE = math.pi / 18
NUMBERS = ("rotation", "scale", "shear", "translation")


class PhysicalConventions:
    """Our geometry: rigid in millimetres, smooth range limits, one interpolation.

    Rotation within +-pi/9, scale 0.75 to 1.25 and shear within tan(+-pi/18), limited by tanh; the translation is not
    limited, its unit is half a side of the volume.

    Args:
        spacing: millimetres per voxel of each axis.
        fusion: how the affine map and the local displacement become one field: "fixed_grid" (`fuse`) or "equation_12"
            (`fuse_equation_12`).

    Raises:
        ValueError: another `fusion`.
    """

    def __init__(self, spacing: Sequence[float] = (1.0, 1.0, 1.0), fusion: str = "fixed_grid") -> None:
        fusions = {"fixed_grid": fuse, "equation_12": fuse_equation_12}
        if fusion not in fusions:
            raise ValueError(f"fusion must be one of {sorted(fusions)}, got {fusion!r}")
        self.spacing = tuple(spacing)
        self._fuse = fusions[fusion]

    def matrix(self, numbers: dict[str, torch.Tensor], spatial_shape: Sequence[int]) -> torch.Tensor:
        """Numbers of `AffineHead` -> (N, 3, 4), in millimetres from the centre of the volume, at least float32."""
        rotation, scale, shear, translation = (at_least_float32(numbers[name]) for name in NUMBERS)
        rotation, scale, shear = rotation.tanh(), scale.tanh(), shear.tanh()
        linear = linear_matrix(ROTATION_RANGE * rotation, 1 + SCALE_RANGE * scale, (SHEAR_RANGE * shear).tan())
        half_sides = [side * step / 2 for side, step in zip(spatial_shape, self.spacing, strict=True)]
        return compose_affine(linear, translation * constant(half_sides, linear))

    def warp_affine(self, image: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
        """(N, C, *spatial) sampled under the affine map alone."""
        return warp(image, affine_to_displacement(matrix, image.shape[2:], self.spacing))

    def displacement(self, matrix: torch.Tensor, local: torch.Tensor) -> torch.Tensor:
        """Both maps as one displacement field, (N, 3, *spatial), in voxels."""
        return self._fuse(matrix, local, self.spacing)

    def warp(self, image: torch.Tensor, matrix: torch.Tensor, local: torch.Tensor) -> torch.Tensor:
        """(N, C, *spatial) sampled once under both maps."""
        return warp(image, self.displacement(matrix, local))


class AuthorsConventions:
    """The geometry of the released code: hard limits, normalised coordinates, two interpolations (see `authors`)."""

    def matrix(self, numbers: dict[str, torch.Tensor], spatial_shape: Sequence[int]) -> torch.Tensor:
        """Numbers of `AffineHead` -> (N, 3, 4), rows x, y, z with x the last axis, at least float32."""
        rotation, scale, shear, translation = (at_least_float32(numbers[name]) for name in NUMBERS)
        rotation, scale, shear = rotation.clamp(-1, 1), scale.clamp(-1, 1), shear.clamp(-1, 1)
        return authors_affine_matrix(
            ROTATION_RANGE * rotation, 1 + SCALE_RANGE * scale, translation, (SHEAR_RANGE * shear).tan()
        )

    def warp_affine(self, image: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
        """(N, C, *spatial) sampled under the affine map alone."""
        return authors_affine_warp(at_least_float32(image), matrix)

    def displacement(self, matrix: torch.Tensor, local: torch.Tensor) -> torch.Tensor:
        """Both maps as one displacement field, (N, 3, *spatial), in voxels."""
        return authors_displacement(matrix, local)

    def warp(self, image: torch.Tensor, matrix: torch.Tensor, local: torch.Tensor) -> torch.Tensor:
        """(N, C, *spatial) sampled under the affine map, then the result sampled under the local displacement."""
        return authors_flow_warp(self.warp_affine(image, matrix), local)
