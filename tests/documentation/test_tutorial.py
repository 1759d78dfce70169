# SPDX-License-Identifier: Apache-2.0
"""docs/tutorial.ipynb runs from its first to its last cell, at toy size, and holds the outputs of one such run."""

from __future__ import annotations

from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient
from pages import ROOT

from custom.files import read_json, write_json
from custom.phantoms import CardiacPhantomCohort
from custom.volumes import write_volume

NOTEBOOK = ROOT / "docs" / "tutorial.ipynb"
SMALL = """
subjects, labelled = 7, 3
pretraining_epochs, training_epochs = 1, 1
patch_size = [16, 16, 16]
bfloat16 = False
"""


def draw_cohort(folder: Path) -> None:
    """What takes the place of the seven phantoms: boxes of the heart's structures in water, with air around it."""
    cohort = CardiacPhantomCohort(str(folder), subjects=7, seed=0)
    affine = np.diag([3.5, 3.5, 3.5, 1.0])
    for number in range(cohort.subjects):
        random = np.random.default_rng(number)
        image, label = np.full((20, 20, 20), -1000.0), np.zeros((20, 20, 20))
        image[2:-2, 2:-2, 2:-2] = 0.0
        for place, value in enumerate(cohort.labels.values()):
            start = 3 + 2 * place + random.integers(0, 2)
            label[start : start + 2, 4:14, 4:14] = value
        image[label > 0] = 200.0
        files = cohort.files(number)
        write_volume(folder / files["image"], image + random.normal(0, 10, image.shape), affine)
        write_volume(folder / files["label"], label.astype(np.int16), affine)
    write_json(folder / "dataset.json", cohort.identity)


def test_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw_cohort(tmp_path / "phantoms")
    monkeypatch.setenv("MONAI_DATA_DIRECTORY", str(tmp_path))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    (parameters,) = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    parameters.source = SMALL
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(NOTEBOOK.parent)}}).execute()
    assert read_json(tmp_path / "pretrained" / "model.json")["iterations"] == 20
    fine_tuned = read_json(tmp_path / "fine_tuned" / "model.json")
    assert fine_tuned["iterations"] == 40
    assert fine_tuned["started_from"]["sha256"] == sha256_of(tmp_path / "pretrained")
    assert read_json(tmp_path / "evaluation" / "metrics.json")["cases"] == 1
    assert [path.name for path in (tmp_path / "predictions").glob("*.nii.gz")] == ["phantom_006_label.nii.gz"]


def sha256_of(folder: Path) -> str:
    return read_json(folder / "model.json")["files"]["model.pt"]["sha256"]


def test_its_outputs_are_of_one_run() -> None:
    cells = [cell for cell in nbformat.read(NOTEBOOK, as_version=4).cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    pictures = [output for cell in cells for output in cell.outputs if "image/png" in output.get("data", {})]
    assert len(pictures) == 3
    texts = [output.text for cell in cells for output in cell.outputs if output.output_type == "stream"]
    assert texts and not [text for text in texts if str(ROOT.parent) in text or "/tmp/" in text]
