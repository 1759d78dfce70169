# SPDX-License-Identifier: Apache-2.0
"""The measurement for a GPU runs at tiny size on a CPU; docs/gpu.md says what the traces and the configs say."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest
import torch

from benchmarks.bundles import BENCHMARKS, BUNDLES, ROOT
from benchmarks.fake_cuda.report import FOLDERS, PRETEXTS
from benchmarks.fake_cuda.trace import Step, read
from benchmarks.gpu import report as gpu_report
from benchmarks.gpu.parts import Part, parts, run_part

PAGE = (ROOT / "docs" / "gpu.md").read_text(encoding="utf-8")
SCRIPT = ROOT / "docs" / "slurm" / "pretrain.sbatch"
TRACED = json.loads((BENCHMARKS / "results" / "fake_cuda.json").read_text(encoding="utf-8"))["steps"]


def test_the_steps_of_a_bundle_are_measured_at_tiny_size(tmp_path: Path) -> None:
    output = tmp_path / "gpu.json"
    gpu_report.report(str(output), only="steps of gvsl_covid_cls", tiny=True, work=str(tmp_path / "work"))
    content = json.loads(output.read_text())
    part = content["parts"]["steps of gvsl_covid_cls"]
    assert part["status"] == "done" and content["versions"]["torch"] == torch.__version__
    for config in ("train.json", "paper.json"):
        assert len(part["result"][config]) == 5
        for measured in part["result"][config].values():
            assert measured["seconds"] > 0 and measured["peak_gib"] > 0


def test_there_is_a_part_for_every_bundle_and_all_fit_in_eight_minutes() -> None:
    every = list(parts(tiny=False, cuda=True))
    assert sum(part.seconds for part in every) < 60 * 9  # limits; the whole ends after `minutes`
    assert {f"steps of {path.name}" for path in BUNDLES.iterdir()} < {part.name for part in every}
    assert not any(flag in part.arguments for part in every for flag in ("--tiny", "--collect-only"))


def test_a_part_that_fails_or_hangs_leaves_its_result_and_the_end_of_its_log(tmp_path: Path) -> None:
    code = "import pathlib, sys; pathlib.Path(sys.argv[1]).write_text('{\"a\": 1}'); print('last'); "
    failing = run_part(Part("failing", ("-c", code + "sys.exit(3)", "{output}"), 20), tmp_path / "a", 20)
    assert failing["status"] == "failed with exit status 3"
    assert failing["result"] == {"a": 1} and failing["last_lines"] == ["last"]
    start = time.monotonic()
    child = "import subprocess, time; subprocess.Popen(['sleep', '77.5']); time.sleep(60)"
    hanging = run_part(Part("hanging", ("-c", child), 0.7), tmp_path / "b", 20)
    assert hanging["status"] == "stopped after 1 s" and time.monotonic() - start < 15
    assert not shutil.which("pgrep") or subprocess.run(["pgrep", "-f", "^sleep 77.5$"]).returncode == 1
    late = run_part(Part("late", ("-c", "1"), 20), tmp_path / "c", -1.0)
    assert late["status"] == "left out, because no time was left"


def test_unknown_parts_and_a_machine_without_a_gpu_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"only holds \['step'\], expected some of"):
        gpu_report.report(only="step", tiny=True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="no CUDA device"):
        gpu_report.report()


def table() -> list[str]:
    """The rows of the memory table of the page, from the traces."""
    rows = []
    for name, folder in FOLDERS.items():
        for config, label in (("train.json", name), ("paper.json", f"{name}, paper.json")):
            plain, mixed = (TRACED[step]["peak_gib"] for step in (label, f"{label}, amp"))
            rows.append(f"| {folder}, `{config}` | {plain} | {mixed} |")
    return rows + [f"| gvsl_pretrain, `pretext/{name}.json` | {TRACED[name]['peak_gib']} | – |" for name in PRETEXTS]


def test_the_page_has_the_traced_memory() -> None:
    head = "| config | float32 | mixed precision |\n|---|---|---|\n"
    assert PAGE.partition(head)[2].partition("\n\n")[0].splitlines() == table(), "\n".join(table())


def test_the_overlay_for_bfloat16_reaches_the_trainer() -> None:
    overlay = json.loads(re.search(r"```json\n(.*?)```", PAGE, re.DOTALL)[1])
    assert overlay.keys() == {"train#trainer#amp_kwargs", "validate#evaluator#amp_kwargs"}
    small = {
        "device": "cpu",
        "validate::dataloader": "$[None]",
        "validate::handlers": [],
        "patch_size": [16, 16, 16],
        "channels": [8, 8, 16],
    }
    for bundle in ("gvsl_pretrain", "gvsl_seg_heart"):
        parser = read(
            Step(bundle, overrides=small | {name.replace("#", "::"): value for name, value in overlay.items()})
        )
        for engine in ("train::trainer", "validate::evaluator"):
            assert parser.get_parsed_content(engine).amp_kwargs == {"dtype": torch.bfloat16}


def test_the_script_for_slurm_is_valid_and_names_what_exists() -> None:
    subprocess.run(["bash", "-n", str(SCRIPT)], check=True)
    script = SCRIPT.read_text(encoding="utf-8")
    named = re.findall(r"bundles/[\w/.]+\.json", script)
    assert len(named) == 3 and all((ROOT / name).is_file() for name in named)
    keys = json.loads((BUNDLES / "gvsl_pretrain" / "configs" / "train.json").read_text()).keys()
    options = re.findall(r"^    --(\w+) ", script, re.MULTILINE)
    assert {*options} - {"config_file"} <= keys and len(options) == 5


def test_the_script_for_slurm_starts_torchrun_with_its_numbers(tmp_path: Path) -> None:
    """With stand-ins for the commands of Slurm and for torchrun, which print what they get."""
    for name, line in (("srun", 'printf "%s\\n" "$@"'), ("scontrol", "echo node1; echo node2")):
        (tmp_path / name).write_text(f"#!/bin/bash\n{line}\n")
        (tmp_path / name).chmod(0o755)
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "activate").write_text("")
    slurm = {"SLURM_JOB_NODELIST": "node[1-2]", "SLURM_NNODES": "2", "SLURM_GPUS_ON_NODE": "4", "SLURM_JOB_ID": "7"}
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", **slurm}
    done = subprocess.run(["bash", str(SCRIPT)], cwd=tmp_path, env=environment, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    printed = done.stdout.splitlines()
    assert printed[:6] == [
        *("torchrun", "--nnodes=2", "--nproc_per_node=4", "--rdzv_id=7", "--rdzv_backend=c10d"),
        "--rdzv_endpoint=node1:20007",
    ]
    assert printed[6:9] == ["-m", "monai.bundle", "run"]
