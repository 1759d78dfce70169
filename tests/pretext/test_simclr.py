# SPDX-License-Identifier: Apache-2.0
"""SimCLR: NT-Xent against a loop, two processes against one, what is learnt, and what a collapse costs."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
import views
from torch.nn.parallel import DistributedDataParallel
from views import CHANNELS, VIEWS, ViewsTests, rows, step

from custom.networks import UNet3D
from custom.pretext.projection import ProjectionMLP
from custom.pretext.simclr import NTXentLoss, SimCLRPretext, nt_xent_loss


def network(seed: int = 0) -> SimCLRPretext:
    torch.manual_seed(seed)
    return SimCLRPretext(UNet3D(1, CHANNELS), ProjectionMLP(32, 32, 16))


def pairs(count: int = 2) -> dict[str, torch.Tensor]:
    return views.pairs(count) | {"moving_index": torch.arange(count), "fixed_index": torch.arange(count) + count}


class TestSimCLR(ViewsTests):
    pairs = staticmethod(pairs)
    network, loss, outputs = staticmethod(network), NTXentLoss, {"projection", "volume"}
    may_cancel_out = {"projector.3.bias"}


def loop(projection: list[list[float]], volume: list[int], temperature: float) -> float:
    """NT-Xent, one view and one negative at a time."""
    count = len(projection) // 2

    def similarity(i: int, k: int) -> float:
        product = sum(a * b for a, b in zip(projection[i], projection[k], strict=True))
        return product / math.hypot(*projection[i]) / math.hypot(*projection[k])

    total = 0.0
    for i in range(2 * count):
        j = i + count if i < count else i - count
        positive = math.exp(similarity(i, j) / temperature)
        negatives = (math.exp(similarity(i, k) / temperature) for k in range(2 * count) if volume[k] != volume[i])
        total += -math.log(positive / (positive + sum(negatives)))
    return total / (2 * count)


@pytest.mark.parametrize("temperature", [0.1, 0.5])
@pytest.mark.parametrize("places", [[0, 1, 2], [4, 7, 4]])  # all different; two of the same volume
def test_the_loss_is_that_of_the_loop(temperature, places):
    projection, volume = rows(6, 5), torch.tensor(places * 2)
    found = nt_xent_loss(projection, volume, temperature)
    assert found.item() == pytest.approx(loop(projection.tolist(), volume.tolist(), temperature))
    assert torch.autograd.gradcheck(lambda value: nt_xent_loss(value, volume, temperature), projection)
    outputs = {"projection": projection, "volume": volume.view(2, -1)}
    assert NTXentLoss(temperature)(outputs, {})["loss"] == found


def test_a_case_by_hand():
    # two volumes, projections e1 and e2 in both views: similarity 1 with the other view, 0 with two negatives
    projection = torch.eye(2, dtype=torch.float64)[[0, 1, 0, 1]]
    expected = -math.log(math.exp(2) / (math.exp(2) + 2))
    assert nt_xent_loss(projection, torch.tensor([3, 8, 3, 8]), 0.5).item() == pytest.approx(expected)
    # held-out batches hold no places
    assert NTXentLoss(0.5)({"projection": projection}, {})["loss"].item() == pytest.approx(expected)
    # the same volume twice: no negatives are left
    assert nt_xent_loss(projection, torch.tensor([3, 3, 3, 3]), 0.5) == 0


def test_length_and_order_do_not_matter():
    projection, volume = rows(6, 5).detach(), torch.arange(3).repeat(2)
    expected = nt_xent_loss(projection, volume, 0.1)
    torch.testing.assert_close(nt_xent_loss(projection * torch.rand(6, 1) * 9, volume, 0.1), expected)
    order = torch.tensor([2, 0, 1, 5, 3, 4])
    torch.testing.assert_close(nt_xent_loss(projection[order], volume[order], 0.1), expected)


def test_temperature_must_be_positive():
    with pytest.raises(ValueError, match="temperature must be above 0, got 0"):
        NTXentLoss(0)


def test_rows_are_both_views_of_all_volumes():
    model, batch = network(), pairs()
    outputs = model(batch)
    assert outputs["volume"].tolist() == [[0, 1, 2, 3], [0, 1, 2, 3]]
    assert set(outputs) == {"projection", "volume"}
    outputs = model.eval()(batch)
    for place, name in enumerate(VIEWS):
        pooled = model.backbone.forward_bottleneck(batch[name]).mean(dim=(2, 3, 4))
        torch.testing.assert_close(outputs["projection"][2 * place : 2 * place + 2], model.projector(pooled))
    bottleneck, local = model.backbone.forward_features(torch.cat((batch["moving"], batch["fixed"])))
    torch.testing.assert_close(outputs["bottleneck"], bottleneck)
    torch.testing.assert_close(outputs["local"], local)
    assert set(outputs) == {"projection", "bottleneck", "local"}


def joined_batch() -> dict[str, torch.Tensor]:
    """Four pairs, the third of which holds a volume of the first."""
    batch = {name: value.double() if name in VIEWS else value for name, value in pairs(4).items()}
    for view in ("moving", "moving_view"):
        batch[view][2] = 0.9 * batch[view][0]
    batch["moving_index"][2] = batch["moving_index"][0]
    return batch


def learn_in_process(rank: int, folder: str) -> None:
    """Loss and gradients of one of two processes with half of the batch each, as a file."""
    batch = {name: value[2 * rank : 2 * rank + 2] for name, value in joined_batch().items()}
    model = DistributedDataParallel(network().double(), find_unused_parameters=True)
    loss = NTXentLoss()(model(batch), batch)["loss"]
    loss.backward()
    gradients = {name: p.grad for name, p in model.module.named_parameters() if "decoder" not in name}
    torch.save((loss.detach(), gradients, dict(model.module.named_buffers())), f"{folder}/{rank}.pt")
    if rank == 0:  # a held-out batch that the other process does not have
        NTXentLoss()(model.module.eval()(batch), batch)


def test_two_processes_have_the_loss_and_the_gradients_of_one_with_the_joined_batch(in_two_processes, tmp_path: Path):
    assert in_two_processes(learn_in_process) == [0, 0]
    model, batch = network().double(), joined_batch()
    expected = NTXentLoss()(model(batch), batch)["loss"]
    expected.backward()
    for rank in (0, 1):
        loss, gradients, buffers = torch.load(tmp_path / f"{rank}.pt")
        torch.testing.assert_close(loss, expected.detach())
        for name, gradient in gradients.items():
            torch.testing.assert_close(gradient, model.get_parameter(name).grad)
        for name, buffer in buffers.items():
            torch.testing.assert_close(buffer, model.get_buffer(name))


def test_it_learns_to_tell_volumes_apart():
    model, batch = network(), pairs()
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    terms = []
    for _ in range(30):
        terms.append(step(model, NTXentLoss(0.5), optimizer, batch))
    assert terms[0]["loss"] > 1 and terms[-1]["loss"] < 0.45
    assert terms[-1]["projection_spread"] > 0.6


def test_features_that_are_alike_cost_and_show():
    model, batch = network(), pairs()
    with torch.no_grad():
        model.backbone.encoder[-1][-2].weight.zero_()  # the last norm of the encoder gives a constant
    terms = NTXentLoss()(model(batch), batch)
    assert terms["loss"].item() == pytest.approx(math.log(7), abs=1e-4)
    assert terms["projection_spread"] < 1e-5
