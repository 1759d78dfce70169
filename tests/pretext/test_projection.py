# SPDX-License-Identifier: Apache-2.0
"""Projection MLP, the rows of all processes, and the spread that shows a collapse."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from custom.pretext.projection import ProjectionMLP, projection_spread, rows_of_all_processes

ROWS = torch.randn(8, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("layers", [2, 3])
def test_mlp_is_linear_norm_relu_and_a_linear_layer(layers):
    torch.manual_seed(0)
    mlp = ProjectionMLP(3, 5, 2, layers).double()
    rows = ROWS.numpy()
    linear = [module for module in mlp if isinstance(module, nn.Linear)]
    assert [(layer.in_features, layer.out_features) for layer in linear] == [(3, 5), *[(5, 5)] * (layers - 2), (5, 2)]
    for layer in linear[:-1]:
        rows = rows @ layer.weight.detach().numpy().T
        rows = (rows - rows.mean(axis=0)) / np.sqrt(rows.var(axis=0) + 1e-5)
        rows = np.maximum(rows, 0)
    expected = rows @ linear[-1].weight.detach().numpy().T + linear[-1].bias.detach().numpy()
    torch.testing.assert_close(mlp(ROWS), torch.from_numpy(expected))


def test_every_parameter_of_the_mlp_gets_gradient():
    torch.manual_seed(0)
    mlp = ProjectionMLP(3, 5, 2, 3).double()
    mlp(ROWS).square().sum().backward()
    norms = {name: parameter.grad.norm().item() for name, parameter in mlp.named_parameters()}
    assert all(norm > 1e-6 for norm in norms.values()), norms  # a bias in front of a norm would have none


def test_one_layer_is_no_mlp():
    with pytest.raises(ValueError, match="layers must be 2 or more, got 1"):
        ProjectionMLP(3, 5, 2, layers=1)


def test_a_single_process_has_all_rows():
    assert rows_of_all_processes(ROWS) is ROWS


def joined_in_process(rank: int, folder: str) -> None:
    """Rows and gradients of one of two processes that have a pair of rows more than a single row each, as a file."""
    encoder, mlp = networks()
    joined = rows_of_all_processes(encoder(part(rank)))
    projection = mlp(joined)
    (projection**3).sum().backward()
    gradients = [parameter.grad for parameter in (*encoder.parameters(), *mlp.parameters())]
    torch.save((joined.detach(), projection.detach(), gradients), f"{folder}/{rank}.pt")
    places = rows_of_all_processes(torch.tensor([10, 11, 20, 21]) + 100 * rank)
    assert places.tolist() == [10, 11, 110, 111, 20, 21, 120, 121]


def networks() -> tuple[nn.Module, ProjectionMLP]:
    torch.manual_seed(0)
    return nn.Linear(3, 4).double(), ProjectionMLP(4, 5, 2).double()


def part(rank: int) -> torch.Tensor:
    """First, then second views of two of the four volumes of which the eight rows are first and second views."""
    return torch.cat([views[2 * rank : 2 * rank + 2] for views in ROWS.chunk(2)])


def test_two_processes_have_the_rows_and_the_mean_gradient_of_one(in_two_processes, tmp_path: Path):
    in_two_processes(joined_in_process)
    encoder, mlp = networks()
    expected = encoder(ROWS)
    projection = mlp(expected)
    (projection**3).sum().backward()
    found = [torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1)]
    for joined, projected, _ in found:
        torch.testing.assert_close(joined, expected.detach())
        torch.testing.assert_close(projected, projection.detach())  # the norm has seen all rows
    parameters = (*encoder.parameters(), *mlp.parameters())
    for parameter, first, second in zip(parameters, *(gradients for *_, gradients in found), strict=True):
        torch.testing.assert_close((first + second) / 2, parameter.grad)


def test_spread_is_that_of_unit_rows():
    rows = ROWS.numpy()
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    expected = np.mean([np.std(unit[:, channel]) for channel in range(3)]) * np.sqrt(3)
    assert projection_spread(ROWS).item() == pytest.approx(expected)
    assert projection_spread(7 * ROWS).item() == pytest.approx(expected)


def test_spread_tells_collapsed_rows_from_rows_in_all_directions():
    many = torch.randn(2000, 16, generator=torch.Generator().manual_seed(0), requires_grad=True)
    assert projection_spread(many).item() == pytest.approx(1, abs=0.01)
    assert not projection_spread(many).requires_grad
    one_direction = torch.rand(8, 1) * torch.randn(16)
    assert projection_spread(one_direction).item() < 1e-6
    assert projection_spread(many.bfloat16()).dtype == torch.float32
