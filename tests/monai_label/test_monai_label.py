# SPDX-License-Identifier: Apache-2.0
"""All bundles in a real MONAI Label server: info, label maps; gvsl_seg_heart: submitted labels, training too.

`python -m pytest -m monailabel` makes its own environment (requirements-monailabel.txt). With MONAI_LABEL_OVERLAY set,
the picture of a returned label map goes to that file.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
from monai.bundle import ConfigWorkflow
from server import MonaiLabelServer

from custom.figures import GrayScale, middle_planes, save_figure, segmentation_figure
from custom.files import read_json, sha256
from custom.phantoms import (
    CARDIAC_LABELS,
    make_brain_subject,
    make_cardiac_subject,
    make_chest_subject,
    make_coronary_subject,
)
from custom.phantoms.cohort import subject_seed
from custom.weights import read_weights
from tools import package_bundles

pytestmark = pytest.mark.monailabel
ROOT = Path(__file__).resolve().parents[2]
HEART = "gvsl_seg_heart"
UNSEEN = 7  # seed of a cohort from which nothing was trained
# in MONAI Label a label map holds the number of the structure, from 1: 3D Slicer reads and writes no other values
PLACES = {name: place for place, name in enumerate(CARDIAC_LABELS, start=1)}


def add_study(studies: Path, number: int, spacing: tuple[float, ...] | None = None) -> np.ndarray:
    """Writes a phantom as study_NUMBER.nii.gz; returns its structures' numbers, which is what an expert would draw."""
    image, label, affine = make_cardiac_subject(subject_seed(UNSEEN, number), spacing)
    studies.mkdir(exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(image, affine), studies / f"study_{number}.nii.gz")
    return np.searchsorted([0, *CARDIAC_LABELS.values()], label).astype(np.uint8)


def returned(file: Path, study: Path, structures: int = len(PLACES)) -> np.ndarray:
    """A label map that lies on the grid of its study and holds numbers of structures."""
    label, image = nibabel.load(file), nibabel.load(study)
    assert label.shape == image.shape
    np.testing.assert_allclose(label.affine, image.affine, atol=1e-3)
    values = np.asarray(label.dataobj)
    assert set(np.unique(values)) <= set(range(structures + 1))
    return values.astype(np.uint8)


def dice(label: np.ndarray, reference: np.ndarray, names: dict[str, int]) -> dict[str, float]:
    """Dice of each structure, where the label map has it under the server's number; the reference counts from 1."""
    pairs = {name: (label == names[name], reference == place) for place, name in enumerate(names, start=1)}
    return {name: 2 * (one & other).sum() / (one.sum() + other.sum()) for name, (one, other) in pairs.items()}


def test_label_train_label(python: Path, app: Path, add_bundle: Callable[..., Path], tmp_path: Path) -> None:
    bundle = add_bundle()
    studies = tmp_path / "studies"
    references = [add_study(studies, number, (3.5, 3.5, 3.5) if number else None) for number in range(3)]
    shipped = sha256(bundle / "models" / "model.pt")
    with MonaiLabelServer(python, app, studies, [HEART], tmp_path / "server.log") as server:
        info = server.info()
        assert info["labels"] == list(PLACES)  # the order in which 3D Slicer numbers the segments that it submits
        assert info["models"][HEART]["labels"] == PLACES and info["models"][HEART]["type"] == "segmentation"
        assert HEART in info["trainers"]

        parameters = server.infer(HEART, "study_0", tmp_path / "first.nii.gz")
        first = returned(tmp_path / "first.nii.gz", studies / "study_0.nii.gz")
        assert parameters["label_names"] == PLACES
        scores = dice(first, references[0], PLACES)
        assert min(scores.values()) > 0.75, scores
        draw(studies / "study_0.nii.gz", references[0], first, tmp_path)

        for number in (1, 2):
            affine = nibabel.load(studies / f"study_{number}.nii.gz").affine
            nibabel.save(nibabel.Nifti1Image(references[number], affine), tmp_path / "drawn.nii.gz")
            server.save_label(f"study_{number}", tmp_path / "drawn.nii.gz")
        assert server.info()["datastore"]["completed"] == 2
        server.train(HEART, max_epochs=1, val_split=0.5)
        _, description = read_weights(bundle / "models")  # model.json describes the new model.pt
        assert sha256(bundle / "models" / "model.pt") != shipped
        assert description["data"]["volumes"] == 1 and description["iterations"] == 40
        assert description["labels"] == CARDIAC_LABELS

        server.infer(HEART, "study_0", tmp_path / "second.nii.gz")
        second = returned(tmp_path / "second.nii.gz", studies / "study_0.nii.gz")
        assert (first != second).any()  # by the new model, which goes on from the one before
        scores = dice(second, references[0], PLACES)
        assert np.mean(list(scores.values())) > 0.75, scores
    assert server.process.poll() is not None


def bundle_run(name: str, study: Path, output: Path) -> np.ndarray:
    """The label map that `monai.bundle run` gives of a study."""
    config = ROOT / "bundles" / name / "configs" / "inference.json"
    chosen = {"bundle_root": str(config.parents[1]), "dataset_dir": str(study), "output_dir": str(output)}
    run = ConfigWorkflow(str(config), workflow_type="infer", logging_file=False, device="cpu", **chosen)
    run.initialize()
    run.run()
    (file,) = output.glob("*_label.nii.gz")
    return np.asarray(nibabel.load(file).dataobj)


@pytest.mark.parametrize("name", ["gvsl_seg_brain", "gvsl_seg_coronary"])
def test_the_other_bundles_label_studies_as_they_do_alone(
    name: str, python: Path, app: Path, add_bundle: Callable[..., Path], tmp_path: Path
) -> None:
    make = {"gvsl_seg_brain": make_brain_subject, "gvsl_seg_coronary": make_coronary_subject}[name]
    labels = read_json(add_bundle(name, name) / "configs" / "inference.json")["labels"]
    image, _, affine = make(subject_seed(UNSEEN, 0))
    (tmp_path / "studies").mkdir()
    study = tmp_path / "studies" / "study.nii.gz"
    nibabel.save(nibabel.Nifti1Image(image, affine), study)
    alone = np.searchsorted([0, *labels.values()], bundle_run(name, study, tmp_path / "alone"))
    with MonaiLabelServer(python, app, study.parent, [name], tmp_path / "server.log") as server:
        places = {structure: place for place, structure in enumerate(labels, start=1)}
        assert server.info()["models"][name]["labels"] == places
        server.infer(name, "study", tmp_path / "label.nii.gz")
    found = returned(tmp_path / "label.nii.gz", study, len(labels))
    assert len(np.unique(alone)) > len(labels) / 2
    assert (found == alone).mean() > 0.9999


def test_the_bundles_without_label_maps(
    python: Path, app: Path, add_bundle: Callable[..., Path], tmp_path: Path
) -> None:
    """MONAI Label takes every bundle for a segmentation; what these two answer is no label map of a study."""
    names = ["gvsl_covid_cls", "gvsl_pretrain"]
    for name in names:
        add_bundle(name, name)
    studies = tmp_path / "studies"
    studies.mkdir()
    image, _, affine = make_chest_subject(subject_seed(UNSEEN, 0), diseased=True)
    nibabel.save(nibabel.Nifti1Image(image, affine), studies / "chest.nii.gz")
    with MonaiLabelServer(python, app, studies, names, tmp_path / "server.log") as server:
        assert sorted(server.info()["models"]) == names
        with pytest.raises(AssertionError, match="500"):
            server.infer("gvsl_covid_cls", "chest", tmp_path / "scores")
        server.infer("gvsl_pretrain", "chest", tmp_path / "features.nrrd")
    assert not (tmp_path / "scores").exists()
    header = (tmp_path / "features.nrrd").read_bytes().partition(b"\n\n")[0].decode()
    assert "type: float" in header and f"sizes: 16 {' '.join(map(str, image.shape))}" in header


def draw(study: Path, reference: np.ndarray, label: np.ndarray, folder: Path) -> None:
    """The study, what the phantom's structures are, and what MONAI Label returned, in three planes."""
    image = nibabel.load(study)
    planes = middle_planes(np.asarray(image.dataobj), reference, label, image.affine)
    window = GrayScale((200, 800))
    figure = segmentation_figure(planes, PLACES, "The label map from MONAI Label", window, synthetic=True)
    save_figure(figure, Path(os.environ.get("MONAI_LABEL_OVERLAY", folder / "overlay.png")))


def changed_version(folder: Path) -> Path:
    """A copy of the sources of gvsl_seg_heart, as 0.1.1: structures in reverse, and a transform of another name."""
    shutil.copytree(ROOT / "custom", folder / "custom", ignore=shutil.ignore_patterns("__pycache__"))
    ignored = shutil.ignore_patterns("output*", "data", "evaluation", "predictions")
    bundle = shutil.copytree(ROOT / "bundles" / HEART, folder / "bundles" / HEART, ignore=ignored)
    metadata = json.loads((bundle / "configs" / "metadata.json").read_text())
    metadata |= {"version": "0.1.1", "changelog": metadata["changelog"] | {"0.1.1": "for a test"}}
    (bundle / "configs" / "metadata.json").write_text(json.dumps(metadata))
    with (folder / "custom" / "networks" / "downstream.py").open("a") as code:
        code.write("\n\n_forward = SegmentationNetwork.forward\n\n\ndef _reversed(self, image):\n")
        code.write(
            "    logits = _forward(self, image)\n    return torch.cat([logits[:, :1], logits[:, 1:].flip(1)], 1)\n"
        )
        code.write("\n\nSegmentationNetwork.forward = _reversed\n")
    with (folder / "custom" / "transforms" / "spacing.py").open("a") as code:
        code.write('\n\nToSpacingd.__name__ = "ToSpacingOf011"\n')
    return folder


def test_two_versions_use_their_own_code(
    python: Path, app: Path, add_bundle: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_bundle()
    monkeypatch.setattr(package_bundles, "ROOT", changed_version(tmp_path / "changed"))
    newer = f"{HEART}_v0.1.1"
    add_bundle(newer)
    studies = tmp_path / "studies"
    add_study(studies, 0, (3.5, 3.5, 3.5))
    labels, transforms = [], []
    with MonaiLabelServer(python, app, studies, [HEART, newer], tmp_path / "server.log") as server:
        models = server.info()["models"]
        assert [models[name]["version"] for name in (HEART, newer)] == ["0.1.0", "0.1.1"]
        for name in (HEART, newer, HEART, newer):
            parameters = server.infer(name, "study_0", tmp_path / "label.nii.gz")
            labels.append(returned(tmp_path / "label.nii.gz", studies / "study_0.nii.gz"))
            transforms.append(set(parameters["latencies"]["transform"]["pre"]))
    assert set(np.unique(labels[0])) == {0, *PLACES.values()}
    assert (labels[2] == labels[0]).all() and (labels[3] == labels[1]).all()
    assert (labels[1] == np.where(labels[0] > 0, len(PLACES) + 1 - labels[0], 0)).all()
    assert all("ToSpacingd" in names and "ToSpacingOf011" not in names for names in transforms[::2])
    assert all("ToSpacingOf011" in names and "ToSpacingd" not in names for names in transforms[1::2])
