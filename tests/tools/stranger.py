# SPDX-License-Identifier: Apache-2.0
"""Runs Python command lines for `zips.run_alone`, each in a fork of this process, which has imported MONAI once.

A line of standard input is a job: {"command", "folder", "output", "errors"}; the answer is its exit status. This file
is started by its path, so that the repository is not on Python's path; `-m` and `-c` put the folder of the job there,
as Python itself does.
"""

from __future__ import annotations

import json
import os
import runpy
import sys

import monai.bundle  # noqa: F401  takes seconds, which every process would need


def run(job: dict) -> None:
    os.chdir(job["folder"])
    for stream, name in ((1, "output"), (2, "errors")):
        os.dup2(os.open(job[name], os.O_WRONLY | os.O_CREAT, 0o600), stream)
    option, code, *arguments = job["command"]
    sys.path[0] = os.getcwd() if option == "-m" else ""
    sys.argv = [option, *arguments]
    if option == "-m":
        runpy.run_module(code, run_name="__main__", alter_sys=True)
    else:
        exec(compile(code, "<string>", "exec"), {"__name__": "__main__"})


for line in sys.stdin:
    child = os.fork()
    if child:
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
    else:
        run(json.loads(line))
        sys.exit()
