# SPDX-License-Identifier: Apache-2.0
"""Contrast of matched places: the same anatomy gives the same features, other anatomy gives others."""

from __future__ import annotations

import torch
from torch import nn

from ..layers import in_float32


def matched_contrast(
    moving: torch.Tensor,
    fixed: torch.Tensor,
    position: torch.Tensor,
    valid: torch.Tensor,
    exclusion: float = 3.0,
    temperature: float = 0.1,
) -> torch.Tensor:
    """Cross-entropy of finding, among all places, the one that registration has matched; the mean of both directions.

    With a_q and b_p the features of the moving volume where place q was matched to and of the fixed volume at place p:

        - mean over p of log( exp(b_p . a_p / temperature) / sum over q of exp(b_p . a_q / temperature) )

    and the same with a and b exchanged. Places q within `exclusion` of p, other than p, are left out of the sum: a
    match is not exact. InfoNCE (van den Oord et al., 2018); on voxels of registered volumes: GEMINI (He et al., 2025).

    Args:
        moving: (N, C, places), of length 1.
        fixed: the same shape.
        position: (N, 3, places), of the places in the fixed volume, in voxels.
        valid: (N, places), whether a place counts.
        exclusion: in voxels.
        temperature: of the softmax over cosines.

    Returns:
        (N,); 0 for a pair without a valid place.
    """
    near = torch.cdist(position.mT, position.mT) <= exclusion
    itself = torch.eye(near.shape[1], dtype=torch.bool, device=near.device)
    left_out = (near | ~valid[:, None]) & ~itself
    count = valid.sum(1).clamp_min(1)
    total = 0.0
    for one, other in ((fixed, moving), (moving, fixed)):
        logits = (one.mT @ other / temperature).masked_fill(left_out, -torch.inf)
        loss = logits.logsumexp(2) - logits.diagonal(dim1=1, dim2=2)
        total = total + torch.where(valid, loss, 0.0).sum(1) / (2 * count)
    return total


class MatchedContrastLoss(nn.Module):
    """`matched_contrast` with these arguments, averaged over the batch, in float32 also under autocast.

    Args:
        exclusion: in voxels.
        temperature: above 0.

    Raises:
        ValueError: another temperature.
    """

    def __init__(self, exclusion: float = 3.0, temperature: float = 0.1) -> None:
        super().__init__()
        if temperature <= 0:
            raise ValueError(f"temperature must be above 0, got {temperature}")
        self.exclusion = exclusion
        self.temperature = temperature

    def forward(
        self, moving: torch.Tensor, fixed: torch.Tensor, position: torch.Tensor, valid: torch.Tensor
    ) -> torch.Tensor:
        """(N, C, places) twice, (N, 3, places) and (N, places) -> scalar."""
        arguments = {"valid": valid, "exclusion": self.exclusion, "temperature": self.temperature}
        return in_float32(matched_contrast, moving, fixed, position, **arguments).mean()
