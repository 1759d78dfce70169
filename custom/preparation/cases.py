# SPDX-License-Identifier: Apache-2.0
"""Many cases in parallel processes: resumable, with a progress bar and a report of those that cannot be used."""

from __future__ import annotations

import csv
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from ..data.cache import innermost, volume_error
from ..files import read_json, write_json
from ..phantoms.cohort import start_method

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Case:
    """One subject: its name, its files in the source, and the files to be made below the output folder."""

    name: str
    sources: Mapping[str, str]
    targets: Mapping[str, str]

    def is_done(self, output_dir: Path) -> bool:
        """Whether all files are there; they appear whole or not at all."""
        return all((output_dir / path).is_file() for path in self.targets.values())


@dataclass
class PreparationReport:
    """What became of the cases: names that are ready, and file -> reason of what cannot be used."""

    output_dir: Path
    ready: list[str] = field(default_factory=list)
    unusable: dict[str, str] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        return self.output_dir / "unusable.csv"

    def write(self) -> None:
        """unusable.csv; a file without rows where all is well."""
        with self.path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["file", "reason"])
            writer.writerows(self.unusable.items())


PrepareCase = Callable[[Case, Path, Mapping[str, Any]], str | None]


def prepare_cases(
    cases: Sequence[Case],
    prepare: PrepareCase,
    output_dir: Path,
    parameters: Mapping[str, Any],
    workers: int,
    unusable: Mapping[str, str] | None = None,
) -> PreparationReport:
    """Calls prepare(case, output_dir, parameters) for every case that is not done and goes on after a bad one.

    Args:
        prepare: writes the case's files and may return a remark, which is logged.
        parameters: kept in preparation.json, so that a folder holds files of one kind.
        workers: processes; with 0 or 1 all is done in this one.
        unusable: what was found before.

    Raises:
        ValueError: the folder was prepared with other parameters (names both), or no case can be used.
    """
    output_dir.mkdir(parents=True, exist_ok=True)
    _check_parameters(output_dir / "preparation.json", parameters)
    report = PreparationReport(
        output_dir, [case.name for case in cases if case.is_done(output_dir)], dict(unusable or {})
    )
    missing = [case for case in cases if not case.is_done(output_dir)]
    with tqdm(total=len(cases), initial=len(report.ready), desc="preparing", unit="case") as progress:

        def finished(case: Case, result: tuple[str | None, str | None]) -> None:
            problem, remark = result
            if problem is None:
                report.ready.append(case.name)
            else:
                report.unusable[case.sources["image"]] = problem
            if problem or remark:
                tqdm.write(f"{case.name}: {problem or remark}")
            progress.update()

        if workers < 2 or len(missing) < 2:
            for case in missing:
                finished(case, _guarded(prepare, case, output_dir, parameters))
        else:
            # one thread, because a forked child would wait for threads of torch that it does not have
            pool = ProcessPoolExecutor(min(workers, len(missing)), start_method(), torch.set_num_threads, (1,))
            _collect(
                pool, {pool.submit(_guarded, prepare, case, output_dir, parameters): case for case in missing}, finished
            )
    report.write()
    if not report.ready:
        raise ValueError(f"none of the {len(cases)} cases can be used, see {report.path}")
    return report


def _collect(pool: Executor, submitted: Mapping[Future, Case], finished: Callable) -> None:
    try:
        for done in as_completed(submitted):
            finished(submitted[done], done.result())
    finally:  # after an error or an interrupt, do not make the rest first
        pool.shutdown(cancel_futures=True)


def _guarded(prepare: PrepareCase, case: Case, output_dir: Path, parameters: Mapping) -> tuple[str | None, str | None]:
    """(problem, None) where a volume cannot be used, else (None, remark); other errors are errors of the program."""
    try:
        return None, prepare(case, output_dir, parameters)
    except Exception as error:
        found = volume_error(error)
        if found is None and not isinstance(innermost(error), (MemoryError, RuntimeError)):
            raise
        return str(found or f"{type(innermost(error)).__name__}: {innermost(error)}"), None


def _check_parameters(path: Path, parameters: Mapping[str, Any]) -> None:
    if path.is_file():
        found = read_json(path)
        if found != dict(parameters):
            raise ValueError(f"{path} says {found}, expected {dict(parameters)}: give another output_dir or remove it")
    else:
        write_json(path, parameters)


def existing_folder(source: str | os.PathLike) -> Path:
    """The folder as a path.

    Raises:
        FileNotFoundError: no such folder.
    """
    path = Path(source).expanduser()
    if not path.is_dir():
        raise FileNotFoundError(f"source {str(source)!r} is no folder, expected the unpacked data set")
    return path
