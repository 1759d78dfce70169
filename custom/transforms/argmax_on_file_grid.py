# SPDX-License-Identifier: Apache-2.0
"""The most probable class of each voxel of a file, from class scores on the coarser grid of the network."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from itertools import product
from math import prod
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from monai.utils import MetaKeys, TraceKeys
from torch.nn.functional import embedding_bag, max_pool3d, pad

from ..volumes import without_metadata

SLAB = 2**19  # voxels of the file that are looked up at once
ROWS = 2**16  # voxels of the file whose classes are all interpolated at once
ROUNDING = 1e-9  # voxels; terms of an affine matrix that only rounding made differ from zero


class ArgmaxOnFileGridd(MapTransform):
    """The labels that `Activationsd`, `Invertd` and `AsDiscreted` give, on the grid of the file.

    `Invertd` needs memory for every class at every voxel of the file; here it is one byte for each voxel. The inverse
    of the resampling is linear interpolation with the border extended. The transforms of the image may be orientation
    and spacing; another one, such as a crop, would have another inverse.

    Args:
        keys: keys of class scores (classes, *spatial) on the grid of the image; a result is (1, *spatial) on the grid
            of the image's file, uint8, or int32 for more than 256 classes, on the CPU.
        image_key: key of the transformed image, whose metadata has the grid of its file.
        allow_missing_keys: whether an item may lack a key.

    Raises:
        ValueError: when called: scores and image differ in shape, or the image was transformed by anything else.
    """

    INVERTED = ("Orientation", "Spacing", "SpatialResample")

    def __init__(self, keys: KeysCollection, image_key: str = "image", allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.image_key = image_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        item = dict(data)
        image = item[self.image_key]
        names = [operation[TraceKeys.CLASS_NAME] for operation in image.applied_operations]
        if other := sorted(set(names) - set(self.INVERTED)):
            raise ValueError(f"{self.image_key} was transformed by {other}, expected some of {self.INVERTED}")
        shape = tuple(image.applied_operations[0][TraceKeys.ORIG_SIZE]) if names else tuple(image.shape[1:])
        file_affine = torch.as_tensor(image.meta[MetaKeys.ORIGINAL_AFFINE], dtype=torch.float64)
        to_network = torch.linalg.solve(image.affine.double().cpu(), file_affine)
        for key in self.key_iterator(item):
            scores = without_metadata(item[key])
            if scores.shape[1:] != image.shape[1:]:
                raise ValueError(f"{key} has the shape {tuple(scores.shape)}, {self.image_key} {tuple(image.shape)}")
            labels = argmax_on_grid(scores.detach().float().softmax(0), to_network, shape)[None]
            meta = {name: value for name, value in image.meta.items() if name != MetaKeys.AFFINE}
            item[key] = MetaTensor(labels, affine=file_affine.clone(), meta=meta)
        return item


@torch.no_grad()
def argmax_on_grid(values: torch.Tensor, to_values: torch.Tensor, shape: tuple[int, int, int]) -> torch.Tensor:
    """
    The channel with the largest linearly interpolated value at each voxel of another grid.

    Where the eight voxels around a point have their largest value in one channel, so has every weighted mean of them,
    and nothing is interpolated. Elsewhere all channels are interpolated in float32: of two that are equal to its
    precision, either may be taken.

    Args:
        values: (channels, *spatial) float32.
        to_values: (4, 4) float64, from voxels of the grid to voxels of `values`. Points outside take the border.
        shape: of the grid.

    Returns:
        (*shape), uint8, or int32 for more than 256 channels, on the CPU.
    """
    channels, *sizes = values.shape
    rows = values.movedim(0, -1).reshape(-1, channels).contiguous()
    table = _common_channel(values.argmax(0)).flatten()
    strides = (sizes[1] * sizes[2], sizes[2], 1)
    labels = torch.empty(shape, dtype=torch.uint8 if channels <= 256 else torch.int32)
    planes = max(1, SLAB // (shape[1] * shape[2]))
    for start in range(0, shape[0], planes):
        points = _points(to_values.to(values.device), range(start, min(start + planes, shape[0])), shape)
        points = [point.clamp(0, size - 1) for point, size in zip(points, sizes, strict=True)]
        cell = sum(point.long() * stride for point, stride in zip(points, strides, strict=True))
        found = table.index_select(0, cell.flatten()).view(cell.shape)
        mixed = (found < 0).nonzero(as_tuple=True)
        if len(mixed[0]):
            chosen = [point.expand(found.shape)[mixed] for point in points]
            parts = zip(*(point.split(ROWS) for point in chosen), strict=True)
            found[mixed] = torch.cat([_interpolated(rows, part, sizes, strides) for part in parts]).to(found.dtype)
        labels[start : start + planes] = found.to("cpu", labels.dtype)
    return labels


def _common_channel(largest: torch.Tensor) -> torch.Tensor:
    """The channel that a voxel and its neighbours in positive directions share, or -1, as int16: (*spatial)."""
    padded = pad(largest[None, None].float(), (0, 1) * 3, mode="replicate")
    highest, lowest = (max_pool3d(sign * padded, 2, stride=1) * sign for sign in (1, -1))
    return torch.where(highest == lowest, highest, -1)[0, 0].to(torch.int16)


def _points(affine: torch.Tensor, planes: range, shape: tuple[int, int, int]) -> list[torch.Tensor]:
    """Coordinates of the voxels of some planes; an axis on which a coordinate does not depend has the size one."""
    axes = [torch.arange(planes.start, planes.stop), torch.arange(shape[1]), torch.arange(shape[2])]
    steps = [
        axis.to(affine).reshape([-1 if other == number else 1 for other in range(3)])
        for number, axis in enumerate(axes)
    ]
    points = []
    for row, origin in zip(affine[:3, :3].tolist(), affine[:3, 3], strict=True):
        moves = [factor * step for factor, step in zip(row, steps, strict=True) if abs(factor) * max(shape) > ROUNDING]
        points.append(sum(moves, origin.reshape(1, 1, 1)))
    return points


def _interpolated(
    rows: torch.Tensor, points: tuple[torch.Tensor, ...], sizes: list[int], strides: tuple[int, ...]
) -> torch.Tensor:
    """The channel with the largest interpolated value at each point, (points,): a weighted sum of eight rows.

    Args:
        rows: (voxels, channels).
        points: the coordinates of the points on each axis, (points,), inside the volume.
        sizes: of the volume.
        strides: voxels between neighbours on each axis.
    """
    lower = [point.long() for point in points]
    upper = [(index + 1).clamp(max=size - 1) for index, size in zip(lower, sizes, strict=True)]
    shares = [point - index for point, index in zip(points, lower, strict=True)]
    corners, weights = [], []
    for corner in product((0, 1), repeat=3):
        corners.append(sum((upper if high else lower)[axis] * strides[axis] for axis, high in enumerate(corner)))
        weights.append(prod(shares[axis] if high else 1 - shares[axis] for axis, high in enumerate(corner)))
    values = embedding_bag(
        torch.stack(corners, 1), rows, mode="sum", per_sample_weights=torch.stack(weights, 1).to(rows.dtype)
    )
    return values.max(1).indices
