# SPDX-License-Identifier: Apache-2.0
"""Each zip with its defaults, as a stranger runs it: nothing given, in an empty folder, on its own phantoms."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from zips import BUNDLES, bundle_command, run_alone, unpacked

EVALUATION = "['{0}/configs/train.json','{0}/configs/evaluate.json']"
INFERENCE = {
    "gvsl_covid_cls": ("predictions", "probabilities.csv", 1),
    "gvsl_pretrain": ("features", "*_features.nii.gz", 24),
    "gvsl_seg_brain": ("predictions", "*_label.nii.gz", 20),
    "gvsl_seg_coronary": ("predictions", "*_label.nii.gz", 16),
    "gvsl_seg_heart": ("predictions", "*_label.nii.gz", 20),
}


@pytest.fixture(scope="module", params=BUNDLES)
def bundle(request: pytest.FixtureRequest, dist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The only thing in a folder: an unpacked zip. Its tests share the phantoms that the first of them makes."""
    return unpacked(dist, request.param, tmp_path_factory.mktemp("empty")) / request.param


@pytest.mark.slow
class TestDefaults:
    """`-k "gvsl_pretrain and inference"` picks one."""

    def test_inference(self, bundle: Path) -> None:
        run_alone(bundle_command("run", config_file=f"{bundle.name}/configs/inference.json"), bundle.parent)
        folder, pattern, files = INFERENCE[bundle.name]
        assert len(list((bundle / folder).glob(pattern))) == files

    def test_evaluate(self, bundle: Path) -> None:
        """The shipped weights; what they measure is what model.json says of them, where it says so."""
        run_alone(bundle_command("run", config_file=EVALUATION.format(bundle.name)), bundle.parent)
        metrics = json.loads((bundle / "evaluation" / "metrics.json").read_text())
        if bundle.name == "gvsl_pretrain":  # the validation pairs of the run that made the weights
            stored = json.loads((bundle / "models" / "model.json").read_text())["metrics"]
            for name in ("registration_after", "dice_after"):
                assert metrics[name] == pytest.approx(stored[name], abs=1e-3)

    def test_train(self, bundle: Path) -> None:
        run_alone(bundle_command("run", config_file=f"{bundle.name}/configs/train.json"), bundle.parent)
        description = json.loads((bundle / "output" / "model.json").read_text())
        planned = description["config"]["max_epochs"] * description["config"]["iterations_per_epoch"]
        assert 0 < description["iterations"] <= planned
        assert len((bundle / "output" / "training.csv").read_text().splitlines()) == 1 + planned

    def test_nothing_is_written_beside_the_bundle(self, bundle: Path) -> None:
        assert [path.name for path in bundle.parent.iterdir()] == [bundle.name]
