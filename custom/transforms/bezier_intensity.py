# SPDX-License-Identifier: Apache-2.0
"""Monotone non-linear intensity change by a cubic Bézier curve (Models Genesis; step 3 of GVSL)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .appearance import RandAppearanceTransform, RandKeyedTransform, check_floating

TABLE_SIZE = 1024


def bezier_table(control_points: np.ndarray, size: int = TABLE_SIZE) -> np.ndarray:
    """Values y(x) of a cubic Bézier curve from (0, 0) to (1, 1).

    Args:
        control_points: (2, 2), two points (x, y) in [0, 1]. With such points x(t) and y(t) increase, so that y(x) is a
            monotone function. Both are sorted, as in the authors' code, because of rounding errors.
        size: number of equidistant x from 0 to 1.

    Returns:
        (size,) float32, from exactly 0 to exactly 1.
    """
    t = np.linspace(0.0, 1.0, size)[:, None]
    first, second = np.asarray(control_points, dtype=np.float64)
    curve = 3 * t * (1 - t) ** 2 * first + 3 * t**2 * (1 - t) * second + t**3
    x, y = np.sort(curve, axis=0).T
    return np.interp(np.linspace(0.0, 1.0, size), x, y).astype(np.float32)


class RandBezierIntensity(RandAppearanceTransform):
    """Map the intensities of each channel of a volume in [0, 1] by a random monotone curve of its own.

    The curve is a table of 1024 entries with linear interpolation; one step is 2 HU of our CT window. Values below 0
    and above 1 are set to 0 and 1, as `numpy.interp` does in the authors' code.

    Args:
        prob: probability of applying the transform.
        invert_prob: probability that an applied curve decreases from 1 to 0: 0.5 in Models Genesis; 0 in GVSL, which
            does not change the order of the intensities.
    """

    def __init__(self, prob: float = 0.9, invert_prob: float = 0.0) -> None:
        super().__init__(prob)
        if not 0 <= invert_prob <= 1:
            raise ValueError(f"invert_prob must be in [0, 1], got {invert_prob}")
        self.invert_prob = invert_prob
        self.curves: list[tuple[np.ndarray, bool]] = []

    def draw(self, shape: Sequence[int]) -> None:
        """Draw the two control points of the curve of each channel, and whether to invert it."""
        self.curves = [
            (self.R.random_sample((2, 2)), bool(self.R.random_sample() < self.invert_prob)) for _ in range(shape[0])
        ]

    def change(self, volume: np.ndarray) -> np.ndarray:
        check_floating(volume)
        changed = np.empty(volume.shape, np.float32)
        for channel, (control_points, invert), result in zip(volume, self.curves, changed, strict=True):
            table = bezier_table(control_points)
            result[...] = _look_up(channel, 1 - table if invert else table)
        return changed


def _look_up(volume: np.ndarray, table: np.ndarray) -> np.ndarray:
    """numpy.interp(volume, numpy.linspace(0, 1, table.size), table) in float32, about seven times faster."""
    step = np.diff(table, append=table[-1])
    position = np.clip(volume, 0, 1).astype(np.float32) * np.float32(table.size - 1)
    index = position.astype(np.int32)
    return table[index] + step[index] * (position - index.astype(np.float32))


class RandBezierIntensityd(RandKeyedTransform):
    """Dictionary version of `RandBezierIntensity`, with the same curves for the volumes of all keys."""

    array_transform = RandBezierIntensity
