# SPDX-License-Identifier: Apache-2.0
"""A voxel grid that looks into an atlas space through pose, size and a smooth random warp, and the brush for it."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import map_coordinates

from .shapes import spheres

__all__ = ["Canvas", "checked_spacing", "random_warp"]

FAR = np.float32(99.0)  # mm; the distance given where a swept tube is out of reach


def checked_spacing(spacing) -> np.ndarray:
    """Voxel size along x, y, z in mm, float64.

    Raises:
        ValueError: if it is not three positive numbers.
    """
    spacing = np.array(spacing, dtype=np.float64)
    if spacing.shape != (3,) or not (spacing > 0).all():
        raise ValueError(f"spacing must be three positive numbers in mm, got {spacing.tolist()}.")
    return spacing


def random_warp(rng: np.random.Generator, shape, spacing, control_spacing: float, amplitude: float) -> np.ndarray:
    """Smooth random displacement (3, *shape), float32 mm: a cubic B-spline with uniform random coefficients.

    Args:
        shape, spacing: the voxel grid and its spacing in mm.
        control_spacing: distance of the control points in mm.
        amplitude: largest coefficient, in mm. The displacement stays below it (its standard deviation is about a
            fifth of it) and its derivatives below 2 * amplitude / control_spacing, so that space cannot fold.

    Raises:
        ValueError: if the derivatives could reach 2/3.
    """
    if amplitude > control_spacing / 3:
        raise ValueError(f"amplitude {amplitude} mm could fold space: at most a third of {control_spacing} mm.")
    weights = [_cubic_weights(n, s / control_spacing) for n, s in zip(shape, spacing, strict=True)]
    control = rng.uniform(-amplitude, amplitude, size=(3, *(w.shape[1] for w in weights))).astype(np.float32)
    grown = np.einsum("xi,cijk->cxjk", weights[0], control)
    grown = np.einsum("yj,cxjk->cxyk", weights[1], grown)
    return np.einsum("zk,cxyk->cxyz", weights[2], grown)


def _cubic_weights(count: int, step: float) -> np.ndarray:
    """Weights (count, controls) of uniform cubic B-splines at positions 0, step, 2 step, ... in control spacings."""
    position = np.arange(count) * step
    controls = np.arange(int(position[-1]) + 4) - 1
    t = np.abs(position[:, None] - controls)
    inner, outer = 2 / 3 - t**2 + t**3 / 2, np.clip(2 - t, 0, None) ** 3 / 6
    return np.where(t < 1, inner, outer).astype(np.float32)


class Canvas:
    """Image and label volumes, drawn by signed distances in atlas coordinates (millimetre RAS).

    Args:
        shape: number of voxels along x, y, z; axes run to the right, anterior and superior.
        spacing: voxel size in mm.
        center: (3,) atlas position of the middle of the grid, in mm.
        rotation: (3, 3) rotation from grid to atlas directions.
        scale: (3,) size of the subject relative to the atlas.
        warp: (3, *shape) displacement in mm, added to the atlas coordinates.

    Attributes:
        points: (3, *shape) float32 atlas coordinates of the voxel centres, mm.
        image: float32 HU. label: uint16.
        voxel: blending width of edges in atlas mm, about one voxel.
    """

    def __init__(self, shape, spacing, center, rotation, scale, warp) -> None:
        self.shape = tuple(shape)
        self.spacing = np.asarray(spacing, dtype=np.float64)
        self.matrix = np.diag(1 / np.asarray(scale)) @ np.asarray(rotation) @ np.diag(self.spacing)
        self.middle = (np.asarray(shape) - 1) / 2
        self.center = np.asarray(center, dtype=np.float64)
        self.warp = warp
        index = [
            (np.arange(n, dtype=np.float32) - m).reshape([-1 if a == axis else 1 for a in range(3)])
            for axis, (n, m) in enumerate(zip(self.shape, self.middle.astype(np.float32), strict=True))
        ]
        self.points = np.empty((3, *self.shape), dtype=np.float32)
        for axis in range(3):
            row = self.matrix[axis].astype(np.float32)
            self.points[axis] = index[0] * row[0] + index[1] * row[1] + index[2] * row[2] + self.center[axis]
        self.points += warp
        self.voxel = float(np.mean(self.spacing / np.asarray(scale)))
        self.image = np.full(self.shape, -1000, dtype=np.float32)
        self.label = np.zeros(self.shape, dtype=np.uint16)

    def index_of(self, positions: np.ndarray) -> np.ndarray:
        """Voxel coordinates (n, 3) of atlas positions (n, 3): the inverse of `points`, by fixed-point iteration."""
        inverse = np.linalg.inv(self.matrix)
        target = np.asarray(positions, dtype=np.float64) - self.center
        index = target @ inverse.T + self.middle
        for _ in range(6):
            shift = np.stack([map_coordinates(part, index.T, order=1, mode="nearest") for part in self.warp], axis=1)
            index = (target - shift) @ inverse.T + self.middle
        return index

    def box(self, low, high) -> tuple[slice, slice, slice]:
        """Slices that hold the atlas box from `low` to `high` (mm), cut to the grid; empty where it is outside."""
        corners = np.stack(np.meshgrid(*zip(low, high, strict=True), indexing="ij"), axis=-1).reshape(-1, 3)
        index = self.index_of(corners)
        margin = np.ceil(4 / self.spacing)
        start = np.clip(np.floor(index.min(axis=0) - margin), 0, self.shape).astype(int)
        stop = np.clip(np.ceil(index.max(axis=0) + margin) + 1, 0, self.shape).astype(int)
        return tuple(slice(a, max(a, b)) for a, b in zip(start, stop, strict=True))

    def sweep(self, samples: np.ndarray, reach: float = 4.0) -> np.ndarray:
        """Distance (full grid) to the union of spheres `samples` (n, 4): x, y, z, radius; FAR beyond about `reach` mm.

        The same as `shapes.spheres`, but each sphere is evaluated only in the voxels around it: large ones one by
        one in their box, small ones together.
        """
        distance = np.full(self.shape, FAR, dtype=np.float32)
        samples = np.asarray(samples, dtype=np.float64)
        nearest = np.round(self.index_of(samples[:, :3])).astype(np.int64)
        growth = 1.2 * np.linalg.norm(np.linalg.inv(self.matrix), axis=1)
        half = np.ceil((samples[:, 3:] + reach) * growth).astype(np.int64)  # half box per axis, in voxels
        for size in np.unique(half, axis=0):
            chosen = (half == size).all(axis=1)
            together = np.prod(2 * size + 1) < min(1500, 3 * chosen.sum())  # which of the two ways is faster
            draw = self._stamp if together else self._draw_boxes
            draw(distance, nearest[chosen], size, samples[chosen].astype(np.float32))
        return distance

    def _draw_boxes(self, distance: np.ndarray, nearest: np.ndarray, half: np.ndarray, samples: np.ndarray) -> None:
        """As _stamp, one sphere after the other."""
        for middle, sphere in zip(nearest, samples, strict=True):
            start, stop = np.clip(middle - half, 0, None), np.clip(middle + half + 1, 0, self.shape)
            if (start < stop).all():
                box = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
                np.minimum(distance[box], spheres(self.points[(slice(None), *box)], sphere[None]), out=distance[box])

    def _stamp(self, distance: np.ndarray, nearest: np.ndarray, half: np.ndarray, samples: np.ndarray) -> None:
        """Lower `distance` to that of spheres that share the half box `half` around the voxels `nearest`."""
        flat, points = distance.reshape(-1), self.points.reshape(3, -1)
        x, y, z, radius = samples.T
        for offset in np.ndindex(*(2 * half + 1)):
            # An index beyond the edge becomes the voxel at the edge, where the distance holds as well.
            i, j, k = (
                np.minimum(np.maximum(nearest[:, a] + (offset[a] - half[a]), 0), self.shape[a] - 1) for a in range(3)
            )
            voxel = (i * self.shape[1] + j) * self.shape[2] + k
            square = (points[0].take(voxel) - x) ** 2
            square += (points[1].take(voxel) - y) ** 2
            square += (points[2].take(voxel) - z) ** 2
            np.minimum.at(flat, voxel, np.sqrt(square) - radius)

    def occupancy(self, distance: np.ndarray) -> np.ndarray:
        """Share of each voxel inside the shape (0 to 1): a ramp of one voxel across its surface."""
        return np.clip(0.5 - distance * np.float32(1 / self.voxel), 0, 1)

    def paint(self, distance: np.ndarray, value, where=..., label: int | None = None, opacity: float = 1.0) -> None:
        """Blend `value` (HU, a number or an array like `distance`) into the image where the shape is.

        Args:
            distance: signed distance in mm over the part `where` of the grid.
            value: HU.
            where: index of that part; the whole grid without it.
            label: value to write into the label map where the distance is negative; None leaves the map alone.
            opacity: share of the old image that the shape hides.
        """
        image = self.image[where]
        image += self.occupancy(distance) * np.float32(opacity) * (value - image)
        if label is not None:
            self.label[where][distance < 0] = label
