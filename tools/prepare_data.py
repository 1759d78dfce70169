# SPDX-License-Identifier: Apache-2.0
"""Prepares a public data set: python -m tools.prepare_data mmwhs|asoca|candi|stoic --source FOLDER --output_dir DIR

Run it again to go on where it was stopped. The exit status is 1 where some files could not be used (unusable.csv says
which and why); the others are ready nevertheless.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence

import fire

from custom.preparation import (
    CANDI_CROP,
    PreparationReport,
    prepare_asoca,
    prepare_candi,
    prepare_mmwhs,
    prepare_stoic,
)


def finish(report: PreparationReport) -> None:
    """Says what became of the files; leaves with status 1 where some cannot be used."""
    print(f"{len(report.ready)} cases ready in {report.output_dir}")
    if report.unusable:
        print(f"{len(report.unusable)} files cannot be used, see {report.path}", file=sys.stderr)
        sys.exit(1)


def mmwhs(source: str, output_dir: str, seed: int = 0, margin: float = 10.0, workers: int = 2) -> None:
    """MM-WHS 2017 CT as unpacked (ct_train_10NN_image.nii.gz, ct_train_10NN_label.nii.gz, ct_test_20NN_image.nii.gz).

    Args:
        source: folder of the files. output_dir: made if missing. seed: of the split.
        margin: mm around the heart. workers: processes.
    """
    finish(prepare_mmwhs(str(source), str(output_dir), seed, margin, workers))


def asoca(source: str, output_dir: str, seed: int = 0, margin: float = 20.0, workers: int = 2) -> None:
    """ASOCA 2020 as unpacked (Normal/CTCA/Normal_N.nrrd, Normal/Annotations/Normal_N.nrrd, Diseased, Testset_*).

    Args:
        source: folder of these folders. output_dir: made if missing. seed: of the split.
        margin: mm around the coronary arteries. workers: processes.
    """
    finish(prepare_asoca(str(source), str(output_dir), seed, margin, workers))


def candi(
    source: str, output_dir: str, seed: int = 0, crop: tuple[int, int, int] = CANDI_CROP, workers: int = 2
) -> None:
    """CANDI as unpacked (GROUP/NAME/NAME_procimg.nii.gz, NAME_seg.nii.gz; BPDwithPsy, BPDwithoutPsy, HC, SS).

    Args:
        source: folder of the groups. output_dir: made if missing. seed: of the split.
        crop: mm to the right, front and top, as 150,192,150. workers: processes.
    """
    finish(prepare_candi(str(source), str(output_dir), seed, crop, workers))


def stoic(source: str, output_dir: str, seed: int = 0, margin: float = 10.0, workers: int = 2) -> None:
    """STOIC 2021 as unpacked (data/mha/N.mha, metadata/reference.csv).

    Args:
        source: folder of both. output_dir: made if missing. seed: of the split.
        margin: mm around the lungs. workers: processes.
    """
    finish(prepare_stoic(str(source), str(output_dir), seed, margin, workers))


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line, by default this process's."""
    try:
        fire.Fire({"mmwhs": mmwhs, "asoca": asoca, "candi": candi, "stoic": stoic}, arguments)
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    main()
