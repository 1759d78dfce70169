# SPDX-License-Identifier: Apache-2.0
"""Model cards parse as Hugging Face reads them, and their figures are those of the committed results."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

import pytest
from huggingface_hub import ModelCard
from zips import BUNDLES, ROOT, zip_of

from custom.files import read_json
from tools.model_card import model_card

RESULTS = {  # eval_metrics of metadata.json -> the result file and the path of the same measure in it
    "gvsl_pretrain": (
        "bundles/gvsl_pretrain/models/model.json",
        {name: f"metrics/{name}" for name in ("dice_before", "dice_affine", "dice_after")},
    ),
    "gvsl_seg_heart": (
        "benchmarks/results/gvsl_seg_heart_phantoms.json",
        {"mean_dice": "dice/overall/mean", "mean_hausdorff95": "hausdorff95/overall/mean"},
    ),
    "gvsl_seg_coronary": (
        "benchmarks/results/gvsl_seg_coronary_phantoms.json",
        {
            "mean_dice": "dice/overall/mean",
            "mean_centre_line_dice": "centre_line_dice/overall/mean",
            "mean_hausdorff95": "hausdorff95/overall/mean",
        },
    ),
    "gvsl_seg_brain": (
        "benchmarks/results/gvsl_seg_brain_manual.json",
        {"mean_dice": "dice/overall/mean", "mean_hausdorff95": "hausdorff95/overall/mean"},
    ),
    "gvsl_covid_cls": (
        "benchmarks/results/gvsl_covid_cls_phantoms.json",
        {name: name for name in ("auc", "sensitivity", "specificity")},
    ),
}


def metadata_of(name: str) -> dict:
    return read_json(ROOT / "bundles" / name / "configs" / "metadata.json")


@pytest.mark.parametrize("name", BUNDLES)
def test_metrics_of_the_metadata_are_measured(name: str) -> None:
    file, paths = RESULTS[name]
    metrics = metadata_of(name)["eval_metrics"]
    assert metrics.keys() == paths.keys()
    for metric, value in metrics.items():
        measured = read_json(ROOT / file)
        for part in paths[metric].split("/"):
            measured = measured[part]
        digits = len(str(value).partition(".")[2])
        assert value == pytest.approx(measured, abs=0.5 * 10**-digits + 1e-9), metric


@pytest.mark.parametrize("name", BUNDLES)
def test_the_table_of_the_readme_quotes_them(name: str) -> None:
    (row,) = re.findall(rf"^\| \[{name}\]\(.*$", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    quoted = {float(number) for number in re.findall(r"\d+\.\d+", row)}
    assert quoted and quoted <= set(metadata_of(name)["eval_metrics"].values())


@pytest.mark.parametrize("name", BUNDLES)
def test_the_card_of_a_zip_parses(name: str, dist: Path) -> None:
    with zipfile.ZipFile(zip_of(dist, name)) as archive:
        text, readme = (archive.read(f"{name}/{file}").decode() for file in ("README.md", "docs/README.md"))
        members = {member.removeprefix(f"{name}/") for member in archive.namelist()}
    card = ModelCard(text)
    weights = read_json(ROOT / "bundles" / name / "models" / "model.json")
    licences = {"Apache-2.0": "apache-2.0", "CC BY-SA 3.0": "cc-by-sa-3.0"}
    assert card.data.library_name == "monai" and card.data.license == licences[weights["licence"]]
    assert {"monai", "3D"} <= set(card.data.tags)
    assert {result.metric_type: result.metric_value for result in card.data.eval_results} == metadata_of(name)[
        "eval_metrics"
    ]
    kinds = {"synthetic": "synthetic", "files": "medical"}
    assert {result.dataset_type for result in card.data.eval_results} == {kinds[weights["trained_on"]]}
    links = [link for link in re.findall(r"\]\(([^)#]+)", card.text) if not link.startswith("https:")]
    assert links and set(links) <= members
    assert card.text.replace("](docs/", "](").strip() == readme.strip()


def test_what_a_card_needs_is_named() -> None:
    metadata, readme = metadata_of("gvsl_seg_heart"), "Tags: CT, 3D.\n"
    weights = {"licence": "Apache-2.0", "trained_on": "synthetic"}
    assert "pipeline_tag: image-segmentation\n" in model_card("heart", metadata, weights, readme)
    with pytest.raises(ValueError, match=r"README\.md of heart has no tags, expected a line 'Tags: a, b\.'"):
        model_card("heart", metadata, weights, "nothing")
    for entry in ("data_source", "eval_metrics"):
        with pytest.raises(ValueError, match=rf"metadata\.json of heart has no {entry}"):
            model_card("heart", {key: value for key, value in metadata.items() if key != entry}, weights, readme)
    metadata["network_data_format"]["outputs"]["pred"]["format"] = "sound"
    with pytest.raises(ValueError, match=r"output of format 'sound', expected \['segmentation', "):
        model_card("heart", metadata, weights, readme)
