# SPDX-License-Identifier: Apache-2.0
"""SimCLR: find the other view of a volume among the views of all volumes of the batch.

T. Chen, S. Kornblith, M. Norouzi, G. Hinton, "A Simple Framework for Contrastive Learning of Visual Representations",
ICML 2020.

M volumes in two views each give 2M projections z = g(f(x)), by encoder and projector. For z_i and the other view z_j of
the same volume (equation 1, NT-Xent):

    l(i, j) = - log( exp(s_ij / tau) / sum over k != i of exp(s_ik / tau) ),    s_ik = z_i . z_k / (|z_i| |z_k|)
    loss = mean of l over all 2M views

Both volumes of a pair are volumes of the batch; each is a negative of the other.

- As the paper: negatives from all processes (the joined batch), a projector of two layers as wide as the encoder, tau
  0.1, the paper's best on ImageNet. The output has the paper's 128 channels where the encoder has GVSL's 512.
- The projector has batch norm between its layers; section 2.1 of the paper has none, its code has it at the output too.
  Volumes of one anatomy give similar features from the start (cosine 0.99), and without batch norm they stay similar:
  with layer norm the loss did not leave log(2M - 1) in 240 steps of small phantoms. Batch norm at the output turns
  eight rows into noise; the loss did not fall either.
- A batch of pairs can hold a volume twice, which the paper's cannot: the other rows of the same volume are then left
  out of the sum over k. Held-out batches do not say which volumes they hold; they are one pair each.
- As in GVSL's comparison (He et al., CVPR 2023, section 4): the encoder of the same 3D U-Net, its bottleneck averaged
  over space; the optimizer of all methods, where the paper has LARS and weight decay; small batches, where the paper
  has 256 to 8192 pictures and gains from more. Two pairs give each view six negatives; to encode their eight views
  takes about as long as one pair of GVSL.
- Views: the pair's crop, for each view a spatial transform (for the paper's random crop and flip), a monotone intensity
  curve (for its color jitter) and a blur of its own.
- Collapse has its price: equal projections give a loss of log(2M - 1).
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from ..layers import in_float32, to_device
from .pairs import features_of_pairs
from .projection import ProjectionMLP, projection_spread, rows_of_all_processes, rows_of_views


class SimCLRPretext(nn.Module):
    """Projections of two views of each volume.

    Args:
        backbone: a module with `forward_bottleneck` and `forward_features`, as `UNet3D`.
        projector: its input has the channels of the bottleneck.
    """

    def __init__(self, backbone: nn.Module, projector: ProjectionMLP) -> None:
        super().__init__()
        self.backbone = backbone
        self.projector = projector

    def forward(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """One pass of a batch of pairs.

        Args:
            batch: the first views "moving" and "fixed", the second views "moving_view" and "fixed_view" of the same
                volumes, (N, C, *spatial) each; in training also the volumes' indices "moving_index" and "fixed_index",
                (N,).

        Returns:
            "projection" (2M, C), of the first views of all M volumes, then of the second views.
            In training also "volume" (2, M), the index of each row's volume; M = 2N times the number of processes.
            In evaluation M = 2N, and also the features of `features_of_pairs`.
        """
        outputs = {"projection": self.projector(rows_of_views(self.backbone, batch))}
        if not self.training:
            return outputs | features_of_pairs(self.backbone, batch)
        volume = to_device(
            torch.cat((batch["moving_index"], batch["fixed_index"])).repeat(2), outputs["projection"].device
        )
        return outputs | {"volume": rows_of_all_processes(volume).view(2, -1)}


def nt_xent_loss(projection: torch.Tensor, volume: torch.Tensor, temperature: float) -> torch.Tensor:
    """The normalised temperature-scaled cross-entropy of Chen et al. (equation 1).

    Args:
        projection: (2M, C), of the first views of M volumes, then of their second views.
        volume: (2M,), the index of each row's volume; rows of the same volume are no negatives of each other.
        temperature: tau.

    Returns:
        The mean of l over all rows, a scalar.
    """
    rows = F.normalize(projection, dim=1)
    other_view = torch.arange(len(rows), device=rows.device).roll(len(rows) // 2)
    no_negative = volume[:, None] == volume
    no_negative[torch.arange(len(rows), device=rows.device), other_view] = False
    similarity = (rows @ rows.T / temperature).masked_fill(no_negative, -torch.inf)
    return F.cross_entropy(similarity, other_view)


class NTXentLoss(nn.Module):
    """`nt_xent_loss`, in float32 also under autocast.

    Args:
        temperature: tau, above 0.

    Raises:
        ValueError: another temperature.
    """

    def __init__(self, temperature: float = 0.1) -> None:
        super().__init__()
        if temperature <= 0:
            raise ValueError(f"temperature must be above 0, got {temperature}")
        self.temperature = temperature

    def forward(self, outputs: dict[str, torch.Tensor], batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Outputs of `SimCLRPretext` -> "loss" and "projection_spread"; scalars."""
        projection = outputs["projection"]
        if "volume" in outputs:
            volume = outputs["volume"].flatten()
        else:  # the volumes of a held-out batch are all different
            volume = torch.arange(len(projection) // 2, device=projection.device).repeat(2)
        loss = in_float32(nt_xent_loss, projection, volume=volume, temperature=self.temperature)
        return {"loss": loss, "projection_spread": projection_spread(projection)}
