# SPDX-License-Identifier: Apache-2.0
"""Writes a cohort of synthetic subjects to a folder, once: NIfTI images, label maps and a Decathlon dataset.json."""

from __future__ import annotations

import gzip
import json
import logging
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_all_start_methods, get_context
from multiprocessing.context import BaseContext
from pathlib import Path

import nibabel as nib
import numpy as np
from filelock import FileLock
from tqdm import tqdm

from ..labels import CARDIAC_LABELS
from .cardiac import make_cardiac_subject

__all__ = ["CardiacPhantomCohort", "PhantomCohort"]

logger = logging.getLogger(__name__)

SubjectFunction = Callable[[int], tuple[np.ndarray, np.ndarray, np.ndarray]]


class PhantomCohort:
    """Makes `subjects` phantoms below `root`: images/phantom_000.nii.gz, labels/phantom_000.nii.gz, dataset.json.

    The two files of a subject lie in folders that are named after `PARTS`.

    A subject's files depend on the seed, its number and the generator version only, bit by bit: not on the number
    of subjects or workers. Constructing the object writes nothing.

    Args:
        make_subject: top-level function from a seed to (image, label, affine); it must be importable by workers.
        name, modality: for dataset.json.
        version: version of the generator; a cohort that another version made is set aside.
        labels: structure name to label value, without background.
        root: folder to write to; made if it is missing.
        subjects: number of subjects.
        seed: of the whole cohort.
        workers: processes that make subjects; with 0 or 1 they are made in this process.

    Raises:
        ValueError: if `subjects` is below 1 or `workers` or `seed` is negative.
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
        """What must agree for a folder to hold this very cohort."""
        return {"name": self.name, "generator": self.version, "seed": self.seed, "subjects": self.subjects}

    def make(self) -> str:
        """Write what is missing and return `root`.

        Returns at once if the cohort is there. Files appear whole or not at all, dataset.json last, so that a run
        that was killed goes on where it stopped; processes that call this together wait for the first one. What
        another version of the generator made in this folder is moved next to it, to NAME_VERSION.

        Raises:
            ValueError: if the folder holds, or was begun for, another cohort (both are named).
        """
        if not self._is_outdated() and self._is_complete():
            return str(self.root)
        self.root.mkdir(parents=True, exist_ok=True)
        with FileLock(self.root / ".phantom_cohort.lock"):
            if self._is_outdated():
                self._set_aside()
            if self._is_complete():
                return str(self.root)
            self._check(self.root / ".phantom_cohort.json")
            _write_whole(self.root / ".phantom_cohort.json", json.dumps(self.identity, indent=2).encode())
            for part in self.PARTS:
                (self.root / f"{part}s").mkdir(exist_ok=True)
                for leftover in (self.root / f"{part}s").glob("*.tmp"):  # of a run that was killed
                    leftover.unlink()
            self._write_subjects()
            _write_whole(self.root / "dataset.json", json.dumps(self.description(), indent=2).encode())
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
        """What makes the subject `number` from its seed; the same for all subjects unless a subclass says otherwise."""
        return self.make_subject

    def _is_complete(self) -> bool:
        self._check(self.root / "dataset.json")
        listed = (self.root / path for number in range(self.subjects) for path in self.files(number).values())
        return (self.root / "dataset.json").exists() and all(path.exists() for path in listed)

    def _is_outdated(self) -> bool:
        """Whether the manifest says that another version of the generator made, or began, this cohort."""
        found = self._found(self.root / ".phantom_cohort.json")
        return found is not None and found != self.identity and found | {"generator": self.version} == self.identity

    def _set_aside(self) -> None:
        """Moves what another version made, the manifest last, so that a run that was killed goes on with it."""
        manifest = self.root / ".phantom_cohort.json"
        name = f"{self.root.name}_{self._found(manifest)['generator']}"
        while self.root.with_name(name).exists():  # of an earlier change of versions
            name += "_"
        self.root.with_name(name).mkdir()
        for entry in ("dataset.json", *(f"{part}s" for part in self.PARTS), manifest.name):
            if (self.root / entry).exists():
                os.replace(self.root / entry, self.root.with_name(name) / entry)
        logger.warning(f"moved the cohort of another generator version from {self.root} to {self.root.with_name(name)}")

    def _found(self, path: Path) -> dict | None:
        """What a description says of the identity, or None without the file."""
        if not path.exists():
            return None
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{path} is not valid JSON ({error}); remove it to make the cohort again.") from error
        return {key: found.get(key) for key in self.identity}

    def _check(self, path: Path) -> None:
        """Raise if the file exists and describes another cohort."""
        found = self._found(path)
        if found is not None and found != self.identity:
            raise ValueError(
                f"{path} describes another cohort: found {found}, expected {self.identity}. "
                "Give another folder, or remove this one."
            )

    def _write_subjects(self) -> None:
        tasks = []
        for number in range(self.subjects):
            files = [self.root / path for path in self.files(number).values()]
            if not all(path.exists() for path in files):
                tasks.append((self.subject_function(number), subject_seed(self.seed, number), *files))
        with tqdm(total=self.subjects, initial=self.subjects - len(tasks), desc=f"making {self.name}") as progress:
            if self.workers < 2 or len(tasks) < 2:
                for task in tasks:
                    write_subject(*task)
                    progress.update()
                return
            pool = ProcessPoolExecutor(min(self.workers, len(tasks)), mp_context=start_method())
            try:
                for done in as_completed([pool.submit(write_subject, *task) for task in tasks]):
                    done.result()
                    progress.update()
            finally:  # after an error or an interrupt, do not make the rest first
                pool.shutdown(cancel_futures=True)


class CardiacPhantomCohort(PhantomCohort):
    """The cardiac CT angiography cohort: contrast chest CTs with the seven MM-WHS structures.

    Args:
        root, subjects, seed, workers: see PhantomCohort.
    """

    VERSION = "1.0"  # raise it with every change of the drawing that changes voxels

    def __init__(self, root: str, subjects: int = 24, seed: int = 0, workers: int = 2) -> None:
        super().__init__(
            make_subject=make_cardiac_subject,
            name="cardiac_cta_phantoms",
            modality="CT",
            version=self.VERSION,
            labels=CARDIAC_LABELS,
            root=root,
            subjects=subjects,
            seed=seed,
            workers=workers,
        )


def start_method() -> BaseContext:
    """Fork where there is one: spawned workers import the caller's script, which would make the cohort once more."""
    return get_context("fork" if "fork" in get_all_start_methods() else "spawn")


def subject_seed(seed: int, number: int) -> int:
    """Seed of subject `number` of the cohort with seed `seed`."""
    return int(np.random.SeedSequence([seed, number]).generate_state(1, np.uint64)[0])


def write_subject(make_subject: SubjectFunction, seed: int, image_path: Path, label_path: Path) -> None:
    """Make one subject and write its two files, each under a temporary name first."""
    image, label, affine = make_subject(seed)
    for path, volume in ((image_path, image), (label_path, label)):
        nifti = nib.Nifti1Image(volume, affine)
        nifti.header.set_xyzt_units("mm")
        nifti.set_qform(affine, code=1)
        nifti.set_sform(affine, code=1)
        _write_whole(path, gzip.compress(nifti.to_bytes(), compresslevel=1, mtime=0))


def _write_whole(path: Path, content: bytes) -> None:
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    temporary.write_bytes(content)
    os.replace(temporary, path)
