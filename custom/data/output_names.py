# SPDX-License-Identifier: Apache-2.0
"""Names of the output files of volumes, one for each volume, and the output files that lie among the input."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from ..files import read_json
from ..volumes import Image, paths_of
from .names import case_path, stem

ARE_LABELS = "outputs_are_labels"  # key of a report: whether its outputs are label maps to train on
REPORTS = ("report.json", "registration.json")  # they list under "outputs" the files that a run writes beside them


def output_names(images: Sequence[Image], root: str | os.PathLike) -> list[str]:
    """A name for the output of each volume: its path below `root`, so that no two volumes have the same.

    The suffix (.nii.gz) is left out, except where two names would then be equal (case.mha, case.nii.gz). The step ".."
    of a path outside of `root` becomes "_". An image of several files has the name of its case: that of case_0000 and
    case_0001 is case.

    Args:
        images: paths of volumes, or of the channels of each.
        root: the folder that holds them, or the only volume.

    Returns:
        Names with "/" between folders, in the order of the volumes.

    Raises:
        ValueError: a volume is listed twice, or two paths differ only in ".." and "_".
    """
    paths = [paths_of(image) for image in images]
    whole = [_below(case_path(files) if len(files) > 1 else files[0], root) for files in paths]
    if repeated := _twice(whole):
        listed = " and ".join(files[0] for files, name in zip(paths, whole, strict=True) if name in repeated)
        raise ValueError(f"{root}: volumes with the same output file, expected each volume once: {listed}")
    names = [stem(name) for name in whole]
    while equal := _twice(names):  # a whole name may be equal to another name without its suffix
        names = [own if name in equal else name for name, own in zip(names, whole, strict=True)]
    return names


def earlier_outputs(folder: str | os.PathLike, but_labels: bool = False) -> set[str]:
    """Paths below a folder that the report of a run in this folder lists as its output.

    Args:
        folder: any folder. A file with the name of a report that is not one of ours lists nothing.
        but_labels: leave out the label maps that are there to be trained on, which `propagate.json` writes.
    """
    outputs: set[str] = set()
    for path in (Path(folder) / name for name in REPORTS):
        if path.is_file():
            with suppress(ValueError, TypeError):
                report = read_json(path)
                listed = [] if but_labels and report.get(ARE_LABELS) is True else report.get("outputs")
                outputs |= {os.path.normpath(entry) for entry in listed or [] if isinstance(entry, str)}
    return {path for path in outputs if not os.path.isabs(path) and path.split(os.sep)[0] != os.pardir}


def refuse_replacing_inputs(folder: str | os.PathLike, names: Iterable[str], inputs: Iterable[str]) -> None:
    """Raise an error if a run would write over one of its input files.

    Args:
        folder: output of the run.
        names: files below it that the run will write.
        inputs: paths of the files that the run will read.

    Raises:
        ValueError: an output file is an input file; the message names it.
    """
    read = {os.path.realpath(os.path.expanduser(path)) for path in inputs}
    for name in sorted(names):
        path = Path(folder) / name
        if os.path.realpath(path) in read:
            raise ValueError(f"{path} is an input file and would be an output file too, expected another output_dir")


def refuse_replacing_neighbours(
    folder: str | os.PathLike, names: Iterable[str], inputs: Iterable[str], earlier: Collection[str]
) -> None:
    """Raise an error if a run would replace a file beside its inputs that no earlier run wrote, such as a label map.

    Args:
        folder: output of the run.
        names: files below it that the run will write.
        inputs: paths of the files that the run will read.
        earlier: `earlier_outputs` of the folder.

    Raises:
        ValueError: there is such a file; the message names it.
    """
    of_the_data = {os.path.realpath(os.path.dirname(path)) for path in inputs}
    for name in sorted(names):
        path = Path(folder) / name
        if path.exists() and os.path.realpath(path.parent) in of_the_data and os.path.normpath(name) not in earlier:
            raise ValueError(f"{path} exists, and no earlier run wrote it, expected another output_dir")


def _below(image: str, root: str | os.PathLike) -> str:
    path, folder = os.path.abspath(os.path.expanduser(image)), os.path.abspath(os.path.expanduser(root))
    if path == folder:  # a single volume
        return os.path.basename(path)
    parts = Path(os.path.relpath(path, folder)).parts
    return "/".join("_" if part == os.pardir else part for part in parts)


def _twice(names: Sequence[str]) -> set[str]:
    return {name for name, count in Counter(names).items() if count > 1}
