# SPDX-License-Identifier: Apache-2.0
"""The commands of README.md, as they stand there, one after the other in one folder; those that train at toy size."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from sizes import SHORT, SMALL
from warm import Ended, WarmProcess

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
TOY = {
    "pretrain": f"{SHORT} --validation_pairs 2",
    "finetune": f"{SHORT} --warmup_iterations 1",
    "evaluate": f"{SMALL} --figures False",
    "segment": SMALL,
    "register": "--device cpu --refine 3",
    "propagate": "--device cpu --refine 1",
}
WRITTEN = {
    "segment heart ct.nii.gz": "heart/ct_label.nii.gz",
    "segment brain t1.nii.gz": "brain/t1_label.nii.gz",
    "register moving.nii.gz": "registered/warped.nii.gz",
    "register t1.nii.gz": "registered_t1/warped.nii.gz",
    "propagate labelled/": "labels/t1_label.nii.gz",
    "pretrain FOLDER": "gvsl_output/pretrain/heads.pt",
    "finetune heart": "gvsl_output/finetune_heart/model.pt",
    "evaluate heart": "gvsl_output/evaluate_heart/metrics.json",
    "segment heart NEW": "gvsl_output/segment_heart/NEW_label.nii.gz",
}


def lines_of(language: str) -> list[str]:
    """The lines of the blocks of a language."""
    blocks = re.findall(rf"^ *```{language}\n(.*?)^ *```", README, re.DOTALL | re.MULTILINE)
    return [line for block in blocks for line in block.splitlines()]


def commands() -> list[str]:
    """The commands of gvsl in their order, without "gvsl" and remarks."""
    found = re.findall(r"^ *gvsl (.+)$|`gvsl ([^`]+\.nii\.gz)`", README, re.MULTILINE)
    return [(first or second).partition("  #")[0].strip() for first, second in found]


@pytest.fixture(scope="module")
def folder(gvsl: Callable[[str, Path], Ended], volumes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory in which every command of the README was run."""
    folder = tmp_path_factory.mktemp("readme")
    shutil.copytree(volumes, folder / "FOLDER")
    shutil.copytree(volumes, folder / "labelled")
    (folder / "unlabelled").mkdir()
    shutil.copy(volumes / "images" / "4.nii.gz", folder / "unlabelled" / "t1.nii.gz")
    for number, name in enumerate(("ct", "moving", "fixed", "NEW", "t1", "other_t1")):
        shutil.copy(volumes / "images" / f"{number}.nii.gz", folder / f"{name}.nii.gz")
    for command in commands():
        done = gvsl(f"{command} {TOY.get(command.split()[0], '')}", folder)
        assert done.status == 0, f"{command}: {done.errors[-3000:]}"
    return folder


def test_every_command_is_run() -> None:
    names = [command.split()[0] for command in commands()]
    expected = "list segment segment register register propagate pretrain pretrain pretrain finetune evaluate segment"
    assert names == expected.split()
    assert len(names) == len(re.findall(r"^ *gvsl |`gvsl [^`]+\.nii\.gz`", README, re.MULTILINE))


@pytest.mark.parametrize("command", WRITTEN)
def test_it_writes(command: str, folder: Path) -> None:
    assert any(line.startswith(command) for line in commands())
    assert (folder / WRITTEN[command]).is_file()


def test_python(folder: Path, warm: WarmProcess) -> None:
    code = "\n".join(lines_of("python")) + "\nassert label_map.shape == (24, 24, 24) and backbone.training is False\n"
    done = warm.run(["-c", code], folder)
    assert done.status == 0, done.errors[-3000:]


def test_the_first_command_trains(folder: Path, warm: WarmProcess, tmp_path: Path) -> None:
    """The part of the set-up block that runs the main job; the rest of it makes the environment of these tests."""
    (line,) = (line for line in lines_of("bash") if line.endswith("configs/train.json"))
    arguments = line.rpartition("&& python ")[2].split()
    size = [f"--output_dir={tmp_path}", f"--dataset_dir={folder / 'FOLDER'}", *TOY["pretrain"].split()]
    done = warm.run([*arguments, *size], ROOT)
    assert done.status == 0, done.errors[-3000:]
    assert (tmp_path / "model.pt").is_file()
