# SPDX-License-Identifier: Apache-2.0
"""Variants of the search: docs/search.md lists each that was measured, and each differs from what it varies."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from monai.bundle import ConfigParser

from benchmarks.bundles import PRETRAINING_CONFIGS, pretext_overlays
from benchmarks.transfer.results import read_results
from benchmarks.transfer.task_file import read_task_file

ROOT = Path(__file__).resolve().parents[2]
VARIANTS = read_task_file("brains").recipe.ablation["variants"]
OF_PAIRS = ("dice_affine", "dice_after", "label_recovery")
OF_OTHER_METHODS = [name for name in VARIANTS if "/" in name]


def measured_variants() -> list[dict]:
    cells = read_results(ROOT / "benchmarks" / "results" / "transfer" / "brains.jsonl").values()
    return [cell for cell in cells if "variant" in cell["settings"]]


def values_of(cell: dict) -> np.ndarray:
    """Percent: the mean of the probes, as they are and moved; Dice of the pairs (affine, both) and label recovery.

    Only GVSL has pairs to register.
    """
    probes, pairs = cell["probes"].values(), cell["pairs"][-1]
    means = [float(np.mean([probe[name] for probe in probes])) for name in ("score", "score_moved")]
    return 100 * np.array(means + [pairs[name] for name in OF_PAIRS if name in pairs])


def row_of(cell: dict) -> str:
    """A row of docs/search.md."""
    setting = cell["settings"]
    values = " | ".join(f"{value:.1f}" for value in values_of(cell))
    return f"| {setting['variant']} | {setting['seed']} | {values} |"


def test_the_page_has_a_row_for_every_variant() -> None:
    page = (ROOT / "docs" / "search.md").read_text(encoding="utf-8").splitlines()
    rows = [row_of(cell) for cell in measured_variants()]
    missing = [row for row in rows if row not in page]
    assert rows and not missing, "docs/search.md lacks:\n" + "\n".join(missing)


@pytest.mark.parametrize("name", OF_OTHER_METHODS)
def test_a_variant_changes_values_that_its_method_has(name: str) -> None:
    method, variant = name.split("/")
    parser = ConfigParser()
    parser.read_config([PRETRAINING_CONFIGS / file for file in ("train.json", f"pretext/{method}.json")])
    assert VARIANTS[name] or variant == "default"
    for key, value in VARIANTS[name].items():
        assert key in parser and parser[key] != value, key


def test_each_other_method_has_six_variants() -> None:
    counts = Counter(name.split("/")[0] for name in OF_OTHER_METHODS)
    others = {name for name, overlay in pretext_overlays().items() if "loss" in overlay}
    assert counts == dict.fromkeys(others, 6)
