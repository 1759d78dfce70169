# SPDX-License-Identifier: Apache-2.0
"""Label fusion: the label maps of registered atlases vote at each voxel.

Heckemann et al., "Automatic anatomical brain MRI segmentation combining label propagation and decision fusion",
NeuroImage 2006. An atlas may split its vote: it is interpolated, as are intensities.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from .world import moving_voxels, resample_displacement, rows_from

SCORES = 2**27  # number of scores, of all values and voxels, in memory at a time
ROUNDING = 1e-3  # of a sum of votes


@dataclass
class Vote:
    """The label map of an atlas, (*spatial), its affine, and the field from the volume to it, on a coarse grid.

    The field has shape (3, *spatial), millimetres, RAS; see `custom.registration.world`.
    """

    label: np.ndarray
    affine: np.ndarray
    field: np.ndarray
    field_affine: np.ndarray


def elect(votes: Sequence[Vote], affine: np.ndarray, shape: Sequence[int]) -> tuple[np.ndarray, float | None]:
    """The value with the most votes at each voxel of a grid, of equal ones the smallest; and how far the atlases agree.

        winner(x) = argmax over values v of the sum over atlases a of s_a(x + d_a(x), v)

    s_a(y, v) is the trilinear interpolation of the map of the voxels with value v. Outside its label map an atlas votes
    for 0.

    Args:
        votes: of at least one atlas.
        affine: affine of the grid.
        shape: number of its voxels along each axis.

    Returns:
        (*shape), in the widest type of the label maps, and the mean share of votes for the winner over the voxels where
        any atlas votes for a value other than 0; None without such voxels.
    """
    values = np.unique(np.concatenate([np.zeros(1, votes[0].label.dtype), *(np.unique(v.label) for v in votes)]))
    background = int(np.searchsorted(values, 0))
    winner, shares, voxels = np.empty(shape, values.dtype), 0.0, 0
    indices = [np.searchsorted(values, vote.label).astype(np.int32) for vote in votes]
    rows = max(SCORES // (len(values) * shape[1] * shape[2]), 1)
    for start in range(0, shape[0], rows):
        out = winner[start : start + rows]
        scores = torch.zeros(len(values), *out.shape)
        grid = rows_from(affine, start)
        for vote, index in zip(votes, indices, strict=True):
            field = resample_displacement(vote.field, vote.field_affine, grid, out.shape)
            add_shares(scores, index, vote.affine, field, grid, background)
        scores = scores.numpy()
        best = scores.argmax(0)  # of equal scores the first
        out[:] = values[best]
        labelled = scores[background] < len(votes) - ROUNDING
        shares += float(np.take_along_axis(scores, best[None], 0)[0][labelled].sum()) / len(votes)
        voxels += int(labelled.sum())
    return winner, round(shares / voxels, 4) if voxels else None


def add_shares(
    scores: torch.Tensor,
    indices: np.ndarray,
    affine: np.ndarray,
    field: np.ndarray,
    field_affine: np.ndarray,
    background: int,
) -> None:
    """Adds the vote of an atlas at x + d(x), where x is the centre of each voxel of the field, to the scores.

    Args:
        scores: (values, *spatial_out); they are changed.
        indices: number of the value at each voxel of the label map, (*spatial).
        affine: affine of the label map.
        field: d, (3, *spatial_out), millimetres, RAS.
        field_affine: affine of the grid of the field.
        background: number of the value outside the label map.
    """
    position, inside = moving_voxels(field, affine, field_affine, indices.shape)
    sides = np.reshape(indices.shape, (3, 1, 1, 1))
    position = position.clip(0, sides - 1)
    lower = np.minimum(position.astype(np.int64), np.maximum(sides - 2, 0))
    above = (position - lower).astype(np.float32)
    strides = np.reshape([indices.shape[1] * indices.shape[2], indices.shape[2], 1], (3, 1, 1, 1))
    first, steps, flat = (lower * strides).sum(0), (strides * (sides > 1)).ravel(), indices.ravel()
    for corner in itertools.product((0, 1), repeat=3):
        share = inside.astype(np.float32)
        for axis, side in enumerate(corner):
            share *= above[axis] if side else 1 - above[axis]
        index = flat.take(first + np.dot(corner, steps)).astype(np.int64)
        scores.scatter_add_(0, torch.from_numpy(index)[None], torch.from_numpy(share)[None])
    scores[background] += torch.from_numpy(~inside)
