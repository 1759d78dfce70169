# SPDX-License-Identifier: Apache-2.0
"""What every pretext task promises that compares two views of each volume."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from custom.weights import load_pretext, save_pretext

CHANNELS = (8, 16, 32)
VIEWS = ("moving", "fixed", "moving_view", "fixed_view")


def pairs(count: int = 2, seed: int = 0) -> dict[str, torch.Tensor]:
    """Volumes of smooth noise; a second view is the first, darker and with fine noise."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(2 * count, 1, 4, 4, 4, generator=generator)
    volumes = torch.nn.functional.interpolate(coarse, (16, 16, 16), mode="trilinear")
    views = 0.7 * volumes + 0.1 * torch.rand(volumes.shape, generator=generator)
    return dict(zip(VIEWS, (*volumes.chunk(2), *views.chunk(2)), strict=True))


def rows(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).requires_grad_()


def step(model: nn.Module, loss: nn.Module, optimizer: torch.optim.Optimizer, batch: dict[str, torch.Tensor]) -> dict:
    optimizer.zero_grad()
    terms = loss(model(batch), batch)
    terms["loss"].backward()
    optimizer.step()
    return terms


class ViewsTests:
    """Inherit; `outputs` are those of training, `without_gradient` begins the names of what a step does not teach."""

    pairs = staticmethod(pairs)
    network: Callable[..., nn.Module]
    loss: type[nn.Module]
    outputs: set[str]
    without_gradient: tuple[str, ...] = ("backbone.decoder",)
    may_cancel_out: set[str] = set()

    def trained(self) -> nn.Module:
        """After one step; running statistics and, where there are several networks, their weights differ."""
        model = self.network()
        step(model, self.loss(), torch.optim.Adam(model.parameters(), 1e-2), self.pairs())
        return model

    def test_features_are_given_in_evaluation_alone(self):
        model, batch = self.trained(), self.pairs()
        assert set(model(batch)) == self.outputs
        outputs = model.eval()(batch)
        bottleneck, local = model.backbone.forward_features(torch.cat((batch["moving"], batch["fixed"])))
        torch.testing.assert_close(outputs["bottleneck"], bottleneck)
        torch.testing.assert_close(outputs["local"], local)

    def test_gradient_reaches_all_that_a_step_teaches(self):
        model, batch = self.network(), self.pairs()
        self.loss()(model(batch), batch)["loss"].backward()
        without = {name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()}
        expected = {name for name, _ in model.named_parameters() if name.startswith(self.without_gradient)}
        assert without - self.may_cancel_out == expected

    def test_under_autocast_the_loss_is_float32(self):
        model, batch = self.network(), self.pairs()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            outputs = model(batch)
            terms = self.loss()(outputs, batch)
        assert all(outputs[name].dtype == torch.bfloat16 for name in self.outputs - {"volume"})
        assert all(term.dtype == torch.float32 for term in terms.values())
        assert torch.equal(self.loss()(outputs, batch)["loss"], terms["loss"])
        terms["loss"].backward()
        assert all(p.grad.isfinite().all() for p in model.projector.parameters())

    def test_weights_come_back(self, tmp_path):
        model, other, batch = self.trained(), self.network(seed=1), self.pairs()
        save_pretext(model, tmp_path, {})
        load_pretext(other, tmp_path)
        assert set(torch.load(tmp_path / "model.pt")) == set(model.backbone.state_dict())
        torch.testing.assert_close(other.eval()(batch), model.eval()(batch))
