# SPDX-License-Identifier: Apache-2.0
"""Inference of every bundle with its shipped weights: no case replaces another, bad cases are named last."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
from runs import ROOT, chain, rows, workflow
from scipy.ndimage import gaussian_filter

from custom.files import read_json

POSTFIX = {
    "gvsl_pretrain": "features",
    "gvsl_seg_heart": "label",
    "gvsl_seg_coronary": "label",
    "gvsl_seg_brain": "label",
    "gvsl_covid_cls": None,
}
OWN = {"gvsl_covid_cls": {"lungs#minimum_volume": 0.5}}
AFFINE = np.diag([3.0, 3.0, 3.0, 1.0])
GOOD = ["sub-1/ct", "sub-2/ct.mha", "sub-2/ct.nii.gz"]


def chest(seed: int) -> np.ndarray:
    """A body with two lungs, which gvsl_covid_cls needs."""
    volume = np.full((24, 22, 20), -1000.0)
    volume[2:22, 2:20] = 40
    for x in (slice(6, 11), slice(13, 18)):
        volume[x, 6:16, 3:17] = -850
    return (volume + 20 * gaussian_filter(np.random.default_rng(seed).normal(size=volume.shape), 1)).astype(np.int16)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Three volumes named ct, one of them as MetaImage, and one that is cut off."""
    itk = pytest.importorskip("itk")
    for number, subject in enumerate(("sub-1", "sub-2")):
        (tmp_path / "data" / subject).mkdir(parents=True)
        nibabel.save(nibabel.Nifti1Image(chest(number), AFFINE), tmp_path / "data" / subject / "ct.nii.gz")
    itk.imwrite(itk.imread(str(tmp_path / "data/sub-2/ct.nii.gz")), str(tmp_path / "data/sub-2/ct.mha"))
    whole = (tmp_path / "data/sub-2/ct.nii.gz").read_bytes()
    (tmp_path / "data/sub-2/bad.nii.gz").write_bytes(whole[: len(whole) // 2])
    return tmp_path / "data"


def trained_on(bundle: str) -> str:
    """What the shipped weights were trained on: "synthetic" if on phantoms alone."""
    return read_json(ROOT / "bundles" / bundle / "models" / "model.json")["trained_on"]


def says_so(report: dict, bundle: str) -> bool:
    """Whether a report has the notice about weights that saw phantoms alone, and no notice about others."""
    if trained_on(bundle) != "synthetic":
        return "notice" not in report
    return "on phantoms alone" in report["notice"]


def infer(bundle: str, data: Path, output: Path) -> str:
    """The message of the error at the end."""
    overrides = {"bundle_root": str(ROOT / "bundles" / bundle), "dataset_dir": str(data), "output_dir": str(output)}
    built = workflow(ROOT / "bundles" / bundle, ["inference.json"], "infer", overrides | OWN.get(bundle, {}))
    with pytest.raises(RuntimeError) as error:
        built.run()
    return chain(error.value).strip()


@pytest.mark.parametrize("bundle", POSTFIX)
def test_every_case_has_its_own_output_and_the_bad_one_is_named_last(
    bundle: str, data: Path, caplog: pytest.LogCaptureFixture
) -> None:
    output = data / "predictions"  # below the input
    for run in (1, 2):
        caplog.clear()
        message = infer(bundle, data, output)
        assert "1 of 4 cases have no result, those of the others are written:" in message
        assert str(data / "sub-2" / "bad.nii.gz") in message.splitlines()[-1]
        assert "cannot be read, expected a complete volume file" in message.splitlines()[-1]
        report = read_json(output / "report.json")
        assert [case["case"] for case in report["cases"]] == GOOD and report["finished"]
        assert says_so(report, bundle)
        assert caplog.text.count("on phantoms alone") == (trained_on(bundle) == "synthetic")
        (failure,) = report["failures"]
        assert failure["case"] == str(data / "sub-2" / "bad.nii.gz")
        if POSTFIX[bundle] is None:
            table = rows(output / "probabilities.csv")
            assert [row["case"] for row in table] == GOOD
            assert list(table[0]) == ["subject", "case", "score_no COVID-19", "score_COVID-19", "notice"]
        else:
            assert report["outputs"] == [f"{name}_{POSTFIX[bundle]}.nii.gz" for name in GOOD]
            for name in report["outputs"]:
                assert nibabel.load(output / name).shape[:3] and (output / name).is_file()
        assert len(list(output.glob("earlier/*/report.json"))) == run - 1


def evaluation(bundle: str, dataset: Path, output: Path, **overrides) -> dict:
    chosen = {"bundle_root": str(ROOT / "bundles" / bundle), "dataset_dir": str(dataset), "output_dir": str(output)}
    return chosen | {"num_workers": 0, "figures": False, **overrides}


@pytest.mark.parametrize("bundle", ["gvsl_pretrain", "gvsl_seg_coronary"])
def test_an_evaluation_measures_the_others(bundle: str, tiny_dataset: Path, tmp_path: Path) -> None:
    """A volume that is cut off, and a label map with a value that was not declared."""
    root = tmp_path / "data"
    for part in ("images", "labels"):
        (root / part).mkdir(parents=True)
        for path in (tiny_dataset / part).iterdir():
            (root / part / path.name).write_bytes(path.read_bytes())
    own = {"labels": {"coronary_arteries": 1}, "background_values": [2], "test_share": 4, "validation_share": 1}
    own = own if bundle == "gvsl_seg_coronary" else {"labels": [1, 2], "validation_pairs": 6, "validation_share": 3}
    chosen = evaluation(bundle, root, tmp_path / "out", **own)
    names = ["train.json", "evaluate.json"]
    data = workflow(ROOT / "bundles" / bundle, names, "train", chosen).parser.get_parsed_content("data")
    part = data["test" if bundle == "gvsl_seg_coronary" else "validation"]
    bad = Path(part[0].get("image", part[0].get("moving")))
    bad.write_bytes(bad.read_bytes()[:500])
    failed = sum(str(bad) in pair.values() for pair in part)
    with pytest.raises(RuntimeError) as error:
        workflow(ROOT / "bundles" / bundle, names, "train", chosen).run()
    message = chain(error.value).strip()
    assert f"{failed} of {len(part)} cases have no result" in message and str(bad) in message.splitlines()[-1]
    table = rows(tmp_path / "out" / ("cases.csv" if bundle == "gvsl_seg_coronary" else "pairs.csv"))
    assert len(table) == len(part) - failed > 0
    metrics = read_json(tmp_path / "out" / "metrics.json")
    assert metrics["weights"]["trained_on"] == trained_on(bundle)
    assert says_so(metrics, bundle)
