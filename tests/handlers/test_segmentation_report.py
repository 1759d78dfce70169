# SPDX-License-Identifier: Apache-2.0
"""The report of a segmentation test: numbers of each case, means, the right three pictures."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import torch
from ignite.engine import Engine, Events
from monai.data import MetaTensor

from custom.figures import middle_planes
from custom.handlers import SegmentationReport

LABELS = {"ventricle": 500, "aorta": 820}
AFFINE = torch.diag(torch.tensor([2.0, 1.0, 1.0, 1.0], dtype=torch.float64))


def meta(values: torch.Tensor) -> MetaTensor:
    return MetaTensor(values[None].float(), affine=AFFINE, meta={"filename_or_obj": "somewhere/case_label.nii.gz"})


def case(shift: int, aorta: bool = True, found: bool = True) -> dict[str, MetaTensor]:
    """A ventricle whose prediction lies `shift` voxels of 2 mm off, and an aorta that is met exactly or not found."""
    label, prediction = torch.zeros(20, 16, 16), torch.zeros(20, 16, 16)
    label[4:12, 2:8, 2:8], prediction[4 + shift : 12 + shift, 2:8, 2:8] = 1, 1
    if aorta:
        label[4:8, 10:14, 10:14] = 2
        prediction[4:8, 10:14, 10:14] = 2 if found else 0
    return {"image": meta(torch.rand(label.shape)), "label": meta(label), "pred": meta(prediction)}


def report(tmp_path, outputs, batches=None, **arguments):
    """Runs an evaluator over cases, two a batch, and returns the handler."""
    batches = [{"subject": f"s{index}"} for index in range(len(outputs))] if batches is None else batches
    steps = [slice(start, start + 2) for start in range(0, len(outputs), 2)]
    evaluator = Engine(lambda engine, step: outputs[step])
    evaluator.add_event_handler(
        Events.ITERATION_COMPLETED, lambda engine: setattr(engine.state, "batch", batches[engine.state.batch])
    )
    handler = SegmentationReport(str(tmp_path / "report"), LABELS, **arguments)
    handler.attach(evaluator)
    evaluator.run(steps)
    return handler


def test_numbers_of_each_case_and_their_means(tmp_path):
    report(tmp_path, [case(0), case(2, found=False), case(4, aorta=False)])
    with (tmp_path / "report" / "cases.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["subject"] for row in rows] == ["s0", "s1", "s2"]
    assert [float(row["dice_ventricle"]) for row in rows] == pytest.approx([1, 0.75, 0.5])
    assert [float(row["hausdorff95_ventricle_mm"]) for row in rows] == [0, 4, 8]
    assert [row["dice_aorta"] for row in rows] == ["1", "0", ""]
    assert [row["hausdorff95_aorta_mm"] for row in rows] == ["0", "", ""]
    assert [float(row["dice"]) for row in rows] == pytest.approx([1, 0.375, 0.5])
    assert [float(row["hausdorff95_mm"]) for row in rows] == [0, 4, 8]
    metrics = json.loads((tmp_path / "report" / "metrics.json").read_text())
    spread = np.std([1, 0.75, 0.5])
    assert metrics["cases"] == 3
    assert metrics["dice"]["ventricle"] == pytest.approx({"mean": 0.75, "standard_deviation": spread, "cases": 3})
    assert metrics["dice"]["overall"]["mean"] == pytest.approx((1 + 0.375 + 0.5) / 3)
    assert metrics["hausdorff95"]["aorta"] == {"mean": 0.0, "standard_deviation": 0.0, "cases": 1, "not_found": 1}
    assert metrics["hausdorff95"]["ventricle"]["not_found"] == 0


def test_pictures_of_best_median_and_worst(tmp_path, monkeypatch):
    drawn = {}
    monkeypatch.setattr(
        "custom.handlers.report.save_figure",
        lambda figure, path: drawn.update({path.name: figure.get_suptitle()}),
    )
    report(tmp_path, [case(2), case(0), case(6), case(4), case(7)])
    assert {name: title.split(": ")[1].split(",")[0] for name, title in drawn.items()} == {
        "best.png": "s1",
        "median.png": "s3",
        "worst.png": "s4",
    }
    assert "best of 5 cases" in drawn["best.png"] and "mean Dice 1.00" in drawn["best.png"]


def test_tables_without_pictures(tmp_path):
    report(tmp_path, [case(2)], figures=False)
    assert {path.name for path in (tmp_path / "report").iterdir()} == {"cases.csv", "metrics.json"}


def test_one_case_without_a_subject_and_without_any_structure(tmp_path):
    empty = {name: meta(torch.zeros(8, 8, 8)) for name in ("label", "pred")} | {"image": meta(torch.rand(8, 8, 8))}
    report(tmp_path, [empty], batches=[{}])
    assert (tmp_path / "report" / "cases.csv").read_text().splitlines()[
        1
    ] == "case_label.nii.gz,somewhere/case_label.nii.gz,,,,,,"
    assert json.loads((tmp_path / "report" / "metrics.json").read_text())["dice"]["overall"]["mean"] is None
    for name in ("best", "median", "worst"):
        assert (tmp_path / "report" / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_planes_are_radiological_whatever_the_order_of_the_file():
    """A head-up, right-on-the-left picture: voxel (right, anterior, superior) ends in the upper left corner."""
    volume = np.zeros((4, 6, 8))
    volume[3, 5, :] = 1  # right, anterior in RAS+ with x to the right
    expected = middle_planes(volume, volume, volume, np.diag([1.0, 2.0, 3.0, 1.0]))
    assert expected.image[0].shape == (6, 4) and expected.image[0][0, 0] == 1 and expected.sizes[0] == (2, 1)
    flipped = np.ascontiguousarray(volume.transpose(2, 0, 1)[:, ::-1])
    affine = np.array([[0, -1.0, 0, 3], [0, 0, 2.0, 0], [3.0, 0, 0, 0], [0, 0, 0, 1]])
    again = middle_planes(flipped, flipped, flipped, affine)
    for first, second in zip(expected, again, strict=True):
        for plane, other in zip(first, second, strict=True):
            assert np.array_equal(plane, other)


def test_one_process_only(tmp_path, monkeypatch):
    monkeypatch.setattr("ignite.distributed.get_world_size", lambda: 2)
    with pytest.raises(RuntimeError, match="one process, found 2"):
        report(tmp_path, [case(0)])


def test_vessels_are_seen_through_the_whole_volume_and_measured_along_their_centre(tmp_path, monkeypatch):
    label = np.zeros((12, 12, 12), dtype=np.uint8)
    label[2, 3, 1:11] = label[8, 6, 1:11] = 1
    image = np.arange(12**3, dtype=np.float32).reshape(label.shape)
    planes = middle_planes(image, label, label, np.eye(4), projected=True)
    assert planes.reference[0].sum() == 2 and planes.reference[1].sum() == 20  # axial: two dots; coronal: two lines
    assert len(np.unique(planes.image[0])) == 144
    item = {
        "image": meta(torch.as_tensor(image)),
        "label": meta(torch.as_tensor(label)),
        "pred": meta(torch.as_tensor(label)),
    }
    evaluator = Engine(lambda engine, batch: [item])
    evaluator.add_event_handler(Events.ITERATION_COMPLETED, lambda engine: setattr(engine.state, "batch", [{}]))
    SegmentationReport(str(tmp_path / "report"), {"artery": 1}, centre_lines=True).attach(evaluator)
    evaluator.run([0])
    metrics = json.loads((tmp_path / "report" / "metrics.json").read_text())
    assert metrics["centre_line_dice"]["artery"]["mean"] == metrics["dice"]["artery"]["mean"] == 1.0


def test_an_evaluation_of_no_cases_is_refused(tmp_path):
    evaluator = Engine(lambda engine, step: None)
    evaluator.data_loader = []
    with pytest.raises(ValueError, match="no cases to evaluate, expected test volumes with labels"):
        SegmentationReport(str(tmp_path), LABELS).attach(evaluator)


def test_a_structure_with_the_name_of_the_mean_is_refused(tmp_path):
    with pytest.raises(ValueError, match="labels names a structure 'overall', expected another name"):
        SegmentationReport(str(tmp_path), {"ventricle": 1, "overall": 2})
