# SPDX-License-Identifier: Apache-2.0
"""Two torchrun launchers on this machine stand in for two nodes."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from runs import ROOT, command, rows, run

BUNDLE = ROOT / "bundles" / "gvsl_pretrain"
SECONDS = 300  # after which a node that waits for the other is stopped


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("localhost", 0))
        return listener.getsockname()[1]


def node_command(port: int, overrides: dict) -> list[str]:
    """What is run on each of two nodes, as docs/gpu.md says, with the overrides of this node."""
    rendezvous = ["--rdzv_backend=c10d", f"--rdzv_endpoint=localhost:{port}", "--rdzv_id=test"]
    launcher = ["-m", "torch.distributed.run", "--nnodes=2", "--nproc_per_node=1", *rendezvous]
    plain = command(BUNDLE, ["train.json", "multi_gpu_train.json"], overrides)
    return [sys.executable, *launcher, *plain[1:]]


@pytest.mark.slow
def test_two_nodes_train_like_one_process_with_the_doubled_batch(overrides: dict, tmp_path: Path) -> None:
    """Each node has a cache and an output folder of its own, as on local disks; the first writes the results."""
    whole, port = tmp_path / "whole", free_port()
    run(command(BUNDLE, ["train.json"], overrides | {"output_dir": str(whole), "batch_size": 2}))
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    nodes = []
    for name in ("first", "second"):
        own = {"output_dir": str(tmp_path / name), "cache_dir": str(tmp_path / f"cache_{name}")}
        arguments = node_command(port, overrides | own | {"batch_size": 1})
        with (tmp_path / f"{name}.log").open("w") as log:
            nodes.append(subprocess.Popen(arguments, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT))
    try:
        codes = [node.wait(SECONDS) for node in nodes]
    finally:
        for node in nodes:
            node.kill()
    assert codes == [0, 0], [(tmp_path / f"{name}.log").read_text()[-2000:] for name in ("first", "second")]
    # the rendezvous decides which node is the first
    written = [tmp_path / name for name in ("first", "second") if (tmp_path / name / "model.pt").is_file()]
    assert len(written) == 1
    for one, two in zip(rows(whole / "training.csv"), rows(written[0] / "training.csv"), strict=True):
        assert float(one["loss"]) == pytest.approx(float(two["loss"]), rel=1e-3)
    states = [torch.load(folder / "model.pt", weights_only=True) for folder in (whole, written[0])]
    for name, tensor in states[0].items():
        assert torch.allclose(tensor, states[1][name], atol=2e-4), name
    other = next(tmp_path / name for name in ("first", "second") if tmp_path / name != written[0])
    assert not other.exists() and all(any((tmp_path / f"cache_{name}").iterdir()) for name in ("first", "second"))
