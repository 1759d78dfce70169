# SPDX-License-Identifier: Apache-2.0
"""Registration loss: one minus the squared local normalised cross-correlation."""

from __future__ import annotations

import torch
from torch import nn

from ..layers import in_float32


def box_filter(volume: torch.Tensor, window: int, mean: bool = True) -> torch.Tensor:
    """Mean (or sum) over the cube around each voxel, of the voxels inside the volume.

    Each axis is one product with a banded matrix: exact, differentiable, and faster than pooling or convolution.

    Args:
        volume: (*batch, *spatial) with three spatial axes.
        window: side of the cube in voxels, odd.
        mean: whether to divide by the number of voxels of the cube that are inside the volume.

    Returns:
        The shape of `volume`.
    """
    for axis in (-3, -2, -1):
        index = torch.arange(volume.shape[axis], device=volume.device)
        band = ((index[:, None] - index).abs() <= window // 2).to(volume.dtype)
        if mean:
            band = band / band.sum(dim=0)
        volume = (volume.movedim(axis, -1) @ band).movedim(-1, axis)
    return volume


def local_ncc_loss(
    warped: torch.Tensor, fixed: torch.Tensor, window: int = 9, min_variance: float = 1e-4
) -> torch.Tensor:
    """1 - mean over windows of cov(A, B)^2 / (var A var B), in [0, 1] (He et al., CVPR 2023, equation 1).

    Variances below `min_variance` are raised to it. A window counts where the variance of the *fixed* volume is above
    it. So empty background is no mismatch, and moving A out of view does not reduce the number of windows.

    Args:
        warped: A, (N, C, *spatial), intensities of the order of one.
        fixed: B, the same shape.
        window: side of the cubic window in voxels, odd; windows are cut at the border of the volume.
        min_variance: in squared intensities; 1e-4 is a standard deviation of 20 HU for intensities of 2048 HU.

    Returns:
        (N,), the mean of each volume; 0 where the fixed volume is constant.

    Raises:
        ValueError: the shapes differ, or the window is even.
    """
    _check(warped, fixed, window)
    warped = warped - warped.mean(dim=(2, 3, 4), keepdim=True).detach()  # variances without cancellation
    fixed = fixed - fixed.mean(dim=(2, 3, 4), keepdim=True)
    moments = torch.stack((warped, warped * warped, warped * fixed))
    mean_warped, square_warped, product = box_filter(moments, window)
    mean_fixed, square_fixed = box_filter(torch.stack((fixed, fixed * fixed)), window)
    variance_warped = (square_warped - mean_warped**2).clamp_min(min_variance)
    variance_fixed = square_fixed - mean_fixed**2
    weight = (variance_fixed > min_variance).to(fixed.dtype)
    covariance = product - mean_warped * mean_fixed
    correlation = weight * covariance**2 / (variance_warped * variance_fixed.clamp_min(min_variance))
    windows = weight.flatten(1).sum(1)
    return (windows - correlation.flatten(1).sum(1)) / windows.clamp_min(1)


def authors_ncc_loss(warped: torch.Tensor, fixed: torch.Tensor, window: int = 9, epsilon: float = 1e-5) -> torch.Tensor:
    """1 - NCC of the authors' released code: sums over zero-padded windows, all of which count.

    Empty background counts as mismatch, and the value leaves [0, 1] where windows are nearly constant.

    Args:
        warped: (N, C, *spatial).
        fixed: the same shape.
        window: side of the cubic window in voxels, odd.
        epsilon: added to the product of the two sums of squared deviations.

    Returns:
        (N,), the mean of each volume.

    Raises:
        ValueError: the shapes differ, or the window is even.
    """
    _check(warped, fixed, window)
    moments = torch.stack((warped, fixed, warped * warped, fixed * fixed, warped * fixed))
    sum_warped, sum_fixed, square_warped, square_fixed, product = box_filter(moments, window, mean=False)
    voxels = window**3
    cross = product - sum_warped * sum_fixed / voxels
    variance_warped = square_warped - sum_warped**2 / voxels
    variance_fixed = square_fixed - sum_fixed**2 / voxels
    return 1 - (cross**2 / (variance_warped * variance_fixed + epsilon)).flatten(1).mean(1)


def _check(warped: torch.Tensor, fixed: torch.Tensor, window: int) -> None:
    if warped.shape != fixed.shape or warped.ndim != 5:
        shapes = f"{tuple(warped.shape)} and {tuple(fixed.shape)}"
        raise ValueError(f"warped and fixed must have one shape (N, C, *spatial) with three spatial axes, got {shapes}")
    if window < 1 or window % 2 == 0:
        raise ValueError(f"window must be odd and positive, got {window}")


class LocalNCCLoss(nn.Module):
    """`local_ncc_loss` with these arguments, averaged over the batch, in float32 also under autocast."""

    def __init__(self, window: int = 9, min_variance: float = 1e-4) -> None:
        super().__init__()
        self.window = window
        self.min_variance = min_variance

    def forward(self, warped: torch.Tensor, fixed: torch.Tensor) -> torch.Tensor:
        """Two (N, C, *spatial) -> scalar."""
        return in_float32(local_ncc_loss, warped, fixed, window=self.window, min_variance=self.min_variance).mean()


class AuthorsNCCLoss(nn.Module):
    """`authors_ncc_loss` with this window, averaged over the batch, in float32 also under autocast."""

    def __init__(self, window: int = 9) -> None:
        super().__init__()
        self.window = window

    def forward(self, warped: torch.Tensor, fixed: torch.Tensor) -> torch.Tensor:
        """Two (N, C, *spatial) -> scalar."""
        return in_float32(authors_ncc_loss, warped, fixed, window=self.window).mean()
