# SPDX-License-Identifier: Apache-2.0
"""Python command lines, each in a fork of a process that has imported MONAI once.

An import of MONAI takes seconds; a fork of a process that has done it takes milliseconds. The process is this file,
started by its path: Python's path then holds neither the repository nor the folder of a command; `-m` and `-c` put the
folder of the command there, as Python itself does.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Ended:
    """A command that is over: exit status (-N after signal N), its two streams, and its seconds of processor time."""

    status: int
    output: str
    errors: str
    seconds: float


class WarmProcess:
    """Runs commands one after another.

    Args:
        environment: environment variables of the process and of all commands.
        prepare: Python code that the process runs once, such as further imports.
    """

    def __init__(self, environment: Mapping[str, str], prepare: str = "import monai.bundle") -> None:
        self.process = subprocess.Popen(
            [sys.executable, __file__, prepare],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
        )

    def run(self, command: Sequence[str], folder: Path, one_stream: bool = False, limit: int = 600) -> Ended:
        """
        Run a command to its end.

        Args:
            command: `-m MODULE argument ...` or `-c CODE argument ...`.
            folder: working directory.
            one_stream: both streams, in their order as on a screen, become `output`.
            limit: seconds after which the command is killed.
        """
        with tempfile.TemporaryDirectory() as temporary:
            output = Path(temporary, "output")
            errors = output if one_stream else Path(temporary, "errors")
            job = {"command": list(command), "folder": str(folder), "output": str(output), "errors": str(errors)}
            print(json.dumps(job | {"limit": limit}), file=self.process.stdin, flush=True)
            status, seconds = self.process.stdout.readline().split()
            read = [path.read_text(encoding="utf-8", errors="replace") for path in (output, errors)]
        return Ended(int(status), read[0], "" if one_stream else read[1], float(seconds))

    def close(self) -> None:
        """Ends the process."""
        self.process.communicate()


def _run(job: dict) -> None:
    os.chdir(job["folder"])
    signal.alarm(job["limit"])
    for stream, name in ((1, "output"), (2, "errors")):
        os.dup2(os.open(job[name], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), stream)
    option, code, *arguments = job["command"]
    sys.path[0] = os.getcwd() if option == "-m" else ""
    sys.argv = [option, *arguments]
    if option == "-m":
        runpy.run_module(code, run_name="__main__", alter_sys=True)
    else:
        exec(compile(code, "<string>", "exec"), {"__name__": "__main__"})


def _status(job: dict) -> int:
    """Runs the command of a job in this process, a fork; gives its exit status as Python would."""
    try:
        _run(job)
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        print(end.code, file=sys.stderr)
        return 1
    except BaseException:
        sys.excepthook(*sys.exc_info())
        return 1
    return 0


def _serve() -> None:
    """Runs the jobs on standard input, a line each; the answer is exit status and seconds of processor time."""
    gc.freeze()  # a fork would copy what the collector touches
    for line in sys.stdin:
        child = os.fork()
        if child:
            _, status, usage = os.wait4(child, 0)
            print(os.waitstatus_to_exitcode(status), usage.ru_utime + usage.ru_stime, flush=True)
            continue
        status = _status(json.loads(line))
        threading._shutdown()
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)  # the end of the interpreter would free, and so copy, all modules


if __name__ == "__main__":
    exec(sys.argv[1], {})
    _serve()
