# SPDX-License-Identifier: Apache-2.0
"""The comparison with the authors' code: with a stand-in for their checkout."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from benchmarks.against_authors import OurTraining, measured_parts, memory_of_step, textured
from benchmarks.authors_code import TheirTraining
from benchmarks.operators import operator_shares

TINY = {"channels": [8, 16], "spacing": [1.0, 1.0, 1.0]}
STAND_IN = """
import torch
from torch.utils.data import DataLoader
from utils.dataloader_heart_self_train import DatasetFromFolder3D
from utils.losses import loss

class Trainer:
    def __init__(self):
        self.gvsl = torch.nn.Linear(1, 1)
        self.opt = torch.optim.SGD(self.gvsl.parameters(), lr=0.1)
        self.dataloader_train = DataLoader(DatasetFromFolder3D(""), shuffle=True)
        self.iters = 200

    def train_epoch(self, epoch):
        for _ in range(self.iters):
            moving, fixed = next(self.dataloader_train.__iter__())
            loss(self.gvsl(moving.cuda().to("cuda")), fixed.cuda().to(torch.float32)).backward()
            self.opt.step()
            self.opt.zero_grad()
            print("a step")
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "PyTorch" / "utils").mkdir(parents=True)
    (tmp_path / "PyTorch" / "Train_GVSL.py").write_text(STAND_IN)
    (tmp_path / "PyTorch" / "utils" / "losses.py").write_text("def loss(a, b): return (a - b).square().mean()\n")
    return tmp_path


def test_their_training_steps_on_the_cpu_and_leaves_torch_and_the_modules_as_they_were(
    checkout: Path, capsys: pytest.CaptureFixture
) -> None:
    move, modules = torch.Tensor.to, set(sys.modules)
    theirs = TheirTraining(checkout, torch.ones(4, 1), torch.full((4, 1), 3.0))
    before = theirs.network.bias.item()
    theirs.step()
    assert theirs.network.bias.item() != before
    assert theirs.losses.loss(torch.ones(1), torch.zeros(1)) == 1
    assert capsys.readouterr().out == ""
    assert torch.Tensor.to is move and "cuda" not in vars(torch.Tensor)
    assert not {"Train_GVSL", "utils", "utils.losses"} & (set(sys.modules) - modules)


def test_another_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"has no PyTorch/Train_GVSL.py, expected a checkout"):
        TheirTraining(tmp_path, torch.ones(1), torch.ones(1))


def test_parts_have_their_times_and_the_ratios_of_neighbours() -> None:
    def spin(seconds: float) -> None:
        start = time.process_time()
        while time.process_time() - start < seconds:
            pass

    measured = measured_parts({"a": (lambda: spin(0.03), lambda: spin(0.01))}, repeats=2)["a"]
    assert measured["theirs_ms"]["median"] == pytest.approx(30, rel=0.1)
    assert measured["ours_ms"]["median"] == pytest.approx(10, rel=0.1)
    assert measured["theirs / ours"]["median"] == pytest.approx(3, rel=0.1)


def test_shares_tell_convolutions_from_other_operators() -> None:
    image, kernel, matrix = torch.rand(1, 8, 24, 24, 24), torch.rand(8, 8, 3, 3, 3), torch.rand(300, 300)
    image.requires_grad_()
    assert operator_shares(lambda: F.conv3d(image, kernel).sum().backward())["not convolution"] < 0.4
    product = operator_shares(lambda: matrix @ matrix, listed=1)
    assert product["not convolution"] == pytest.approx(1) and list(product["operators"]) == ["aten::mm"]


def test_our_step_trains_and_its_memory_grows_with_the_volume() -> None:
    ours = OurTraining(textured(16, 0), textured(16, 1), **TINY)
    before = ours.network.backbone.encoder[0][0].weight.clone()
    ours.step()
    assert not torch.equal(ours.network.backbone.encoder[0][0].weight, before)
    small, large = (memory_of_step("", side, **TINY) for side in (16, 64))
    assert large["step_gib"] > 5 * small["step_gib"] and large["parameters"] == small["parameters"]
