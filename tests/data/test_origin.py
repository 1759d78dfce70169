# SPDX-License-Identifier: Apache-2.0
"""Phantoms are recognised by their cohort, not by what a config says."""

from functools import partial

import numpy as np

from custom.data.origin import trained_on
from custom.handlers.model_export import describe_run
from custom.phantoms import PhantomCohort


def draw(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return np.full((2, 3, 4), seed % 7, np.int16), np.ones((2, 3, 4), np.uint8), np.eye(4)


def test_phantoms_files_and_both(tmp_path):
    cohort = PhantomCohort(partial(draw), "drawn", "CT", "1", {"heart": 1}, tmp_path / "cohort", 2, workers=0)
    phantoms = [{"image": f"{cohort.make()}/{cohort.files(number)['image']}"} for number in range(2)]
    file = {"image": str(tmp_path / "images" / "a.nii.gz")}
    assert trained_on(phantoms) == "synthetic"
    assert describe_run({}, {}, phantoms, 0, "CC0")["trained_on"] == "synthetic"
    assert trained_on([file]) == trained_on([*phantoms, file]) == trained_on([]) == "files"
