# SPDX-License-Identifier: Apache-2.0
"""python -m benchmarks.gpu: tests, step times, memory, two runs and two processes on a GPU, in one JSON file."""

from custom.running import run_tool

from .report import report

if __name__ == "__main__":
    run_tool(report)
