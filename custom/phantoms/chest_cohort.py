# SPDX-License-Identifier: Apache-2.0
"""The chest CT cohort for classification: half of the subjects with COVID-like opacities, split like the paper's."""

from __future__ import annotations

from functools import partial

import numpy as np

from .chest import CHEST_LABELS, SEVERE, make_chest_subject, severity
from .cohort import PhantomCohort, SubjectFunction, subject_seed

__all__ = ["ChestPhantomCohort"]


class ChestPhantomCohort(PhantomCohort):
    """Chest CTs with and without disease: images/, masks/ (both lungs, 1) and dataset.json.

    The lists training, validation and test of dataset.json stand to each other as the paper's (1000, 400 and 600) and
    hold as many patients as healthy subjects each. Items: {"image", "mask", "label": 0 or 1, "severe": 0 or 1,
    "subject"}; severe is 0 for the healthy.

    Args:
        root, subjects, seed, workers: see PhantomCohort.

    Raises:
        ValueError: if `subjects` is odd or below 6 (two for each list).
    """

    VERSION = "1.0"  # raise it with every change of the drawing that changes voxels
    PARTS = ("image", "mask")

    def __init__(self, root: str, subjects: int = 80, seed: int = 0, workers: int = 2) -> None:
        if subjects < 6 or subjects % 2:
            raise ValueError(f"need an even number of at least 6 subjects, half of them patients; got {subjects}.")
        super().__init__(
            make_subject=make_chest_subject,
            name="chest_ct_phantoms",
            modality="CT",
            version=self.VERSION,
            labels=CHEST_LABELS,
            root=root,
            subjects=subjects,
            seed=seed,
            workers=workers,
        )

    def is_patient(self, number: int) -> bool:
        """One of the subjects 2k and 2k + 1, whichever the seed says."""
        return bool((number + np.random.default_rng([self.seed, number // 2]).integers(2)) % 2)

    def subject_function(self, number: int) -> SubjectFunction:
        return partial(self.make_subject, diseased=self.is_patient(number))

    def item(self, number: int) -> dict:
        """Entry of a subject in dataset.json."""
        patient = self.is_patient(number)
        severe = patient and severity(subject_seed(self.seed, number)) >= SEVERE
        names = {"label": int(patient), "severe": int(severe), "subject": f"phantom_{number:03d}"}
        return self.files(number) | names

    def description(self) -> dict:
        pairs = self.subjects // 2
        validation, test = max(1, round(0.2 * pairs)), max(1, round(0.3 * pairs))
        ends = [2 * (pairs - validation - test), 2 * (pairs - test), self.subjects]
        return super().description() | {
            "labels": {"0": "no COVID-19", "1": "COVID-19"},
            "numTraining": ends[0],
            "numValidation": ends[1] - ends[0],
            "numTest": ends[2] - ends[1],
            "training": [self.item(number) for number in range(ends[0])],
            "validation": [self.item(number) for number in range(ends[0], ends[1])],
            "test": [self.item(number) for number in range(ends[1], ends[2])],
        }
