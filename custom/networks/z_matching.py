# SPDX-License-Identifier: Apache-2.0
"""The Z-matching head of GVSL: from the features of two volumes to one displacement field."""

from __future__ import annotations

import torch
from torch import nn

from ..layers import AuthorsConventions, PhysicalConventions, at_least_float32, in_float32
from .heads import AFFINE_NUMBERS, AffineHead, DeformableHead
from .keypoints import KeypointAffineHead

Features = tuple[torch.Tensor, torch.Tensor]


class ZMatchingHead(nn.Module):
    """An affine map from the bottleneck features, then a local displacement from the local features (section 3.2).

    The moving local features are warped by the affine map before the deformable head sees them; both maps together give
    the displacement of each voxel of the fixed volume. Geometry is computed in float32 also under autocast.

    Args:
        affine_head: `KeypointAffineHead`, which gives the matrix, or `AffineHead`, which gives numbers from which the
            conventions make the matrix; None for the identity.
        deformable_head: the head; None for no local displacement.
        conventions: the geometry: `PhysicalConventions` with the spacing of the volumes (None for 1 mm), or
            `AuthorsConventions` for weights that were trained with the authors' code.

    Raises:
        TypeError: `conventions` is something else, such as "authors" from a config of an earlier version.
        ValueError: `KeypointAffineHead`, whose matrix is in millimetres, with `AuthorsConventions`.
    """

    def __init__(
        self,
        affine_head: KeypointAffineHead | AffineHead | None,
        deformable_head: DeformableHead | None,
        conventions: PhysicalConventions | AuthorsConventions | None = None,
    ) -> None:
        super().__init__()
        conventions = PhysicalConventions() if conventions is None else conventions
        if not isinstance(conventions, PhysicalConventions | AuthorsConventions):
            raise TypeError(f"conventions must be PhysicalConventions or AuthorsConventions, got {conventions!r}")
        if isinstance(conventions, AuthorsConventions) and isinstance(affine_head, KeypointAffineHead):
            raise ValueError("KeypointAffineHead needs PhysicalConventions, got AuthorsConventions; use AffineHead")
        self.affine_head = affine_head
        self.deformable_head = deformable_head
        self.conventions = conventions

    def forward(self, moving: Features, fixed: Features) -> dict[str, torch.Tensor]:
        """Registers the moving volumes to the fixed volumes.

        Args:
            moving: bottleneck and local features, (N, C, *spatial / divisor) and (N, C, *spatial).
            fixed: the same of the fixed volumes.

        Returns:
            "affine_matrix" (N, 3, 4), see the conventions.
            "local_displacement", of the deformable head, and "displacement", of both maps together, (N, 3, *spatial),
            in voxels of the fixed grid.
        """
        moving_bottleneck, moving_local = moving
        fixed_bottleneck, fixed_local = fixed
        if self.affine_head is None:
            affine = identity_numbers(fixed_local)
        else:
            affine = self.affine_head(moving_bottleneck, fixed_bottleneck)
        with torch.autocast(fixed_local.device.type, enabled=False):
            matrix = affine if torch.is_tensor(affine) else self.conventions.matrix(affine, fixed_local.shape[2:])
        return self.match(matrix, moving_local, fixed_local, is_identity=self.affine_head is None)

    def match(
        self, matrix: torch.Tensor, moving_local: torch.Tensor, fixed_local: torch.Tensor, is_identity: bool = False
    ) -> dict[str, torch.Tensor]:
        """Registers the moving volumes to the fixed volumes after a known affine map.

        Args:
            matrix: affine maps (N, 3, 4), see the conventions.
            moving_local: local features of the moving volumes, (N, C, *spatial).
            fixed_local: the same of the fixed volumes.
            is_identity: whether the maps are known to be the identity, so that nothing need be warped by them.

        Returns:
            As `forward`.
        """
        with torch.autocast(fixed_local.device.type, enabled=False):
            if self.deformable_head is not None and not is_identity:
                moving_local = self.conventions.warp_affine(at_least_float32(moving_local), matrix)
        if self.deformable_head is None:
            local = matrix.new_zeros(len(matrix), 3, *fixed_local.shape[2:])
        else:
            local = at_least_float32(self.deformable_head(moving_local, fixed_local))
        with torch.autocast(fixed_local.device.type, enabled=False):
            displacement = self.conventions.displacement(matrix, local)
        return {"affine_matrix": matrix, "local_displacement": local, "displacement": displacement}

    def warp(self, image: torch.Tensor, match: dict[str, torch.Tensor]) -> torch.Tensor:
        """The moving image (N, C, *spatial) in the fixed grid, under both maps, in float32."""
        return in_float32(self.conventions.warp, image, match["affine_matrix"], match["local_displacement"])

    def warp_affine(self, image: torch.Tensor, match: dict[str, torch.Tensor]) -> torch.Tensor:
        """The moving image (N, C, *spatial) in the fixed grid, under the affine map alone, in float32."""
        return in_float32(self.conventions.warp_affine, image, match["affine_matrix"])


def identity_numbers(like: torch.Tensor) -> dict[str, torch.Tensor]:
    """The output of an `AffineHead` that predicts the identity: zeros, (N, 3) and (N, 6), like a tensor (N, ...)."""
    return {name: like.new_zeros(len(like), size) for name, size in AFFINE_NUMBERS.items()}
