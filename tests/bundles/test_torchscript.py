# SPDX-License-Identifier: Apache-2.0
"""The shipped weights as TorchScript give the eager network's output where none of our code can be imported."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import torch
from monai.bundle import ckpt_export
from runs import ROOT

from custom.weights import network_from, read_weights

BUNDLES = ("gvsl_covid_cls", "gvsl_pretrain", "gvsl_seg_brain", "gvsl_seg_coronary", "gvsl_seg_heart")
COMPARE = """
import json, sys, torch
sys.modules["custom"] = sys.modules["scripts"] = None  # an import of them fails
for name in sys.argv[1:]:
    files = {"metadata.json": ""}
    network = torch.jit.load(f"{name}.ts", _extra_files=files)
    case = torch.load(f"{name}.pt", weights_only=True)
    with torch.no_grad():
        found = network(case["volume"])
    torch.testing.assert_close(found, case["expected"], atol=1e-5, rtol=1e-5)
    print(name, json.loads(files["metadata.json"])["version"], float((found - case["expected"]).abs().max()))
"""


@torch.no_grad()
def test_exports_stand_alone_and_give_the_eager_output(tmp_path: Path) -> None:
    for name in BUNDLES:
        bundle = ROOT / "bundles" / name
        ckpt_export(
            net_id="network_def",
            filepath=str(tmp_path / f"{name}.ts"),
            ckpt_file=str(bundle / "models" / "model.pt"),
            meta_file=str(bundle / "configs" / "metadata.json"),
            config_file=str(bundle / "configs" / "inference.json"),
            bundle_root=str(bundle),
        )
        state, description = read_weights(bundle / "models")
        network = network_from(description).eval()
        network.load_state_dict(state)
        volume = torch.rand(2, 1, 33, 32, 47, generator=torch.Generator().manual_seed(0))
        expected = network(volume)
        assert expected.std() > 1e-3
        torch.save({"volume": volume, "expected": expected}, tmp_path / f"{name}.pt")
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", COMPARE, *BUNDLES]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr[-3000:]
    print(done.stdout)
    assert [line.split()[0] for line in done.stdout.splitlines()] == list(BUNDLES)
