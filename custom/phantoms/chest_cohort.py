# SPDX-License-Identifier: Apache-2.0
"""The cohort of chest CTs for classification: half of the subjects have COVID-like opacities."""

from __future__ import annotations

from functools import partial

import numpy as np

from .chest import CHEST_LABELS, SEVERE, make_chest_subject, severity
from .cohort import PhantomCohort, SubjectFunction, subject_seed


class ChestPhantomCohort(PhantomCohort):
    """Chest CTs with and without disease: images/, masks/ (both lungs, 1) and dataset.json.

    The sizes of the lists training, validation and test in dataset.json have the ratio of the paper's lists (1000 :
    400 : 600). Each list holds as many patients as healthy subjects. An item has the keys "image", "mask", "label"
    (1 for a patient, else 0), "severe" (1 for a severe patient, else 0) and "subject".

    The arguments are those of `PhantomCohort`.

    Raises:
        ValueError: if `subjects` is odd or below 6 (two for each list).
    """

    VERSION = "1.0"  # raise it with every change of the drawing code that changes voxels
    PARTS = ("image", "mask")

    def __init__(self, root: str, subjects: int = 80, seed: int = 0, workers: int = 2) -> None:
        if subjects < 6 or subjects % 2:
            raise ValueError(f"need an even number of at least 6 subjects, half of them patients; got {subjects}.")
        generator = (make_chest_subject, "chest_ct_phantoms", "CT", self.VERSION, CHEST_LABELS)
        super().__init__(*generator, root, subjects, seed, workers)

    def is_patient(self, number: int) -> bool:
        """Whether the subject is a patient: of the subjects 2k and 2k + 1 the seed chooses one."""
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
