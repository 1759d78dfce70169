# SPDX-License-Identifier: Apache-2.0
"""The similarity head: the local displacement is read off which features of two volumes agree."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

import torch
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from ..layers import at_least_float32, constant, warp

MIN_NORM = 1e-3  # features shorter than this are scaled down instead of normalised: they agree with nothing


class SimilarityHead(nn.Module):
    """Local features of both volumes -> local displacement in voxels, by comparing features, as `DeformableHead` gives.

    With a and b the features of the moving and the fixed volume, embedded, without their spatial mean, averaged over
    cells of `stride` voxels and normalised to length 1:

        cost    c(p, o) = b(p) . a(p + o)               for the (2 radius + 1)^3 offsets o, in cells
        share   s(p, o) = exp(c(p, o) / temperature) / sum over o' of exp(c(p, o') / temperature)
        offset  v(p)    = sum over o of s(p, o) o       smoothed by box means
        field   u(p)    = v(p) + u'(p + v(p))           u' is the field of the coarser level, zero at the first

    A finer level reads the moving features warped by u'. Beyond the border the outermost cell is repeated, so offsets
    of border cells lean outwards.

    This head and `KeypointAffineHead` have almost no weights of their own. What registers two volumes must therefore
    stand in the features: the same anatomy has to give the same features. The heads of the paper, which convolve both
    volumes' features into a map, are in paper.json.

    Cost volume: FlowNetC (Dosovitskiy et al., 2015); warping from coarse to fine: PWC-Net (Sun et al., 2018); expected
    offset (soft argmax): Kendall et al., 2017; box means of it in registration: ConvexAdam (Siebert et al., 2021).

    Memory in training, float32: about 12 bytes for every channel and voxel of each volume (embedded, without mean,
    normalised), and for each level with K = (2 radius + 1)^3 offsets and V cells 4 K V bytes, three times that while
    its gradient is computed. The features are never copied for an offset. Two volumes of 128^3 with 32 channels and
    radius 2: 1.6 GB, at the peak 2.3 GB (measured) at stride 2, and 3.2 and 4.2 GB at stride 1; to recompute the cost
    in the backward pass did not lower the peak.

    Args:
        in_channels: channels of the local features of one volume.
        embedding_channels: channels of the features that are compared, from a 1x1x1 convolution without bias; None
            compares the local features themselves.
        levels: (stride, radius) of each level from coarse to fine; the stride in voxels, the radius in cells.
        temperature: of the softmax over cosines; with small ones the best offset alone counts.
        smoothing: box means over 3^3 cells of each level's offsets.

    Raises:
        ValueError: no level, a stride below 1, a radius below 1, or a temperature that is not positive.
    """

    def __init__(
        self,
        in_channels: int,
        embedding_channels: int | None = None,
        levels: Sequence[Sequence[int]] = ((2, 2),),
        temperature: float = 0.07,
        smoothing: int = 2,
    ) -> None:
        super().__init__()
        self.levels = [(int(stride), int(radius)) for stride, radius in levels]
        if not self.levels or min(min(level) for level in self.levels) < 1:
            raise ValueError(f"levels must hold (stride, radius), each 1 or more, got {levels}")
        if temperature <= 0:
            raise ValueError(f"temperature must be positive, got {temperature}")
        self.embedding = nn.Conv3d(in_channels, embedding_channels, 1, bias=False) if embedding_channels else None
        self.temperature = temperature
        self.smoothing = smoothing

    def forward(self, moving: torch.Tensor, fixed: torch.Tensor) -> torch.Tensor:
        """Estimates the displacement.

        Args:
            moving: features (N, in_channels, *spatial) of the moving volume, already aligned by the affine map.
            fixed: features of the fixed volume, of the same shape.

        Returns:
            (N, 3, *spatial), voxels, at least float32 also under autocast.

        Raises:
            ValueError: the shapes differ, or are not (N, C, *spatial) with three spatial axes.
        """
        if moving.shape != fixed.shape or moving.ndim != 5:
            shapes = f"{tuple(moving.shape)} and {tuple(fixed.shape)}"
            raise ValueError(f"moving and fixed must have one shape (N, C, *spatial), three spatial axes, got {shapes}")
        with torch.autocast(fixed.device.type, enabled=False):
            divisor = math.lcm(*(stride for stride, _ in self.levels))
            embedded = [pad_behind(self.embed(features), divisor) for features in (moving, fixed)]
            displacement = self.at_level(*embedded, None, *self.levels[0])
            for stride, radius in self.levels[1:]:
                displacement = self.at_level(*embedded, displacement, stride, radius)
        x, y, z = fixed.shape[2:]
        return displacement[:, :, :x, :y, :z]

    def embed(self, features: torch.Tensor, mean: torch.Tensor | None = None) -> torch.Tensor:
        """What is compared: features without their spatial mean, embedded, of length 1, at least float32.

        Args:
            features: (N, in_channels, *spatial).
            mean: of the whole volume, (N, in_channels, 1, 1, 1), if the features are of some places in it.
        """
        features = at_least_float32(features)
        centred = features - (features.mean((2, 3, 4), keepdim=True) if mean is None else mean)
        return unit_length(centred if self.embedding is None else self.embedding(centred))

    def at_level(
        self, moving: torch.Tensor, fixed: torch.Tensor, coarser: torch.Tensor | None, stride: int, radius: int
    ) -> torch.Tensor:
        """The displacement after one level.

        Args:
            moving: embedded features (N, C, *spatial).
            fixed: as moving.
            coarser: displacement of the coarser level, (N, 3, *spatial), voxels; None at the first level.
            stride: side of a cell in voxels; divides each spatial side.
            radius: largest offset along an axis, in cells.

        Returns:
            (N, 3, *spatial), voxels.
        """
        if stride > 1:
            moving, fixed = (unit_length(F.avg_pool3d(features, stride)) for features in (moving, fixed))
        if coarser is not None:
            coarser = F.avg_pool3d(coarser, stride) / stride
            moving = unit_length(warp(moving, coarser, padding_mode="border"))
        offset = most_similar_offset(moving, fixed, radius, self.temperature)
        for _ in range(self.smoothing):
            offset = F.avg_pool3d(F.pad(offset, [1] * 6, mode="replicate"), 3, 1)
        if coarser is not None:
            offset = offset + warp(coarser, offset, padding_mode="border")
        if stride == 1:
            return offset
        return stride * F.interpolate(offset, scale_factor=stride, mode="trilinear", align_corners=False)


def unit_length(features: torch.Tensor) -> torch.Tensor:
    """Features (N, C, *spatial), each voxel's scaled to length 1."""
    squared = features.square().sum(1, keepdim=True)  # several times as fast as F.normalize across channels
    return features * squared.clamp(min=MIN_NORM**2).rsqrt()


def pad_behind(features: torch.Tensor, divisor: int) -> torch.Tensor:
    """Features (N, C, *spatial), the last voxel of each axis repeated to sides that are multiples of the divisor."""
    x, y, z = [(-side) % divisor for side in features.shape[2:]]
    return F.pad(features, [0, z, 0, y, 0, x], mode="replicate") if x or y or z else features


def most_similar_offset(moving: torch.Tensor, fixed: torch.Tensor, radius: int, temperature: float) -> torch.Tensor:
    """Expected offset (soft argmax of the cost volume) at which the moving features resemble the fixed ones.

    Args:
        moving: features (N, C, *spatial) of length 1.
        fixed: features of the same shape.
        radius: largest offset along an axis, in voxels of the features.
        temperature: of the softmax.

    Returns:
        (N, 3, *spatial), voxels of the features, between -radius and radius.
    """
    share = (cost_volume(moving, fixed, radius) / temperature).softmax(1)
    return torch.einsum("noxyz,oa->naxyz", share, constant(offsets(radius), share))


def offsets(radius: int) -> list[tuple[int, int, int]]:
    """The (2 radius + 1)^3 offsets of up to `radius` along each axis, the last axis running fastest."""
    return list(itertools.product(range(-radius, radius + 1), repeat=3))


def cost_volume(moving: torch.Tensor, fixed: torch.Tensor, radius: int) -> torch.Tensor:
    """Dot products fixed(p) . moving(p + o) for each of the `offsets(radius)`; the border of `moving` is repeated.

    Both arguments are features (N, C, *spatial); returns (N, offsets, *spatial). Neither pass copies the features
    for an offset.
    """
    return _CostVolume.apply(F.pad(moving, [radius] * 6, mode="replicate"), fixed, radius)


class _CostVolume(torch.autograd.Function):
    """Loops over the offsets in both passes and keeps only the features; autograd would fill a padded gradient for each
    offset."""

    @staticmethod
    def forward(ctx, padded: torch.Tensor, fixed: torch.Tensor, radius: int) -> torch.Tensor:
        ctx.save_for_backward(padded, fixed)
        ctx.radius = radius
        cost = fixed.new_empty(len(fixed), (2 * radius + 1) ** 3, *fixed.shape[2:])
        for index, shifted in enumerate(_shifted(padded, fixed, radius)):
            torch.sum(fixed * shifted, 1, out=cost[:, index])
        return cost

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None]:
        padded, fixed = ctx.saved_tensors
        of_padded, of_fixed = torch.zeros_like(padded), torch.zeros_like(fixed)
        views = zip(_shifted(padded, fixed, ctx.radius), _shifted(of_padded, fixed, ctx.radius), strict=True)
        for index, (shifted, of_shifted) in enumerate(views):
            of_fixed.addcmul_(gradient[:, index, None], shifted)
            of_shifted.addcmul_(gradient[:, index, None], fixed)
        return of_padded, of_fixed, None


def _shifted(padded: torch.Tensor, fixed: torch.Tensor, radius: int) -> Iterator[torch.Tensor]:
    """Views of `padded` of the shape of `fixed`, one for each offset."""
    x, y, z = fixed.shape[2:]
    for i, j, k in itertools.product(range(2 * radius + 1), repeat=3):
        yield padded[:, :, i : i + x, j : j + y, k : k + z]
