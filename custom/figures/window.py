# SPDX-License-Identifier: Apache-2.0
"""Gray values of a picture: a HU window for CT, percentiles for other modalities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from monai.transforms import MapTransform

from ..transforms.intensity import AIR_BELOW

PERCENTILES = (1.0, 99.5)


class GrayScale(NamedTuple):
    """How stored intensities become gray values.

    Attributes:
        window: level and width in HU, or None for other intensities than HU.
        slope: HU = slope * stored intensity + intercept.
        intercept: see `slope`.
    """

    window: tuple[float, float] | None = None
    slope: float = 1.0
    intercept: float = 0.0

    @property
    def unit(self) -> str:
        return "scaled intensity" if self.window is None else "HU"

    @property
    def caption(self) -> str:
        """The gray scale in words."""
        if self.window is None:
            return "Gray values from the {:g}st to the {:g}th percentile.".format(*PERCENTILES)
        level, width = (f"{value:g}".replace("-", "\N{MINUS SIGN}") for value in self.window)
        return f"CT window: level {level} HU, width {width} HU."

    def values(self, stored: np.ndarray) -> np.ndarray:
        """Intensities in `unit`, float32."""
        return stored.astype(np.float32) * np.float32(self.slope) + np.float32(self.intercept)

    def limits(self, *shown: np.ndarray) -> tuple[float, float]:
        """The values that are drawn black and white.

        Args:
            shown: arrays from `values` that are drawn with the same limits.
        """
        if self.window is not None:
            level, width = self.window
            return level - width / 2, level + width / 2
        low, high = np.percentile(np.concatenate([array.ravel() for array in shown]), PERCENTILES)
        return float(low), float(high)


UNITLESS = GrayScale()  # percentiles


def gray_scale(intensity: MapTransform, window: Sequence[float] = (40, 400)) -> GrayScale:
    """The gray scale of volumes after an intensity step.

    A fixed range from below -200 (`ScaleIntensityRanged`) is one of HU, see `CheckedIntensityd`. All other steps, such
    as percentiles for MR, leave no unit, and `window` has no effect.

    Args:
        intensity: the intensity step of a bundle, a dictionary transform of MONAI.
        window: level and width in HU; soft tissue by default.

    Raises:
        ValueError: `window` is not a level and a width above 0.
    """
    if len(window) != 2 or not window[1] > 0:
        raise ValueError(f"window is {window}, expected a level and a width above 0 in HU, such as [40, 400]")
    scaler = getattr(intensity, "scaler", None)
    if not getattr(scaler, "a_min", 0.0) < AIR_BELOW:
        return UNITLESS
    slope = (scaler.a_max - scaler.a_min) / (scaler.b_max - scaler.b_min)
    return GrayScale(tuple(window), slope, scaler.a_min - slope * scaler.b_min)
