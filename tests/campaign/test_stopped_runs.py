# SPDX-License-Identifier: Apache-2.0
"""A run that is killed, ended or out of disk at any moment continues and gives the bytes of one that was left alone.

`python -m pytest tests/campaign/test_stopped_runs.py -m slow`
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
from faults import fill
from kinds.kind import ROOT
from small_runs import BUNDLES, SmallRun, finished
from warm import WarmProcess

pytestmark = pytest.mark.slow
Point = tuple[str, str, int]  # place, name and count of `faults.run`

WHILE_PHANTOMS_ARE_MADE: list[Point] = [
    ("half", "phantom_001.nii.gz", 1),
    ("after", "phantom_002.nii.gz", 1),
    ("before", "dataset.json", 1),
]
LATER: list[Point] = [
    ("start", "", 1),
    ("half", "????????????????*.pt", 1),  # a cached volume
    ("after", "????????????????*.pt", 2),
    ("trainer", "STARTED", 1),
    ("trainer", "ITERATION_STARTED", 1),
    ("trainer", "ITERATION_COMPLETED", 3),
    ("half", "checkpoint_2.pt", 1),
    ("after", "checkpoint_2.pt", 1),
    ("before", "checkpoint_4.pt", 1),
    ("half", "checkpoint_6.pt", 1),
    ("evaluator", "STARTED", 1),
    ("evaluator", "ITERATION_COMPLETED", 1),
    ("evaluator", "COMPLETED", 2),
    ("half", "losses.png", 1),
    ("half", "model.pt", 1),
    ("after", "model.pt", 1),
    ("half", "model.json", 1),
    ("trainer", "COMPLETED", 1),
]
POINTS = WHILE_PHANTOMS_ARE_MADE + LATER


def name_of(point: Point) -> str:
    return " ".join(map(str, point))


@pytest.fixture(scope="module")
def whole(warm: WarmProcess, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], SmallRun]:
    """Function that gives a bundle's run that was left alone."""
    return cache(lambda bundle: finished(warm, bundle, tmp_path_factory.mktemp(bundle)))


def check_continued(run: SmallRun, whole: SmallRun, warm: WarmProcess) -> None:
    ended = run.start(warm)
    assert ended.status == 0, ended.output[-3000:]
    run.check_like(whole)


@pytest.mark.parametrize("point", POINTS, ids=name_of)
@pytest.mark.parametrize("bundle", BUNDLES)
def test_killed(bundle: str, point: Point, whole: Callable[[str], SmallRun], warm: WarmProcess, tmp_path: Path) -> None:
    run = whole(bundle).in_folder(tmp_path, own_cohort=point in WHILE_PHANTOMS_ARE_MADE)
    assert run.start(warm, *point, "SIGKILL").status == -signal.SIGKILL
    check_continued(run, whole(bundle), warm)


@pytest.mark.parametrize("point", [LATER[0], LATER[5], LATER[11]], ids=name_of)
@pytest.mark.parametrize("bundle", BUNDLES)
def test_ended_by_sigterm(
    bundle: str, point: Point, whole: Callable[[str], SmallRun], warm: WarmProcess, tmp_path: Path
) -> None:
    run = whole(bundle).in_folder(tmp_path)
    assert run.start(warm, *point, "SIGTERM").status == -signal.SIGTERM
    check_continued(run, whole(bundle), warm)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", folder], capture_output=True).returncode:
        pytest.skip("only root may mount a small disk")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


FULL: list[Point] = [
    ("after", "phantom_001.nii.gz", 1),
    ("after", "????????????????*.pt", 1),
    ("trainer", "ITERATION_COMPLETED", 4),  # before a checkpoint
    ("evaluator", "COMPLETED", 2),  # before figures and tables
    ("trainer", "COMPLETED", 1),  # before what comes last
]


@pytest.mark.parametrize("point", FULL, ids=name_of)
@pytest.mark.parametrize("bundle", BUNDLES)
def test_full_disk(bundle: str, point: Point, whole: Callable[[str], SmallRun], warm: WarmProcess, disk: Path) -> None:
    run = whole(bundle).in_folder(disk, own_cohort=point == FULL[0])
    ended = run.start(warm, *point, str(disk / "filler"))
    if point != FULL[-1]:  # a bundle may write nothing after the end
        assert ended.status > 0
    if ended.status:
        end = "\n".join(ended.output.splitlines()[-4:])
        assert "No space left on device" in end and str(disk) in end, end
    (disk / "filler").unlink()
    check_continued(run, whole(bundle), warm)


def test_inference_on_a_full_disk(warm: WarmProcess, whole: Callable[[str], SmallRun], disk: Path) -> None:
    from kinds.kind import command

    fill(disk / "filler")
    images = whole("gvsl_seg_heart").cohort
    arguments = command("gvsl_seg_heart", "inference", dataset_dir=images, output_dir=disk / "out", patch_size=[48] * 3)
    ended = warm.run(arguments, ROOT, one_stream=True)
    assert ended.status > 0 and "No space left on device" in ended.output
    assert not [path for path in disk.rglob("*.nii.gz")]


def processes_of(mark: str) -> list[int]:
    """Processes that have a mark in their environment."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if mark.encode() in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:  # it has ended
            pass
    return found


def started(run: SmallRun, **overrides) -> subprocess.Popen:
    """The command as a process of its own, marked by its folder."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CAMPAIGN_RUN": str(run.folder)}
    quiet = subprocess.DEVNULL
    arguments = [sys.executable, *run.command(**overrides)]
    return subprocess.Popen(arguments, cwd=ROOT, env=environment, stdout=quiet, stderr=quiet)


def wait_for(condition: Callable[[], bool], seconds: float) -> bool:
    """Whether the condition comes true in this time."""
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    return condition()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("stage", ["phantoms", "training"])
def test_no_process_is_left(
    stage: str, number: int, whole: Callable[[str], SmallRun], tmp_path: Path, warm: WarmProcess
) -> None:
    """A run with worker processes, killed from outside while they work."""
    run = whole("gvsl_pretrain").in_folder(tmp_path, own_cohort=stage == "phantoms")
    process = started(run, num_workers=2, cohort__workers=2)
    expected = 3 if stage == "phantoms" else 4  # lines in training.csv are written while the loaders work
    begun = run.cohort / "images" if stage == "phantoms" else run.output / "training.csv"
    assert wait_for(lambda: begun.exists() and len(processes_of(str(tmp_path))) >= expected - 1, 120)
    process.send_signal(number)
    assert process.wait() == -number
    assert wait_for(lambda: not processes_of(str(tmp_path)), 20), "worker processes are left"
    check_continued(run, whole("gvsl_pretrain"), warm)


def test_two_runs_at_once(whole: Callable[[str], SmallRun], tmp_path: Path, warm: WarmProcess) -> None:
    run = whole("gvsl_pretrain").in_folder(tmp_path)
    first = started(run)
    assert wait_for(lambda: (run.output / ".running.json").exists() or first.poll() is not None, 120)
    second = run.start(warm)
    assert first.poll() is None, "the first run was over too early"
    assert second.status > 0
    assert f"process {first.pid}" in "\n".join(second.output.splitlines()[-4:])
    assert first.wait() == 0
    run.check_like(whole("gvsl_pretrain"))
