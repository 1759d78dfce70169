# SPDX-License-Identifier: Apache-2.0
"""What global methods put behind the encoder: projector and predictor, over the rows of all processes."""

from __future__ import annotations

import torch
from ignite import distributed as idist
from torch import nn
from torch.nn import functional as F

from ..layers import at_least_float32

VIEWS = ("moving", "fixed", "moving_view", "fixed_view")  # first views of all volumes, then the second ones


class ProjectionMLP(nn.Sequential):
    """Linear layers, batch norm and ReLU after each but the last: rows (N, in_channels) -> (N, out_channels).

    The norm knows the rows of this process; where rows come through `rows_of_all_processes`, it knows all of them.

    Args:
        in_channels, hidden_channels, out_channels: widths.
        layers: number of linear layers, 2 or more.

    Raises:
        ValueError: fewer than two layers.
    """

    def __init__(self, in_channels: int, hidden_channels: int, out_channels: int, layers: int = 2) -> None:
        if layers < 2:
            raise ValueError(f"layers must be 2 or more, got {layers}")
        modules: list[nn.Module] = []
        for channels in (in_channels, *[hidden_channels] * (layers - 2)):
            # the bias of the norm is the only one: the norm would take another out again
            modules += [nn.Linear(channels, hidden_channels, bias=False), nn.BatchNorm1d(hidden_channels), nn.ReLU()]
        super().__init__(*modules, nn.Linear(hidden_channels, out_channels))


def rows_of_all_processes(rows: torch.Tensor) -> torch.Tensor:
    """Joins the views that all processes have of their volumes; a single process keeps its rows.

    What every process computes from all rows alike is the loss of one process with the joined batch. Gradient reaches
    the process's own rows, times the number of processes: so the mean over the processes that DistributedDataParallel
    takes is the gradient of that one process, behind the joined rows and before them.

    Args:
        rows: (2N, C), the first views of N volumes, then the second views of the same; N is the same everywhere.

    Returns:
        (2M, C), M = N times the number of processes: the first views of all, by process, then the second.
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
    """Bottlenecks of the `VIEWS`, (N, 1, *spatial) each, averaged over space: rows (4N, C), the first views of all
    volumes, then the second; in training those of all processes."""
    rows = backbone.forward_bottleneck(torch.cat([batch[name] for name in VIEWS])).mean(dim=(2, 3, 4))
    return rows_of_all_processes(rows) if backbone.training else rows


def projection_spread(projection: torch.Tensor) -> torch.Tensor:
    """How far projections (N, C) point in different directions: 0 where all are alike, at most 1; without gradient.

    Standard deviation of the rows at unit length, mean over the channels, times sqrt(C): near 1 for many rows in all
    directions (Chen and He, CVPR 2021, section 4.1 and figure 2).
    """
    rows = F.normalize(at_least_float32(projection.detach()), dim=1)
    return rows.std(dim=0, correction=0).mean() * rows.shape[1] ** 0.5
