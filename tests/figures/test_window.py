# SPDX-License-Identifier: Apache-2.0
"""CT is shown in a HU window, whatever the range that the network sees; other modalities by percentiles."""

from __future__ import annotations

import numpy as np
import pytest
from monai.transforms import ScaleIntensityRanged, ScaleIntensityRangePercentilesd

from custom.figures import UNITLESS, GrayScale, gray_scale


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-1, 1)])
def test_a_window_in_hu_of_scaled_ct(low: float, high: float) -> None:
    scale = gray_scale(ScaleIntensityRanged("image", -1024, 1024, low, high), (40, 400))
    hu = np.array([-1024.0, -160, 0, 240, 1024])
    stored = ScaleIntensityRanged("image", -1024, 1024, low, high)({"image": hu})["image"].numpy()
    assert scale.values(stored) == pytest.approx(hu, abs=1e-3)
    assert scale.limits(scale.values(stored)) == (-160, 240)
    assert scale.unit == "HU" and scale.caption == "CT window: level 40 HU, width 400 HU."


def test_the_minus_of_a_lung_window_is_one() -> None:
    assert "level \N{MINUS SIGN}600 HU" in GrayScale((-600, 1500)).caption


@pytest.mark.parametrize(
    "intensity",
    [
        ScaleIntensityRangePercentilesd("image", 0.5, 99.5, 0, 1),
        ScaleIntensityRanged("image", 0, 4000, 0, 1),  # a fixed range of an MR
    ],
)
def test_other_modalities_are_shown_by_percentiles(intensity: object) -> None:
    scale = gray_scale(intensity, (40, 400))
    assert scale == UNITLESS and scale.unit != "HU" and "CT" not in scale.caption
    values = np.arange(1001.0)
    assert scale.limits(values[:500], values[500:]) == pytest.approx((10, 995))


@pytest.mark.parametrize("window", [(40,), (40, 0), (40, -400), (1, 2, 3)])
def test_a_window_that_is_none_is_refused(window: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="expected a level and a width above 0"):
        gray_scale(ScaleIntensityRanged("image", -1024, 1024, 0, 1), window)
