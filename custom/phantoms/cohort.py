# SPDX-License-Identifier: Apache-2.0
"""Cohorts of synthetic subjects in a folder: NIfTI images, label maps and a dataset.json as in the Decathlon."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from filelock import FileLock
from tqdm import tqdm

from ..data.origin import PHANTOM_MANIFEST
from ..data.processes import in_processes
from ..files import TEMPORARY_PREFIX, read_json, write_text
from ..volumes import write_volume

logger = logging.getLogger(__name__)

SubjectFunction = Callable[[int], tuple[np.ndarray, np.ndarray, np.ndarray]]


class PhantomCohort:
    """A cohort of phantoms below `root`: images/phantom_000.nii.gz, labels/phantom_000.nii.gz, dataset.json.

    The names of the two folders follow from `PARTS`. Every bit of a subject's files depends on the seed, the number
    of the subject and the version of the generator only, not on the number of subjects or workers. The constructor
    writes nothing.

    Args:
        make_subject: function from a seed to (image, label, affine) that worker processes can import.
        name: name of the cohort in dataset.json.
        modality: "CT" or "MR", for dataset.json.
        version: version of the generator; a cohort of another version is moved away.
        labels: structure -> value in the label map, without background.
        root: the folder; it is made.
        subjects: number of subjects.
        seed: seed of the whole cohort.
        workers: processes that make subjects; with 0 or 1 this process makes them.

    Raises:
        ValueError: `subjects` is below 1, or `workers` or `seed` is negative.
    """

    PARTS = ("image", "label")

    def __init__(
        self,
        make_subject: SubjectFunction,
        name: str,
        modality: str,
        version: str,
        labels: Mapping[str, int],
        root: str,
        subjects: int = 24,
        seed: int = 0,
        workers: int = 2,
    ) -> None:
        if subjects < 1 or workers < 0 or seed < 0:
            raise ValueError(f"need subjects >= 1, workers >= 0, seed >= 0; got {subjects}, {workers}, {seed}.")
        self.make_subject = make_subject
        self.name, self.modality, self.version, self.labels = name, modality, version, dict(labels)
        self.root, self.subjects, self.seed, self.workers = Path(root), subjects, seed, workers

    @property
    def identity(self) -> dict:
        """The entries of dataset.json that must be equal if a folder holds this cohort."""
        return {"name": self.name, "generator": self.version, "seed": self.seed, "subjects": self.subjects}

    def make(self) -> str:
        """Write the files that do not exist yet.

        Files appear complete, dataset.json last; a later call continues the work of a run that was killed. Processes
        that call this at the same time wait for the first one. Files that another version of the generator made in
        this folder are moved to a folder NAME_VERSION beside it.

        Returns:
            `root`.

        Raises:
            ValueError: the folder is for another cohort; the message names both.
            OSError: a file cannot be written.
        """
        if not self._is_outdated() and self._is_complete():
            return str(self.root)
        self.root.mkdir(parents=True, exist_ok=True)
        with FileLock(self.root / ".phantom_cohort.lock"):
            if self._is_outdated():
                self._set_aside()
            if self._is_complete():
                return str(self.root)
            self._check(self.root / PHANTOM_MANIFEST)
            manifest = json.dumps(self.identity, indent=2)
            write_text(self.root / PHANTOM_MANIFEST, manifest, "the manifest of the cohort")
            for temporary in list(self.root.rglob(f"{TEMPORARY_PREFIX}*")):  # of a run that was killed
                temporary.unlink()
            self._write_subjects()
            description = json.dumps(self.description(), indent=2)
            write_text(self.root / "dataset.json", description, "the description of the cohort")
        return str(self.root)

    def description(self) -> dict:
        """The content of dataset.json (Decathlon layout)."""
        return self.identity | {
            "description": "synthetic phantoms, no patients",
            "tensorImageSize": "3D",
            "modality": {"0": self.modality},
            "labels": {"0": "background"} | {str(value): name for name, value in self.labels.items()},
            "numTraining": self.subjects,
            "numTest": 0,
            "training": [self.files(number) for number in range(self.subjects)],
            "test": [],
        }

    def files(self, number: int) -> dict[str, str]:
        """Part -> path below the root of the files of a subject."""
        return {part: f"./{part}s/phantom_{number:03d}.nii.gz" for part in self.PARTS}

    def subject_function(self, number: int) -> SubjectFunction:
        """The function that makes a subject from its seed; `make_subject` unless a subclass overrides this method."""
        return self.make_subject

    def _is_complete(self) -> bool:
        self._check(self.root / "dataset.json")
        listed = (self.root / path for number in range(self.subjects) for path in self.files(number).values())
        return (self.root / "dataset.json").exists() and all(path.exists() for path in listed)

    def _is_outdated(self) -> bool:
        """Whether the manifest names this cohort with another version of the generator."""
        read = self._read_identity(self.root / PHANTOM_MANIFEST)
        return read is not None and read != self.identity and read | {"generator": self.version} == self.identity

    def _set_aside(self) -> None:
        """Move the files of another version, the manifest last, so that a later call continues after a kill."""
        manifest = self.root / PHANTOM_MANIFEST
        name = f"{self.root.name}_{self._read_identity(manifest)['generator']}"
        while self.root.with_name(name).exists():  # from an earlier change of the version
            name += "_"
        self.root.with_name(name).mkdir()
        for entry in ("dataset.json", *(f"{part}s" for part in self.PARTS), manifest.name):
            if (self.root / entry).exists():
                os.replace(self.root / entry, self.root.with_name(name) / entry)
        logger.warning(f"moved the cohort of another generator version from {self.root} to {self.root.with_name(name)}")

    def _read_identity(self, path: Path) -> dict | None:
        """The entries of `identity` in a file, or None without the file."""
        if not path.exists():
            return None
        content = read_json(path, "the description of a phantom cohort (remove the file to make the cohort again)")
        return {key: content.get(key) for key in self.identity}

    def _check(self, path: Path) -> None:
        """Raise an error if the file exists and describes another cohort."""
        read = self._read_identity(path)
        if read is not None and read != self.identity:
            raise ValueError(
                f"{path} describes another cohort: found {read}, expected {self.identity}. "
                "Give another folder, or remove this one."
            )

    def _write_subjects(self) -> None:
        tasks = []
        for number in range(self.subjects):
            files = [self.root / path for path in self.files(number).values()]
            if not all(path.exists() for path in files):
                tasks.append((self.subject_function(number), subject_seed(self.seed, number), *files))
        with tqdm(total=self.subjects, initial=self.subjects - len(tasks), desc=f"making {self.name}") as progress:
            for _ in in_processes(write_subject, tasks, self.workers):
                progress.update()


def subject_seed(seed: int, number: int) -> int:
    """The seed of the subject with this number in the cohort with this seed."""
    return int(np.random.SeedSequence([seed, number]).generate_state(1, np.uint64)[0])


def write_subject(make_subject: SubjectFunction, seed: int, image_path: Path, label_path: Path) -> None:
    """Make one subject and write its two files."""
    image, label, affine = make_subject(seed)
    write_volume(image_path, image, affine)
    write_volume(label_path, label, affine)
