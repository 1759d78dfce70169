# SPDX-License-Identifier: Apache-2.0
"""Projector and predictor of methods that compare views of whole volumes (BYOL, SimCLR, SimSiam).

A row is the vector that the encoder, the projector or the predictor gives for one view of one volume.
"""

from __future__ import annotations

import torch
from ignite import distributed as idist
from torch import nn
from torch.nn import functional as F

from ..layers import at_least_float32

VIEWS = ("moving", "fixed", "moving_view", "fixed_view")  # the first views of all volumes, then the second views


class ProjectionMLP(nn.Sequential):
    """Linear layers, with batch norm and ReLU after each but the last: rows (N, in_channels) -> (N, out_channels).

    Batch norm takes its statistics from its input: all processes' rows after `rows_of_all_processes`.

    Args:
        in_channels: channels of the input.
        hidden_channels: channels between the layers.
        out_channels: channels of the output.
        layers: number of linear layers, 2 or more.

    Raises:
        ValueError: fewer than two layers.
    """

    def __init__(self, in_channels: int, hidden_channels: int, out_channels: int, layers: int = 2) -> None:
        if layers < 2:
            raise ValueError(f"layers must be 2 or more, got {layers}")
        modules: list[nn.Module] = []
        for channels in (in_channels, *[hidden_channels] * (layers - 2)):
            # no bias in the linear layer: the norm subtracts it again and has a bias of its own
            modules += [nn.Linear(channels, hidden_channels, bias=False), nn.BatchNorm1d(hidden_channels), nn.ReLU()]
        super().__init__(*modules, nn.Linear(hidden_channels, out_channels))


class PredictorPretext(nn.Module):
    """Backbone, projector and predictor, as SimSiam and BYOL have them.

    Args:
        backbone: a module with `forward_bottleneck` and `forward_features`, as `UNet3D`.
        projector: its input has the channels of the bottleneck.
        predictor: from the projector's output to as many channels.
    """

    def __init__(self, backbone: nn.Module, projector: ProjectionMLP, predictor: ProjectionMLP) -> None:
        super().__init__()
        self.backbone = backbone
        self.projector = projector
        self.predictor = predictor


def rows_of_all_processes(rows: torch.Tensor) -> torch.Tensor:
    """Joins the rows of all processes; a single process gets its own rows back.

    Every process then computes the loss that one process would compute from the joined batch. Gradient reaches only the
    rows of the process itself, multiplied by the number of processes: DistributedDataParallel takes the mean over the
    processes, which is then the gradient of one process with the joined batch, in the layers before and after.

    Args:
        rows: (2N, C), the first views of N volumes, then their second views; N is the same in all processes.

    Returns:
        (2M, C), M = N times the number of processes: the first views of all volumes, by process, then the second views.
    """
    processes = idist.get_world_size()
    if processes == 1:
        return rows
    own = rows.unflatten(0, (2, -1)).transpose(0, 1).contiguous()  # (N, 2, C)
    parts = list(idist.all_gather(own.detach()).chunk(processes))
    if own.requires_grad:
        own.register_hook(lambda gradient: gradient * processes)
    parts[idist.get_rank()] = own
    return torch.cat(parts).transpose(0, 1).flatten(0, 1)


def rows_of_views(backbone: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Bottlenecks of the `VIEWS`, (N, C, *spatial) each, averaged over space: rows (4N, C), the first views of all
    volumes, then the second views; in training the rows of all processes.
    """
    rows = backbone.forward_bottleneck(torch.cat([batch[name] for name in VIEWS])).mean(dim=(2, 3, 4))
    return rows_of_all_processes(rows) if backbone.training else rows


def projection_spread(projection: torch.Tensor) -> torch.Tensor:
    """A measure of collapse: how different the directions of projections (N, C) are; without gradient.

    The standard deviation of the rows at unit length, mean over the channels, times sqrt(C): 0 where all projections
    point in one direction, near 1 for many rows in all directions (Chen and He, CVPR 2021, section 4.1 and figure 2).
    """
    rows = F.normalize(at_least_float32(projection.detach()), dim=1)
    return rows.std(dim=0, correction=0).mean() * rows.shape[1] ** 0.5
