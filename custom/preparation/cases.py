# SPDX-License-Identifier: Apache-2.0
"""Preparation of many cases in processes: it can be resumed, shows its progress and reports unusable files."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ..data.errors import innermost, volume_error
from ..data.processes import in_processes
from ..files import read_json, remove_leftovers, write_csv, write_json
from ..volumes import volume_state


@dataclass(frozen=True)
class Case:
    """The files of one subject.

    Args:
        name: name of the subject.
        sources: key -> file of the data set.
        targets: key -> file to be written, relative to the output folder.
    """

    name: str
    sources: Mapping[str, str]
    targets: Mapping[str, str]

    def state(self) -> list[list[str | int]]:
        """Name, size and time of change of each source file, in JSON types."""
        return [list(entry) for path in self.sources.values() for entry in volume_state(path)]

    def is_done(self, output_dir: Path, prepared: Mapping[str, Any]) -> bool:
        """Whether all targets exist and were made from the present sources. They appear complete, none is half a file.

        Args:
            output_dir: the output folder.
            prepared: name -> `state` of the sources when the case was prepared.
        """
        made = all((output_dir / path).is_file() for path in self.targets.values())
        return made and prepared.get(self.name) == self.state()


@dataclass
class PreparationReport:
    """The result of a preparation.

    Args:
        output_dir: the output folder.
        ready: name -> case whose files are written, in the order of the cases.
        unusable: file of the data set -> reason why it cannot be used.
    """

    output_dir: Path
    ready: dict[str, Case] = field(default_factory=dict)
    unusable: dict[str, str] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        return self.output_dir / "unusable.csv"

    def write(self) -> None:
        """Write unusable.csv, which has no rows if all files can be used."""
        rows = [{"file": file, "reason": reason} for file, reason in self.unusable.items()]
        write_csv(self.path, rows, ["file", "reason"], "the table of unusable files")


PrepareCase = Callable[[Case, Path, Mapping[str, Any]], str | None]


def prepare_cases(
    cases: Sequence[Case],
    prepare: PrepareCase,
    output_dir: Path,
    parameters: Mapping[str, Any],
    workers: int,
    unusable: Mapping[str, str] | None = None,
) -> PreparationReport:
    """Call prepare(case, output_dir, parameters) for every case that is not done; continue after a bad volume.

    prepared.json holds the state of the sources of each case that is done: a case whose sources change is done again.
    Temporary files of a preparation that was killed are removed.

    Args:
        cases: all cases.
        prepare: function that writes the files of a case; it may return a remark, which is shown.
        output_dir: the output folder; it is made.
        parameters: settings of the preparation, in JSON types. They are written to preparation.json, and a folder
            with other settings is refused.
        workers: number of processes; with 0 or 1 this process does the work.
        unusable: files that are known to be unusable -> reason.

    Raises:
        ValueError: the folder was prepared with other parameters (the message has both), or no case can be used.
        OSError: a file cannot be written.
    """
    _check_parameters(output_dir / "preparation.json", parameters)
    targets = (output_dir / path for case in cases for path in case.targets.values())
    remove_leftovers(output_dir, *{path.parent for path in targets})
    table = output_dir / "prepared.json"
    prepared = read_json(table, "the sources of the prepared cases") if table.is_file() else {}
    done = {case.name: case for case in cases if case.is_done(output_dir, prepared)}
    report = PreparationReport(output_dir, done, dict(unusable or {}))
    missing = [case for case in cases if case.name not in done]
    states = {case.name: case.state() for case in missing}
    with tqdm(total=len(cases), initial=len(report.ready), desc="preparing", unit="case") as progress:
        tasks = [(prepare, case, output_dir, parameters) for case in missing]
        for index, (problem, remark) in in_processes(_guarded, tasks, workers):
            case = missing[index]
            if problem is None:
                report.ready[case.name] = case
                prepared[case.name] = states[case.name]
                write_json(table, prepared, "the sources of the prepared cases")
            else:
                report.unusable[case.sources["image"]] = problem
            if problem or remark:
                tqdm.write(f"{case.name}: {problem or remark}")
            progress.update()
    report.ready = {case.name: case for case in cases if case.name in report.ready}
    report.write()
    if not report.ready:
        raise ValueError(f"none of the {len(cases)} cases can be used, see {report.path}")
    return report


def _guarded(prepare: PrepareCase, case: Case, output_dir: Path, parameters: Mapping) -> tuple[str | None, str | None]:
    """(problem, None) if a volume cannot be used, otherwise (None, remark). Other errors are raised."""
    try:
        return None, prepare(case, output_dir, parameters)
    except Exception as error:
        cause, inner = volume_error(error), innermost(error)
        if cause is None and not isinstance(inner, (MemoryError, RuntimeError)):
            raise
        return str(cause or f"{type(inner).__name__}: {inner}"), None


def _check_parameters(path: Path, parameters: Mapping[str, Any]) -> None:
    if path.is_file():
        earlier = read_json(path, "the settings of an earlier preparation")
        if earlier != dict(parameters):
            raise ValueError(
                f"{path} says {earlier}, expected {dict(parameters)}: give another output_dir or remove it"
            )
    else:
        write_json(path, parameters, "the settings of the preparation")


def name_taken(name: str, by: str) -> str:
    """Why a volume is left out whose name another volume has."""
    return f"the name {name} is taken by {by}"


def existing_folder(source: str | os.PathLike) -> Path:
    """The path of a folder that exists.

    Raises:
        FileNotFoundError: it does not exist, or it is a file.
    """
    path = Path(source).expanduser()
    if not path.is_dir():
        raise FileNotFoundError(f"source {str(source)!r} is no folder, expected the unpacked data set")
    return path
