# SPDX-License-Identifier: Apache-2.0
"""Random affine and elastic transform of batches of pairs on their device, with one resampling."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
from monai.utils import convert_to_tensor
from scipy.interpolate import BSpline
from torch import nn

from ..layers import compose_affine, constant, fuse, linear_matrix, to_device, warp

LABELS = {"moving_label": "moving", "fixed_label": "fixed"}  # label map -> the volume whose transform it gets
# numbers drawn for each volume: 3 rotations, 3 scales, 3 translations, 6 shears, 1 strength of the elastic part
PARAMETER_COUNT = 16


def elastic_knot_shape(
    spatial_shape: Sequence[int], spacing: Sequence[float], smoothing: float
) -> tuple[int, int, int]:
    """Number of knots along each axis with which `elastic_displacement` covers a volume.

    Args:
        spatial_shape: sides of the volume in voxels.
        spacing: voxel size in millimetres.
        smoothing: see `elastic_displacement`.
    """
    return tuple(
        math.ceil((side - 1) * millimetres / _knot_spacing(smoothing)) + 4
        for side, millimetres in zip(spatial_shape, spacing, strict=True)
    )


def elastic_displacement(
    noise: torch.Tensor, rms: torch.Tensor, spatial_shape: Sequence[int], spacing: Sequence[float], smoothing: float
) -> torch.Tensor:
    """Smooth random displacement: a cubic B-spline whose coefficients are noise.

    A cubic B-spline with the distance h between knots is approximately a Gaussian of standard deviation h / sqrt(3).
    With h = sqrt(3) * smoothing, the field is white noise smoothed by a Gaussian of `smoothing` millimetres, computed
    with three small matrix products. Distances of knots are in millimetres, so that the field is equally smooth along
    all axes for every spacing.

    Args:
        noise: (N, 3, *elastic_knot_shape(...)), standard normal.
        rms: (N,), root mean square over the voxels of the length of the displacement in millimetres (exact).
        spatial_shape: sides of the volume in voxels.
        spacing: voxel size in millimetres.
        smoothing: Gaussian standard deviation in millimetres.

    Returns:
        (N, 3, *spatial_shape) in voxels.
    """
    weights = [
        constant(_spline_weights(side, millimetres, smoothing), noise)
        for side, millimetres in zip(spatial_shape, spacing, strict=True)
    ]
    displacement = torch.einsum("kz,ncxyk->ncxyz", weights[2], noise)
    displacement = torch.einsum("ky,ncxkz->ncxyz", weights[1], displacement)
    displacement = torch.einsum("kx,nckyz->ncxyz", weights[0], displacement)
    measured = displacement.square().sum(1).flatten(1).mean(1).sqrt()
    voxels_per_millimetre = 1 / constant(spacing, noise)
    factor = (rms / measured)[:, None] * voxels_per_millimetre
    return displacement * factor[:, :, None, None, None]


def _knot_spacing(smoothing: float) -> float:
    return math.sqrt(3) * smoothing


@cache
def _spline_weights(side: int, spacing: float, smoothing: float) -> tuple[tuple[float, ...], ...]:
    """(knots, side): values of the cubic B-splines at the voxels of one axis, with the knots centred on the volume."""
    extent = (side - 1) * spacing / _knot_spacing(smoothing)
    spans = math.ceil(extent) + 1
    position = np.linspace((spans - extent) / 2, (spans + extent) / 2, side)
    matrix = BSpline.design_matrix(position, np.arange(-3.0, spans + 4), k=3).toarray()
    return tuple(map(tuple, matrix.T.tolist()))


class RandSpatialTransform(nn.Module):
    """Random rotation, scale, shear, translation and elastic deformation of the volumes of a pair.

    Every volume is sampled once at p + u(p), where u(p) = M (p + e(p)) - p. The image is first transformed by the
    affine map M x = R S Sh x + t (in millimetres, about the centre of the volume), then deformed by the elastic
    displacement e, which is defined on the output grid. M maps output to input positions: a scale below 1 magnifies.

    The parameters of a pair depend on its seed only and are drawn on the CPU. They are equal in every batch, worker
    and device.

    The defaults are those of the authors' code (the paper states none). Its elastic field (uniform noise times 512,
    smoothed by a Gaussian of 10 to 13 voxels) has a root mean square length of at most 2 voxels at 1 mm, 1.1 for each
    axis.

    Args:
        mode: "independent" (one transform for each group; better in the measurements of this project), "shared" (one
            transform for all groups, as in the authors' code) or "none".
        rotation_degrees: largest angle about each axis.
        scale: smallest and largest factor of each axis.
        translation: largest shift along each axis, as a fraction of the volume's side.
        shear_degrees: largest angle of each of the six shears; the coefficient of a shear is the tangent of its angle.
        elastic_rms: largest root mean square length of the elastic displacement in millimetres; the length of a volume
            is drawn from [0, elastic_rms].
        elastic_smoothing: Gaussian standard deviation of the elastic field in millimetres.
        spacing: voxel size in millimetres.
        padding_mode: values outside the volume: "zeros" (air in our CT window) or "border".
        groups: keys of the volumes to transform; the volumes of one group have one transform.
    """

    def __init__(
        self,
        mode: str = "independent",
        rotation_degrees: float = 20.0,
        scale: Sequence[float] = (0.75, 1.25),
        translation: float = 0.1,
        shear_degrees: float = 10.0,
        elastic_rms: float = 2.0,
        elastic_smoothing: float = 12.0,
        spacing: Sequence[float] = (1.0, 1.0, 1.0),
        padding_mode: str = "zeros",
        groups: Sequence[Sequence[str]] = (("moving", "moving_transformed"), ("fixed",)),
    ) -> None:
        super().__init__()
        if mode not in ("none", "shared", "independent"):
            raise ValueError(f'mode must be "none", "shared" or "independent", got {mode!r}')
        if len(scale) != 2 or not 0 < scale[0] <= scale[1]:
            raise ValueError(f"scale must be two increasing positive numbers, got {tuple(scale)}")
        if len(spacing) != 3 or min(spacing) <= 0:
            raise ValueError(f"spacing must be three positive numbers, got {tuple(spacing)}")
        if elastic_rms < 0 or elastic_smoothing <= 0:
            raise ValueError(
                f"elastic_rms must not be negative and elastic_smoothing must be positive, "
                f"got {elastic_rms} and {elastic_smoothing}"
            )
        self.mode = mode
        self.rotation = math.radians(rotation_degrees)
        self.scale = tuple(scale)
        self.translation = translation
        self.shear = math.radians(shear_degrees)
        self.elastic_rms = elastic_rms
        self.elastic_smoothing = elastic_smoothing
        self.spacing = tuple(spacing)
        self.padding_mode = padding_mode
        self.groups = tuple(tuple(group) for group in groups)
        self.group_of = {key: index for index, group in enumerate(self.groups) for key in group}
        if not all(self.groups) or len(self.group_of) != sum(map(len, self.groups)):
            raise ValueError(f"groups must hold each key once and none may be empty, got {self.groups}")

    @torch.no_grad()
    def forward(self, batch: dict) -> dict:
        """Transform the volumes of a batch.

        Args:
            batch: the volumes of the groups, all (N, C, *spatial) of one shape, and "seed", (N,) int64. The label maps
                "moving_label" and "fixed_label" are optional; they are transformed like "moving" and "fixed", by the
                nearest voxel.

        Returns:
            A new dictionary with the transformed volumes as plain float32 tensors. Label maps have their type, all
            other entries are not changed.

        Raises:
            KeyError: an entry is missing.
            ValueError: shapes or the number of seeds differ.
        """
        result = dict(batch)
        if self.mode == "none":
            return result
        images = self._checked_images(batch)
        first = next(iter(images.values()))
        spatial_shape = tuple(first.shape[2:])
        fields = self.displacements(batch["seed"].tolist(), spatial_shape, first.device)

        displacement = torch.cat([fields[self.group_of[key]] for key in images])
        warped = warp(torch.cat(list(images.values())), displacement, padding_mode=self.padding_mode)
        result.update(zip(images, warped.chunk(len(images)), strict=True))
        for key, followed in LABELS.items():
            if key in batch and followed in self.group_of:
                label = convert_to_tensor(batch[key], track_meta=False)
                field = fields[self.group_of[followed]]
                result[key] = warp(label, field, mode="nearest", padding_mode=self.padding_mode).to(label.dtype)
        return result

    @torch.no_grad()
    def displacements(
        self, seeds: Sequence[int], spatial_shape: Sequence[int], device: torch.device | str = "cpu"
    ) -> tuple[torch.Tensor, ...]:
        """Displacements of the volumes of each group.

        Args:
            seeds: the seeds of N pairs.
            spatial_shape: sides of the volumes in voxels.
            device: device of the result.

        Returns:
            For each group a tensor (N, 3, *spatial_shape), float32, in voxels; the same tensor if mode is "shared".
        """
        device = torch.device(device)
        with torch.autocast(device.type, enabled=False), torch.autocast("cpu", enabled=False):
            affine_matrix, noise, rms = self._draw(seeds, spatial_shape)
            affine_matrix, noise, rms = (to_device(drawn, device) for drawn in (affine_matrix, noise, rms))
            elastic = elastic_displacement(noise, rms, spatial_shape, self.spacing, self.elastic_smoothing)
            displacement = fuse(affine_matrix, elastic, self.spacing)
        if self.mode == "shared":
            return (displacement,) * len(self.groups)
        return displacement.chunk(len(self.groups))

    def _draw(self, seeds: Sequence[int], spatial_shape: Sequence[int]) -> tuple[torch.Tensor, ...]:
        """Affine matrices, elastic noise and rms on the CPU: all pairs of the first group, then those of the next."""
        knot_shape = elastic_knot_shape(spatial_shape, self.spacing, self.elastic_smoothing)
        uniform, noise = [], []
        for seed in seeds:
            generator = torch.Generator().manual_seed(int(seed))
            uniform.append(torch.rand(len(self.groups), PARAMETER_COUNT, generator=generator))
            noise.append(torch.randn(len(self.groups), 3, *knot_shape, generator=generator))
        volumes = 1 if self.mode == "shared" else len(self.groups)
        uniform = torch.stack(uniform, dim=1)[:volumes].flatten(0, 1)
        noise = torch.stack(noise, dim=1)[:volumes].flatten(0, 1)

        rotation, scale, translation, shear, strength = uniform.split((3, 3, 3, 6, 1), dim=1)
        low, high = self.scale
        linear = linear_matrix(
            (2 * rotation - 1) * self.rotation, low + (high - low) * scale, ((2 * shear - 1) * self.shear).tan()
        )
        sides = torch.tensor([side * step for side, step in zip(spatial_shape, self.spacing, strict=True)])
        affine_matrix = compose_affine(linear, (2 * translation - 1) * self.translation * sides)
        return affine_matrix, noise, strength.squeeze(1) * self.elastic_rms

    def _checked_images(self, batch: dict) -> dict[str, torch.Tensor]:
        """The image volumes of the batch as plain tensors."""
        for key in (*self.group_of, "seed"):
            if key not in batch:
                raise KeyError(f'the batch has no "{key}"; it has {sorted(map(str, batch))}')
        images = {key: convert_to_tensor(batch[key], track_meta=False) for key in self.group_of}
        shapes = {key: tuple(image.shape) for key, image in images.items()}
        shape = next(iter(shapes.values()))
        if len(set(shapes.values())) != 1 or len(shape) != 5:
            raise ValueError(f"the volumes of a batch must have one shape (N, C, *spatial), got {shapes}")
        if tuple(batch["seed"].shape) != shape[:1]:
            raise ValueError(f'"seed" must have shape ({shape[0]},), got {tuple(batch["seed"].shape)}')
        return images
