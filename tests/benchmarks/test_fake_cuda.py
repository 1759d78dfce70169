# SPDX-License-Identifier: Apache-2.0
"""Every training step on fake CUDA tensors: devices, types, host syncs and memory. The steps need no GPU."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from typing import Any

import pytest
import torch

from benchmarks.bundles import BENCHMARKS, ROOT, pretext_overlays

COMMITTED = json.loads((BENCHMARKS / "results" / "fake_cuda.json").read_text(encoding="utf-8"))
NAMES = sorted(COMMITTED["steps"])
MOST_SYNCS = 5
PLANTED = """
from benchmarks.fake_cuda.stand_in import load
load()
import torch
from benchmarks.fake_cuda.trace import Step, trace
from custom.pretext import GVSLLoss
correct = GVSLLoss.forward
def wrong(loss, outputs, batch):
    terms = correct(loss, outputs, batch)
    return terms | {"loss": terms["loss"] + torch.zeros(3)}
GVSLLoss.forward = wrong
trace(Step(overrides={"patch_size": [16, 16, 16], "channels": [8, 8, 16]}))
"""

pytestmark = [
    pytest.mark.skipif(shutil.which("g++") is None, reason="the stand-in for CUDA is compiled with g++, found none"),
    pytest.mark.skipif(
        torch.__version__ != COMMITTED["torch"],
        reason=f"traced with torch {COMMITTED['torch']}, found {torch.__version__}",
    ),
    pytest.mark.skipif(torch.version.cuda is not None, reason="this build of torch has CUDA itself"),
]


@pytest.fixture(scope="module")
def steps(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Name of a step -> what its trace found now."""
    output = tmp_path_factory.mktemp("fake_cuda") / "traced.json"
    done = run(["-m", "benchmarks.fake_cuda", "--output", str(output)])
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(output.read_text(encoding="utf-8"))["steps"]


def run(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, encoding="utf-8")


@pytest.mark.parametrize("name", NAMES)
def test_a_step_stays_on_the_device_in_float32(steps: dict[str, Any], name: str) -> None:
    # the gradient scaler of torch inverts its scale, one number, in float64
    double = [place for place in steps[name]["float64"] if not (name.endswith("amp") and "engines/trainer.py" in place)]
    assert double == []


@pytest.mark.parametrize("name", NAMES)
def test_every_trained_weight_gets_a_gradient(steps: dict[str, Any], name: str) -> None:
    """But the decoder's where a method trains the encoder alone, and its overlay says so."""
    overlay = pretext_overlays().get(name, {})
    unused = ("backbone.decoder.",) if overlay.get("has_unused_parameters") else ()
    assert [weight for weight in steps[name]["without_gradient"] if not weight.startswith(unused)] == []


@pytest.mark.parametrize("name", NAMES)
def test_a_step_needs_no_more_memory_and_syncs_than_committed(steps: dict[str, Any], name: str) -> None:
    found, committed = steps[name], COMMITTED["steps"][name]
    assert found["peak_gib"] <= 1.02 * committed["peak_gib"] + 0.01
    assert sum(found["syncs"].values()) <= sum(committed["syncs"].values()) <= MOST_SYNCS, found["syncs"]


def test_the_paper_fits_a_card_of_24_gb(steps: dict[str, Any]) -> None:
    assert steps["gvsl, paper.json"]["peak_gib"] <= 16 and steps["gvsl, paper.json, amp"]["peak_gib"] <= 14


def test_every_committed_step_is_traced(steps: dict[str, Any]) -> None:
    assert sorted(steps) == NAMES


def test_a_tensor_of_the_host_in_a_loss_is_found() -> None:
    done = run(["-c", PLANTED])
    assert done.returncode != 0 and "Expected all tensors to be on the same device" in done.stderr
