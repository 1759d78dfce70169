# SPDX-License-Identifier: Apache-2.0
"""The files of a classification test, and the table of probabilities."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from ignite.engine import Engine, State
from monai.data import MetaTensor

from custom.handlers import ClassificationReport
from custom.metrics import bootstrap_auc, roc_auc

LABELS = {"healthy": 0, "ill": 7}


def engine(probabilities: list[float], truth: list[int], one_hot: bool = True) -> Engine:
    """An evaluator whose batches of two cases hold the given probabilities of being ill."""

    def step(engine: Engine, batch: list[int]) -> list[dict]:
        outputs = []
        for case in batch:
            image = torch.rand(1, 8, 9, 10, generator=torch.Generator().manual_seed(case))
            label = torch.tensor(truth[case])
            label = torch.nn.functional.one_hot(label, 2) if one_hot else label
            pred = torch.tensor([1 - probabilities[case], probabilities[case]])
            meta = {"filename_or_obj": f"folder/{case}.nii.gz"}
            outputs.append({"image": MetaTensor(image, meta=meta), "label": label, "pred": pred})
        engine.state.batch = [{"subject": f"s{case}"} if case else {} for case in batch]
        return outputs

    made = Engine(step)
    made.state = State()
    return made


def run(made: Engine, cases: int) -> None:
    made.run([list(range(start, min(start + 2, cases))) for start in range(0, cases, 2)], max_epochs=1)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


PROBABILITIES, TRUTH = [0.1, 0.8, 0.7, 0.3, 0.95], [0, 0, 1, 1, 1]


@pytest.mark.parametrize("one_hot", [True, False])
def test_report(tmp_path, one_hot):
    made = engine(PROBABILITIES, TRUTH, one_hot)
    ClassificationReport(str(tmp_path), LABELS, "ill", threshold=0.6, seed=4, draws=300).attach(made)
    run(made, 5)
    table = rows(tmp_path / "cases.csv")
    assert [row["subject"] for row in table] == ["0.nii.gz", "s1", "s2", "s3", "s4"]
    assert [float(row["probability_ill"]) for row in table] == pytest.approx(PROBABILITIES)
    assert [row["class"] for row in table] == ["healthy", "ill", "ill", "healthy", "ill"]
    assert [row["true_value"] for row in table] == ["0", "0", "7", "7", "7"]
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    score, positive = np.array(PROBABILITIES), np.array(TRUTH) == 1
    assert metrics["auc"] == pytest.approx(4 / 6) == roc_auc(score, positive)
    found = bootstrap_auc(np.float32(score).astype(float), positive, 300, seed=4)
    assert (metrics["auc_low"], metrics["auc_high"]) == found
    assert metrics["threshold"] == 0.6
    assert (metrics["sensitivity"], metrics["specificity"]) == pytest.approx((2 / 3, 0.5))
    assert metrics["accuracy"] == pytest.approx(3 / 5)
    assert metrics["cases_of"] == {"healthy": 2, "ill": 3}
    for name in ("roc", "best", "median", "worst"):
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_tables_without_pictures(tmp_path):
    made = engine(PROBABILITIES, TRUTH)
    ClassificationReport(str(tmp_path), LABELS, "ill", figures=False).attach(made)
    run(made, 5)
    assert {path.name for path in tmp_path.iterdir()} == {"cases.csv", "metrics.json"}


def test_one_class_is_an_error(tmp_path):
    made = engine([0.2, 0.4], [0, 0])
    ClassificationReport(str(tmp_path), LABELS, "ill").attach(made)
    with pytest.raises(ValueError, match="0 positive and 2 negative"):
        run(made, 2)
    with pytest.raises(ValueError, match="'dead'"):
        ClassificationReport(str(tmp_path), LABELS, "dead")


def describe_weights(folder: Path, trained_on: str) -> str:
    """A folder of weights with that description."""
    folder.mkdir()
    (folder / "model.json").write_text(json.dumps({"trained_on": trained_on}))
    return str(folder)


def test_weights_that_saw_phantoms_give_scores_and_no_class(tmp_path, caplog):
    weights = describe_weights(tmp_path / "weights", "synthetic")
    made = engine(PROBABILITIES, TRUTH)
    ClassificationReport(str(tmp_path / "out"), LABELS, "ill", draws=10, weights=weights).attach(made)
    run(made, 5)
    table = rows(tmp_path / "out" / "cases.csv")
    columns = ["subject", "file", "score_healthy", "score_ill", "notice", "true_class", "true_value"]
    assert list(table[0]) == columns and "on phantoms alone" in table[0]["notice"]
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["notice"] == table[0]["notice"] and metrics["weights"]["trained_on"] == "synthetic"
    assert caplog.text.count("on phantoms alone") == 1
    assert (tmp_path / "out" / "roc.png").is_file()


def test_the_pictures_carry_the_notice(tmp_path, monkeypatch):
    titles = []
    monkeypatch.setattr("custom.handlers.classification_report.planes_figure", lambda *_: titles.append(_[1]))
    monkeypatch.setattr("custom.handlers.classification_report.roc_figure", lambda *_: titles.append(_[2]))
    monkeypatch.setattr("custom.handlers.classification_report.save_figure", lambda *_: None)
    monkeypatch.setattr("custom.handlers.report.save_figure", lambda *_: None)
    made = engine(PROBABILITIES, TRUTH)
    weights = describe_weights(tmp_path / "weights", "synthetic")
    ClassificationReport(str(tmp_path), LABELS, "ill", draws=10, weights=weights).attach(made)
    run(made, 5)
    assert len(titles) == 4 and all("on phantoms alone" in " ".join(title.split()) for title in titles)
    assert not any("probability" in title for title in titles)
    assert [title.endswith("misclassified") for title in titles] == [False, False, False, True]  # worst.png


def test_an_earlier_evaluation_is_moved_away(tmp_path):
    for _ in range(2):
        made = engine(PROBABILITIES, TRUTH)
        ClassificationReport(str(tmp_path), LABELS, "ill", draws=10, figures=False).attach(made)
        run(made, 5)
        (tmp_path / "notes.txt").touch()
    assert {path.name for path in tmp_path.iterdir()} == {"cases.csv", "metrics.json", "notes.txt", "earlier"}
    assert {path.name for path in (tmp_path / "earlier" / "1").iterdir()} == {"cases.csv", "metrics.json"}


def test_without_a_case_nothing_is_written(tmp_path):
    made = engine([], [])
    ClassificationReport(str(tmp_path), LABELS, "ill").attach(made)
    made.run([[]], max_epochs=1)
    assert not list(tmp_path.iterdir())


def test_wrong_number_of_outputs(tmp_path):
    made = engine([0.2, 0.4], [0, 1])
    ClassificationReport(str(tmp_path), {"a": 0, "b": 1, "c": 2}, "a").attach(made)
    with pytest.raises(ValueError, match="2 probabilities for the classes"):
        run(made, 2)
