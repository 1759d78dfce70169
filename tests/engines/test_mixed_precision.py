# SPDX-License-Identifier: Apache-2.0
"""Mixed precision on CPUs: the forward pass in bfloat16, predictions, loss and weights in float32."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch
from monai.inferers import SimpleInferer, SlidingWindowInferer
from torch import nn
from torch.nn import functional as F

from custom.engines import (
    AutocastInferer,
    MixedPrecisionEvaluator,
    MixedPrecisionTrainer,
    PretextEvaluator,
    PretextTrainer,
    mixed_precision,
)
from custom.engines.mixed_precision import autocast, computes_bfloat16


class Recorded(nn.Conv3d):
    """A convolution that remembers what it put out."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        output = super().forward(image)
        self.dtype = output.dtype
        return output


def make_network() -> Recorded:
    torch.manual_seed(0)
    return Recorded(1, 4, 3, padding=1)


def gradients(network: nn.Module, image: torch.Tensor) -> list[torch.Tensor]:
    network.zero_grad()
    AutocastInferer(SimpleInferer())(image, network).square().mean().backward()
    return [weight.grad for weight in network.parameters()]


def make_batches() -> list[dict[str, torch.Tensor]]:
    image = torch.rand(2, 1, 8, 8, 8, generator=torch.Generator().manual_seed(1))
    return [{"image": image, "label": image.expand(-1, 4, -1, -1, -1)}] * 20


def train(amp: bool) -> tuple[Recorded, list[torch.Tensor]]:
    network, losses = make_network(), []

    def loss(prediction: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        assert prediction.dtype == torch.float32 and prediction.is_contiguous()
        losses.append((prediction - label).square().mean())
        return losses[-1]

    MixedPrecisionTrainer(
        device="cpu",
        max_epochs=1,
        train_data_loader=make_batches(),
        network=network,
        optimizer=torch.optim.Adam(network.parameters(), 0.05),
        loss_function=loss,
        amp=amp,
    ).run()
    return network, [value.detach() for value in losses]


@pytest.mark.parametrize("amp", [False, True])
def test_a_trainer_computes_in_bfloat16_only_with_amp_and_keeps_float32_weights(amp):
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # MONAI's own amp would warn of the missing GPU
        network, losses = train(amp)
    assert network.dtype == (torch.bfloat16 if amp else torch.float32)
    assert network.weight.dtype == network.weight.grad.dtype == torch.float32
    assert losses[-1] < 0.2 * losses[0]


def test_both_precisions_descend_alike():
    exact, rounded = train(False)[1], train(True)[1]
    assert torch.stack(rounded).allclose(torch.stack(exact), rtol=0.05)
    assert not torch.stack(rounded).equal(torch.stack(exact))


@pytest.mark.parametrize("amp", [False, True])
def test_an_evaluator_computes_in_bfloat16_only_with_amp(amp):
    network = make_network()
    evaluator = MixedPrecisionEvaluator(
        device=torch.device("cpu"),
        val_data_loader=make_batches()[:1],
        network=network,
        inferer=SlidingWindowInferer((8, 8, 8)),
        decollate=False,
        amp=amp,
    )
    evaluator.run()
    assert network.dtype == (torch.bfloat16 if amp else torch.float32)
    assert evaluator.state.output["pred"].dtype == torch.float32


def test_the_inferer_switches_autocast_off_again_and_rounds_by_no_more_than_bfloat16():
    network, image = make_network(), make_batches()[0]["image"]
    with torch.no_grad():
        rounded = AutocastInferer(SimpleInferer())(image, network)
        exact = SimpleInferer()(image, network)
    assert exact.dtype == network.dtype == torch.float32
    assert 0 < (rounded - exact).abs().max() < 2**-7 * exact.abs().max()


@pytest.mark.parametrize(("extent", "depth"), [(3, 2), (5, 2), (5, 4)])
def test_gradients_of_shallow_convolutions_are_those_of_float32(extent, depth):
    """oneDNN's own are noise there on some CPUs (AMD EPYC 9004); what follows is bfloat16 again."""
    torch.manual_seed(0)
    image = torch.randn(4, 16, depth, 5, 6)
    network = nn.Sequential(nn.Conv3d(16, 32, extent, padding=extent // 2), nn.PReLU(), nn.Conv3d(32, 4, 1))
    seen = []
    for layer in (network[0], network[2]):
        layer.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    rounded = gradients(network, image)
    assert seen == [torch.float32, torch.bfloat16]
    network.zero_grad()
    network(image).square().mean().backward()
    for one, other in zip(rounded, network.parameters(), strict=True):
        assert (one - other.grad).norm() < 0.02 * other.grad.norm()


def test_the_convolutions_that_autocast_leaves_to_float32_are_those_of_volumes_shallower_than_their_kernel():
    weight = torch.rand(4, 2, 3, 3, 3)
    with autocast("cpu"):
        dtypes = [F.conv3d(torch.rand(1, 2, depth, 2, 2), weight, padding=1).dtype for depth in (1, 2, 3, 4)]
        assert F.conv3d(torch.rand(1, 2, 2, 2, 2).double(), weight.double(), padding=1).dtype == torch.float64
    assert dtypes == [torch.float32] * 2 + [torch.bfloat16] * 2
    with autocast("cpu", enabled=False):
        assert F.conv3d(torch.rand(1, 2, 4, 4, 4), weight).dtype == torch.float32


@pytest.mark.parametrize("capabilities", [{"avx512_bf16": True}, {"amx_bf16": True, "avx2": True}, {"bf16": True}])
def test_a_cpu_with_bfloat16_instructions_is_known(monkeypatch, capabilities):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)  # torch 2.8 has none
    assert computes_bfloat16()


def test_a_cpu_without_bfloat16_instructions_is_known(monkeypatch):
    capabilities = {"architecture": "x86_64", "avx2": True, "bf16": False}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert not computes_bfloat16()


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="Linux tells of its CPU there")
def test_this_cpu_is_what_linux_says():
    flags = set(Path("/proc/cpuinfo").read_text(encoding="utf-8").split())
    assert computes_bfloat16() == bool(flags & {"avx512_bf16", "amx_bf16", "bf16"})


@pytest.mark.parametrize("engine", [MixedPrecisionTrainer, PretextTrainer, MixedPrecisionEvaluator, PretextEvaluator])
def test_where_bfloat16_would_be_emulated_amp_warns_and_computes_in_float32(monkeypatch, engine):
    monkeypatch.setattr(mixed_precision, "computes_bfloat16", lambda: False)
    network, seen = make_network(), []
    network.register_forward_hook(lambda *_: seen.append(torch.is_autocast_enabled("cpu")))

    def first(batch: dict[str, torch.Tensor] | torch.Tensor, network: nn.Module) -> torch.Tensor:
        return network(batch["image"] if isinstance(batch, dict) else batch)

    def loss(prediction: torch.Tensor, batch: torch.Tensor) -> torch.Tensor | dict[str, torch.Tensor]:
        value = prediction.square().mean()
        return {"loss": value} if engine is PretextTrainer else value

    training = {"optimizer": torch.optim.SGD(network.parameters()), "loss_function": loss, "max_epochs": 1}
    given = (
        {"train_data_loader": make_batches()[:1], **training}
        if "Trainer" in engine.__name__
        else {"val_data_loader": make_batches()[:1]}
    )
    with pytest.warns(UserWarning, match="no bfloat16 instructions .* computing in float32"):
        made = engine(device=torch.device("cpu"), network=network, amp=True, decollate=False, **given)
    made.inferer = first
    if engine is PretextEvaluator:
        made.inferer = lambda batch, network: {"pred": first(batch, network)}
    if engine in (PretextTrainer, PretextEvaluator):
        made.prepare_batch = lambda batch, *_, **__: batch
    made.run()
    assert seen == [False] and network.dtype == torch.float32
