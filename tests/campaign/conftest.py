# SPDX-License-Identifier: Apache-2.0
"""The warm process that runs the campaign's commands, and the figure that it ends with."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from kinds.kind import ROOT
from warm import WarmProcess

WARM_UP = """
import sys
sys.path[0] = {root!r}
import inspect, itk, monai.bundle, torch._dynamo, torch.utils.tensorboard
import custom.engines, custom.handlers, custom.phantoms, custom.preparation, custom.registration
monai.bundle.ConfigParser({{"a": {{"_target_": "Compose"}}}}).get_parsed_content("a")  # imports all of MONAI
itk.GDCMImageIO, itk.GDCMSeriesFileNames, itk.imread, itk.imwrite  # loads these parts of ITK
inspect.stack()  # fire calls it: it lists the files of all modules
"""


@pytest.fixture(scope="session")
def warm() -> Iterator[WarmProcess]:
    """A process that has imported everything, with the environment of a user."""
    process = WarmProcess(os.environ | {"OMP_NUM_THREADS": "1"}, WARM_UP.format(root=str(ROOT)))
    yield process
    process.close()


def pytest_terminal_summary(terminalreporter) -> None:
    """N of N kinds, where kinds were tried."""
    reports = {status: terminalreporter.stats.get(status, []) for status in ("passed", "failed")}
    named, wrong = (
        sum("test_kinds.py::test_is_named" in report.nodeid and report.when == "call" for report in reports[status])
        for status in reports
    )
    if named + wrong:
        terminalreporter.write_line(
            f"campaign: {named} of {named + wrong} kinds of bad input named, exit non-zero, at most 10 lines"
        )
