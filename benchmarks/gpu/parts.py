# SPDX-License-Identifier: Apache-2.0
"""The parts of the measurement. Each is a command of its own: a part that fails or hangs leaves the others."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.bundles import BUNDLES, ROOT
from custom.files import read_json

LINES = 12  # of the log of a part that failed


@dataclass(frozen=True)
class Part:
    """A command.

    Attributes:
        name: key of its result.
        arguments: what follows `python`. "{output}" stands for the file of its result.
        seconds: after which it is stopped.
    """

    name: str
    arguments: tuple[str, ...]
    seconds: float


def parts(tiny: bool, cuda: bool) -> Iterator[Part]:
    """All parts in the order in which they run, the cheap and the most wanted first.

    Args:
        tiny: sizes for a test on a CPU.
        cuda: whether there is a GPU; without one the marked tests are only collected.
    """
    size = ("--tiny",) if tiny else ()
    output = ("--output", "{output}", *size)
    collected = () if cuda else ("--collect-only",)
    seconds = 160 if tiny else 40  # other tests may share the CPU
    for bundle in sorted(path.name for path in BUNDLES.iterdir()):
        yield Part(f"steps of {bundle}", ("-m", "benchmarks.gpu.steps", "--bundle", bundle, *output), seconds)
    yield Part("paper.json", ("-m", "benchmarks.gpu.runs", "paper", *output), 90)
    yield Part("tests", ("-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "gpu", *collected), 60)
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2")
    yield Part("two processes", (*launcher, "-m", "benchmarks.gpu.runs", "processes", *output), 60)
    yield Part("default run", ("-m", "benchmarks.gpu.runs", "default", *output), 120)


def run_part(part: Part, folder: Path, seconds_left: float) -> dict[str, Any]:
    """Run a part.

    Args:
        part: the command.
        folder: for its log and its result; it is made.
        seconds_left: of the whole measurement; the part is stopped then at the latest.

    Returns:
        "command", "seconds", "status" ("done", or why not), the "result" that it wrote, also before it was stopped, and
        the last lines of its log: one, or several where it was not done.
    """
    folder.mkdir(parents=True, exist_ok=True)
    output, log = folder / "result.json", folder / "log.txt"
    output.unlink(missing_ok=True)  # of an earlier measurement in this folder
    arguments = [argument.replace("{output}", str(output)) for argument in part.arguments]
    found: dict[str, Any] = {"command": " ".join(["python", *part.arguments])}
    limit = min(part.seconds, seconds_left)
    if limit <= 0:
        return found | {"seconds": 0.0, "status": "left out, because no time was left"}
    start = time.perf_counter()
    status = _run([sys.executable, *arguments], log, limit)
    found |= {"seconds": round(time.perf_counter() - start, 1), "status": status}
    if output.is_file():
        found["result"] = read_json(output, "the result of a part")
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return found | {"last_lines": lines[-1 if status == "done" else -LINES :]}


def _run(command: list[str], log: Path, seconds: float) -> str:
    """Run a command and all that it starts for so many seconds at most; say how it ended."""
    with log.open("w", encoding="utf-8") as file:
        process = subprocess.Popen(command, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            return f"stopped after {seconds:.0f} s"
        finally:
            _end_session(process)
    return "done" if code == 0 else f"failed with exit status {code}"


def _end_session(process: subprocess.Popen) -> None:
    """End the processes of a session, also those that its leader left."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()
