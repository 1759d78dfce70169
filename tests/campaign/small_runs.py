# SPDX-License-Identifier: Apache-2.0
"""Small training runs on phantoms that are stopped and continued, and the comparison with one that was left alone."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kinds.kind import ROOT, command
from warm import Ended, WarmProcess

TABLES = ("training.csv", "validation.csv")
SMALL = {
    "channels": [8, 16],
    "patch_size": [16, 16, 16],
    "max_epochs": 3,
    "iterations_per_epoch": 2,
    "val_interval": 1,
    "num_workers": 0,
    "resume": True,
    "cohort__workers": 0,
}
BUNDLES: dict[str, tuple[str, dict[str, Any]]] = {  # name -> overlays, further overrides
    "gvsl_pretrain": ("train", {"cohort__subjects": 4, "validation_pairs": 2}),
    "gvsl_seg_heart": ("train scratch", {"cohort__subjects": 3, "validation_share": 1, "test_share": 1}),
}


@dataclass(frozen=True)
class SmallRun:
    """
    A training run of a bundle.

    Attributes:
        bundle: name, a key of `BUNDLES`.
        folder: of output/ and cache/.
        cohort: folder of the phantoms.
    """

    bundle: str
    folder: Path
    cohort: Path

    @property
    def output(self) -> Path:
        return self.folder / "output"

    def command(self, **overrides: Any) -> list[str]:
        """The command after `python`; the same one starts and continues the run."""
        files, own = BUNDLES[self.bundle]
        places = {"output_dir": self.output, "cache_dir": self.folder / "cache"}
        places |= {"dataset_dir": self.cohort, "cohort__root": self.cohort}
        return command(self.bundle, files, **SMALL | own | places | overrides)

    def start(self, warm: WarmProcess, *fault: Any, **overrides: Any) -> Ended:
        """Runs the command; with arguments of `faults.run` something happens to it."""
        arguments = self.command(**overrides)
        if fault:
            code = (
                f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import faults; faults.run(*{fault!r})"
            )
            arguments = ["-c", code, *arguments[2:]]
        return warm.run(arguments, ROOT, one_stream=True)

    def in_folder(self, folder: Path, own_cohort: bool = False) -> SmallRun:
        """The same run in another folder."""
        return replace(self, folder=folder, cohort=folder / "cohort" if own_cohort else self.cohort)

    def check_like(self, whole: SmallRun) -> None:
        """Tables and weights are those of another run, byte for byte, and nothing temporary is left."""
        for name in (*TABLES, "model.pt"):
            assert (self.output / name).read_bytes() == (whole.output / name).read_bytes(), name
        left = [str(path) for root in (self.folder, self.cohort) for path in root.rglob(".tmp.*")]
        assert left == []


def finished(warm: WarmProcess, bundle: str, folder: Path) -> SmallRun:
    """A run that was left alone."""
    run = SmallRun(bundle, folder, folder / "cohort")
    ended = run.start(warm)
    assert ended.status == 0, ended.output[-3000:]
    shutil.rmtree(folder / "cache")
    return run
