# SPDX-License-Identifier: Apache-2.0
"""The canvas: a voxel grid that is mapped into atlas space by pose, size and a smooth random warp.

Shapes are given in atlas coordinates and painted onto the voxels, so one anatomy gives subjects of different shape.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import map_coordinates

from .shapes import spheres

FAR = np.float32(99.0)  # mm; distance of voxels that are out of reach of a swept tube


def checked_spacing(spacing) -> np.ndarray:
    """The voxel size along x, y, z in mm as a float64 array.

    Raises:
        ValueError: if `spacing` is not three positive numbers.
    """
    spacing = np.array(spacing, dtype=np.float64)
    if spacing.shape != (3,) or not (spacing > 0).all():
        raise ValueError(f"spacing must be three positive numbers in mm, got {spacing.tolist()}.")
    return spacing


def random_warp(rng: np.random.Generator, shape, spacing, control_spacing: float, amplitude: float) -> np.ndarray:
    """Smooth random displacement (3, *shape), float32 in mm: a cubic B-spline with uniform random coefficients.

    Args:
        rng: generator of the coefficients.
        shape: number of voxels along x, y, z.
        spacing: voxel size in mm.
        control_spacing: distance between control points in mm.
        amplitude: largest coefficient in mm. The displacement is smaller than this (its standard deviation is about
            a fifth of it). Its derivatives are smaller than 2 * amplitude / control_spacing, so space cannot fold.

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
    """Image and label volumes that are painted by signed distances in atlas coordinates (RAS millimetres).

    Args:
        shape: number of voxels along x, y, z; the axes point right, anterior and superior.
        spacing: voxel size in mm.
        center: (3,) atlas position of the middle of the grid, in mm.
        rotation: (3, 3) rotation from grid to atlas directions.
        scale: (3,) size of the subject relative to the atlas.
        warp: (3, *shape) displacement in mm, added to the atlas coordinates.

    Attributes:
        points: (3, *shape) float32 atlas coordinates of the voxel centres, mm.
        image: float32 intensities, HU in CT; starts as air (-1000).
        label: uint16 label map; starts as background (0).
        voxel: width in atlas mm over which edges are blended, about one voxel.
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

    @classmethod
    def draw(cls, rng, extent, spacing, center, rotation, scale, warps=((70.0, 16.0), (35.0, 5.0))) -> Canvas:
        """A canvas of `extent` mm with the sum of random warps; `warps` are (control_spacing, amplitude) in mm."""
        shape = tuple(int(n) for n in np.round(extent / spacing))
        warp = sum(random_warp(rng, shape, spacing, *sizes) for sizes in warps)
        return cls(shape, spacing, center, rotation, scale, warp)

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
        """Slices of the voxels that contain the atlas box from `low` to `high` (mm); empty outside of the grid."""
        corners = np.stack(np.meshgrid(*zip(low, high, strict=True), indexing="ij"), axis=-1).reshape(-1, 3)
        index = self.index_of(corners)
        margin = np.ceil(4 / self.spacing)
        start = np.clip(np.floor(index.min(axis=0) - margin), 0, self.shape).astype(int)
        stop = np.clip(np.ceil(index.max(axis=0) + margin) + 1, 0, self.shape).astype(int)
        return tuple(slice(a, max(a, b)) for a, b in zip(start, stop, strict=True))

    def sweep(self, samples: np.ndarray, reach: float = 4.0) -> np.ndarray:
        """Signed distance on the whole grid to a union of spheres, which form a tube if they follow a curve.

        The values equal those of `shapes.spheres`, but each sphere is evaluated only in the voxels around it: large
        spheres one after the other in their boxes, small spheres of equal box together.

        Args:
            samples: (n, 4) spheres as x, y, z, radius in mm.
            reach: distance in mm up to which values are computed; voxels farther away than about that hold FAR.
        """
        distance = np.full(self.shape, FAR, dtype=np.float32)
        samples = np.asarray(samples, dtype=np.float64)
        nearest = np.round(self.index_of(samples[:, :3])).astype(np.int64)
        growth = 1.2 * np.linalg.norm(np.linalg.inv(self.matrix), axis=1)
        half = np.ceil((samples[:, 3:] + reach) * growth).astype(np.int64)  # half the box along each axis, in voxels
        for size in np.unique(half, axis=0):
            chosen = (half == size).all(axis=1)
            together = np.prod(2 * size + 1) < min(1500, 3 * chosen.sum())  # chooses the faster of the two ways
            draw = self._stamp if together else self._draw_boxes
            draw(distance, nearest[chosen], size, samples[chosen].astype(np.float32))
        return distance

    def _draw_boxes(self, distance: np.ndarray, nearest: np.ndarray, half: np.ndarray, samples: np.ndarray) -> None:
        """Do the same as `_stamp`, one sphere after the other."""
        for middle, sphere in zip(nearest, samples, strict=True):
            start, stop = np.clip(middle - half, 0, None), np.clip(middle + half + 1, 0, self.shape)
            if (start < stop).all():
                box = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
                np.minimum(distance[box], spheres(self.points[(slice(None), *box)], sphere[None]), out=distance[box])

    def _stamp(self, distance: np.ndarray, nearest: np.ndarray, half: np.ndarray, samples: np.ndarray) -> None:
        """Lower `distance` to the distance of spheres with the half box `half` around the voxels `nearest`."""
        flat, points = distance.reshape(-1), self.points.reshape(3, -1)
        x, y, z, radius = samples.T
        for offset in np.ndindex(*(2 * half + 1)):
            # An index beyond the edge is moved to the voxel at the edge; the distance is computed for that voxel.
            i, j, k = (
                np.minimum(np.maximum(nearest[:, a] + (offset[a] - half[a]), 0), self.shape[a] - 1) for a in range(3)
            )
            voxel = (i * self.shape[1] + j) * self.shape[2] + k
            square = (points[0].take(voxel) - x) ** 2
            square += (points[1].take(voxel) - y) ** 2
            square += (points[2].take(voxel) - z) ** 2
            np.minimum.at(flat, voxel, np.sqrt(square) - radius)

    def occupancy(self, distance: np.ndarray) -> np.ndarray:
        """Share of each voxel that is inside the shape (0 to 1): a linear ramp of one voxel across the surface."""
        return np.clip(0.5 - distance * np.float32(1 / self.voxel), 0, 1)

    def paint(self, distance: np.ndarray, value, where=..., label: int | None = None, opacity: float = 1.0) -> None:
        """Blend `value` into the image inside the shape.

        Args:
            distance: signed distance in mm to the shape in the part `where` of the grid.
            value: intensity (HU in CT), a number or an array of the shape of `distance`.
            where: index of that part; by default the whole grid.
            label: value to write into the label map where the distance is negative; None does not change the map.
            opacity: share of the old image that the shape hides.
        """
        image = self.image[where]
        image += self.occupancy(distance) * np.float32(opacity) * (value - image)
        if label is not None:
            self.label[where][distance < 0] = label
