# SPDX-License-Identifier: Apache-2.0
"""How the outputs of the heads become a map between volumes: our conventions, and the authors' for their weights."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from .affine import affine_to_displacement, compose_affine, linear_matrix
from .authors import authors_affine_matrix, authors_affine_warp, authors_displacement, authors_flow_warp
from .displacement import fuse, fuse_equation_12
from .precision import at_least_float32
from .warp import warp

ROTATION_RANGE = math.pi / 9  # the ranges of the authors' code; the paper says only that they are limited
SCALE_RANGE = 0.25
SHEAR_RANGE = math.pi / 18
NUMBERS = ("rotation", "scale", "shear", "translation")


class PhysicalConventions:
    """Rigid in millimetres, smooth range limits, one interpolation.

    Rotation within +-pi/9, scale 0.75 to 1.25, shear tan(+-pi/18), all through tanh; the translation is free, in
    half sides of the volume.

    Args:
        spacing: millimetres per voxel of each axis.
        fusion: "fixed_grid" (`fuse`) or "equation_12" (`fuse_equation_12`).
    """

    def __init__(self, spacing: Sequence[float] = (1.0, 1.0, 1.0), fusion: str = "fixed_grid") -> None:
        fusions = {"fixed_grid": fuse, "equation_12": fuse_equation_12}
        if fusion not in fusions:
            raise ValueError(f"fusion must be one of {sorted(fusions)}, got {fusion!r}")
        self.spacing = tuple(spacing)
        self._fuse = fusions[fusion]

    def matrix(self, numbers: dict[str, torch.Tensor], spatial_shape: Sequence[int]) -> torch.Tensor:
        """Numbers of `AffineHead` -> (N, 3, 4) in millimetres about the centre, float32."""
        rotation, scale, shear, translation = (at_least_float32(numbers[name]) for name in NUMBERS)
        rotation, scale, shear = rotation.tanh(), scale.tanh(), shear.tanh()
        linear = linear_matrix(ROTATION_RANGE * rotation, 1 + SCALE_RANGE * scale, (SHEAR_RANGE * shear).tan())
        half_sides = [side * step / 2 for side, step in zip(spatial_shape, self.spacing, strict=True)]
        return compose_affine(linear, translation * linear.new_tensor(half_sides))

    def warp_affine(self, image: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
        """(N, C, *spatial) sampled under the affine map alone."""
        return warp(image, affine_to_displacement(matrix, image.shape[2:], self.spacing))

    def displacement(self, matrix: torch.Tensor, local: torch.Tensor) -> torch.Tensor:
        """The whole map as one field in voxels, (N, 3, *spatial)."""
        return self._fuse(matrix, local, self.spacing)

    def warp(self, image: torch.Tensor, matrix: torch.Tensor, local: torch.Tensor) -> torch.Tensor:
        """(N, C, *spatial) sampled once under the whole map."""
        return warp(image, self.displacement(matrix, local))


class AuthorsConventions:
    """The released code's: hard limits, normalised coordinates, two interpolations (see `authors`)."""

    def matrix(self, numbers: dict[str, torch.Tensor], spatial_shape: Sequence[int]) -> torch.Tensor:
        """Numbers of `AffineHead` -> (N, 3, 4), rows x, y, z with x the last axis, float32."""
        rotation, scale, shear, translation = (at_least_float32(numbers[name]) for name in NUMBERS)
        rotation, scale, shear = rotation.clamp(-1, 1), scale.clamp(-1, 1), shear.clamp(-1, 1)
        return authors_affine_matrix(
            ROTATION_RANGE * rotation, 1 + SCALE_RANGE * scale, translation, (SHEAR_RANGE * shear).tan()
        )

    def warp_affine(self, image: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
        """(N, C, *spatial) sampled under the affine map alone."""
        return authors_affine_warp(at_least_float32(image), matrix)

    def displacement(self, matrix: torch.Tensor, local: torch.Tensor) -> torch.Tensor:
        """The whole map as one field in voxels, (N, 3, *spatial)."""
        return authors_displacement(matrix, local)

    def warp(self, image: torch.Tensor, matrix: torch.Tensor, local: torch.Tensor) -> torch.Tensor:
        """(N, C, *spatial) sampled under the affine map, and the result under the local displacement."""
        return authors_flow_warp(self.warp_affine(image, matrix), local)
