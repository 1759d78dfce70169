# SPDX-License-Identifier: Apache-2.0
"""Two views of each volume of a pair, for pretext tasks that compare views (SimCLR, BYOL, SimSiam)."""

from __future__ import annotations

from collections.abc import Sequence

from monai.transforms import CopyItemsd, RandGaussianSmoothd, Transform

from .bezier_intensity import RandBezierIntensityd
from .crop import RandRelativeCropd

PAIR, VIEWS = ("moving", "fixed"), ("moving_view", "fixed_view")


def two_views(
    roi_size: Sequence[int] | int,
    curve_prob: float = 0.8,
    blur_prob: float = 0.5,
    blur_sigma: tuple[float, float] = (0.1, 1.0),
) -> list[Transform]:
    """Transforms of a pair that crop both volumes, copy each crop, and change all four crops, each in its own way.

    The item has "moving" and "fixed" before, and also "moving_view" and "fixed_view", their second views, after. The
    colour jitter and the blur of SimCLR (Chen 2020, appendix A) become an intensity curve and a Gaussian filter.

    Args:
        roi_size: sides of the crop in voxels.
        curve_prob: probability of an intensity curve.
        blur_prob: probability of a Gaussian filter.
        blur_sigma: lowest and highest standard deviation of the filter in voxels, drawn for each axis.
    """
    blur = {"sigma_x": blur_sigma, "sigma_y": blur_sigma, "sigma_z": blur_sigma, "prob": blur_prob}
    return [
        RandRelativeCropd(PAIR, roi_size),
        CopyItemsd(PAIR, names=VIEWS),
        *(RandBezierIntensityd(key, prob=curve_prob) for key in PAIR + VIEWS),
        *(RandGaussianSmoothd(key, **blur) for key in PAIR + VIEWS),
    ]
