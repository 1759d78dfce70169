# SPDX-License-Identifier: Apache-2.0
"""Prepares a public data set: python -m tools.prepare_data mmwhs|asoca|candi|muse|stoic --source IN --output_dir OUT

A second run continues a stopped one. The exit status is 1 if some files cannot be used: unusable.csv says which and
why, and all other files are ready.
"""

from __future__ import annotations

import logging
import sys

from custom.preparation import (
    CANDI_CROP,
    PreparationReport,
    prepare_asoca,
    prepare_candi,
    prepare_mmwhs,
    prepare_muse,
    prepare_stoic,
)
from custom.running import run_tool


def finish(report: PreparationReport) -> None:
    """Prints how many files are ready; exits with status 1 if some cannot be used."""
    print(f"{len(report.ready)} cases ready in {report.output_dir}")
    if report.unusable:
        print(f"{len(report.unusable)} files cannot be used, see {report.path}", file=sys.stderr)
        sys.exit(1)


def mmwhs(source: str, output_dir: str, seed: int = 0, margin: float = 10.0, workers: int = 2) -> None:
    """MM-WHS 2017 CT as unpacked (ct_train_10NN_image.nii.gz, ct_train_10NN_label.nii.gz, ct_test_20NN_image.nii.gz).

    Args:
        source: folder of the files.
        output_dir: folder to write to; made if missing.
        seed: of the split.
        margin: mm around the heart.
        workers: number of processes.
    """
    finish(prepare_mmwhs(str(source), str(output_dir), seed, margin, workers))


def asoca(source: str, output_dir: str, seed: int = 0, margin: float = 20.0, workers: int = 2) -> None:
    """ASOCA 2020 as unpacked (Normal/CTCA/Normal_N.nrrd, Normal/Annotations/Normal_N.nrrd, Diseased, Testset_*).

    Args:
        source: folder that holds Normal, Diseased and the Testset folders.
        output_dir: folder to write to; made if missing.
        seed: of the split.
        margin: mm around the coronary arteries.
        workers: number of processes.
    """
    finish(prepare_asoca(str(source), str(output_dir), seed, margin, workers))


def candi(
    source: str, output_dir: str, seed: int = 0, crop: tuple[int, int, int] = CANDI_CROP, workers: int = 2
) -> None:
    """CANDI as unpacked (GROUP/NAME/NAME_procimg.nii.gz, NAME_seg.nii.gz; BPDwithPsy, BPDwithoutPsy, HC, SS).

    Args:
        source: folder of the groups.
        output_dir: folder to write to; made if missing.
        seed: of the split.
        crop: size in mm from left to right, back to front and bottom to top, such as 150,192,150.
        workers: number of processes.
    """
    finish(prepare_candi(str(source), str(output_dir), seed, crop, workers))


def muse(
    source: str,
    output_dir: str,
    seed: int = 0,
    skull: bool = True,
    stripped: bool = True,
    test_alone: bool = False,
    workers: int = 2,
) -> None:
    """T1 brain MR with labels of MUSE (NAME.nii.gz, NAME_DLMUSE.nii.gz) or Neuromorphometrics (images/, labels/).

    Args:
        source: folder of the files.
        output_dir: folder to write to; made if missing.
        seed: of the split.
        skull: write the images as they are.
        stripped: write the images without skull, besides or alone.
        test_alone: list every subject for the test, for an evaluation.
        workers: number of processes.
    """
    finish(prepare_muse(str(source), str(output_dir), seed, skull, stripped, test_alone, workers))


def stoic(source: str, output_dir: str, seed: int = 0, margin: float = 10.0, workers: int = 2) -> None:
    """STOIC 2021 as unpacked (data/mha/N.mha, metadata/reference.csv).

    Args:
        source: folder of data and metadata.
        output_dir: folder to write to; made if missing.
        seed: of the split.
        margin: mm around the lungs.
        workers: number of processes.
    """
    finish(prepare_stoic(str(source), str(output_dir), seed, margin, workers))


COMMANDS = {"mmwhs": mmwhs, "asoca": asoca, "candi": candi, "muse": muse, "stoic": stoic}

if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    run_tool(COMMANDS)
