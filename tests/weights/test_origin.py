# SPDX-License-Identifier: Apache-2.0
"""What is said about weights that were trained on phantoms, on files, or on nobody knows what."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from custom.files import read_json
from custom.weights import origin_of, save_weights, trained_or_shipped

BUNDLES = Path(__file__).parents[2] / "bundles"
SHIPPED = sorted(BUNDLES.glob("*/models/**/*.json"))


@pytest.mark.parametrize(
    ("entry", "notice"),
    [
        ({"trained_on": "synthetic"}, "these weights were trained for this task on phantoms alone"),
        ({"trained_on": "files"}, None),
        ({}, "model.json does not say what these weights were trained on"),
    ],
)
def test_notice(entry: dict, notice: str | None, tmp_path: Path) -> None:
    save_weights(tmp_path, {"model.pt": ("network", {"weight": torch.ones(2)})}, entry)
    for weights in (tmp_path, tmp_path / "model.pt"):
        described, found = origin_of(weights)
        assert described["trained_on"] == entry.get("trained_on") and len(described["sha256"]) == 64
        assert described["folder"] == str(tmp_path)
        assert found is None if notice is None else notice in found


def test_the_last_run_is_used_if_it_has_written_weights(tmp_path: Path) -> None:
    assert trained_or_shipped(str(tmp_path)) == str(tmp_path / "models")
    (tmp_path / "output").mkdir()
    assert trained_or_shipped(str(tmp_path)) == str(tmp_path / "models")
    (tmp_path / "output" / "model.json").write_text("{}")
    assert trained_or_shipped(str(tmp_path)) == str(tmp_path / "output")


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: "/".join(path.parts[-3::2]))
def test_shipped_weights_say_whether_they_saw_phantoms_alone(path: Path) -> None:
    """The config that is stored in the description shows it: the data folder is then that of the cohort."""
    description = read_json(path)
    own = description["config"]["dataset_dir"] == description["config"]["cohort"]["root"]
    assert description["trained_on"] == ("synthetic" if own else "files")
    if "started_from" in description:
        assert description["started_from"]["trained_on"] == read_json(path.with_name("backbone.json"))["trained_on"]
