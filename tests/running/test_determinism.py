# SPDX-License-Identifier: Apache-2.0
"""CPUs repeat their numbers, GPUs take the fastest algorithms unless told otherwise; `deterministic` decides."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser

from custom.running import seed_run

TRAINING = sorted((Path(__file__).parents[2] / "bundles").glob("*/configs/train.json"))


@pytest.fixture(autouse=True)
def restored(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The switches of torch after a test are those before it."""
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    before = torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
    yield
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = before
    torch.use_deterministic_algorithms(False)
    os.environ.pop("CUBLAS_WORKSPACE_CONFIG", None)


def switches() -> tuple[bool, bool, bool]:
    cudnn = torch.backends.cudnn
    return cudnn.deterministic, cudnn.benchmark, torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize("deterministic", [False, True])
def test_all_generators_are_seeded(deterministic: bool) -> None:
    drawn = []
    for _ in range(2):
        seed_run(3, deterministic)
        drawn.append((random.random(), float(np.random.rand()), float(torch.rand(()))))
    assert drawn[0] == drawn[1]


def test_on_a_machine_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    seed_run(0, True)
    assert switches() == (True, False, False)  # as monai.utils.set_determinism alone: the numbers stay


def test_on_a_machine_with_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.manual_seed_all", lambda seed: None)
    seed_run(0, False)
    assert switches() == (False, True, False) and "CUBLAS_WORKSPACE_CONFIG" not in os.environ
    seed_run(0, True)
    assert switches() == (True, False, True) and torch.is_deterministic_algorithms_warn_only_enabled()
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    seed_run(0, False)
    assert switches() == (False, True, False)


@pytest.mark.parametrize("path", TRAINING, ids=lambda path: path.parts[-3])
@pytest.mark.parametrize(("device", "expected"), [("cpu", True), ("cuda:1", False)])
def test_the_device_decides_unless_the_switch_is_set(path: Path, device: str, expected: bool) -> None:
    parser = ConfigParser()
    parser.read_config(str(path))
    parser["device"] = device
    assert parser.get_parsed_content("deterministic") is expected
    parser["deterministic"] = not expected
    parser.parse()
    *_, seeding = parser["initialize"]
    assert seeding == {"_target_": "custom.running.seed_run", "seed": "@seed", "deterministic": "@deterministic"}
    assert parser.get_parsed_content("deterministic") is not expected
