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
OF_OTHER_METHODS = [name for name in VARIANTS if "/" in name]


def test_the_page_has_a_row_for_every_variant() -> None:
    cells = read_results(ROOT / "benchmarks" / "results" / "transfer" / "brains.jsonl").values()
    variants = [cell for cell in cells if "variant" in cell["settings"]]
    page = (ROOT / "docs" / "search.md").read_text(encoding="utf-8").splitlines()
    missing = [row for row in map(row_of, variants) if row not in page]
    assert variants and not missing, "docs/search.md lacks:\n" + "\n".join(missing)


def row_of(cell: dict) -> str:
    """The mean of the probes, as they are and moved, and the last measures of the pairs, in percent."""
    probes, pairs = cell["probes"].values(), cell["pairs"][-1]
    values = [100 * float(np.mean([probe[name] for probe in probes])) for name in ("score", "score_moved")]
    values += [100 * pairs[name] for name in ("dice_affine", "dice_after", "label_recovery")]
    setting = cell["settings"]
    return f"| {setting['variant']} | {setting['seed']} | {' | '.join(f'{value:.1f}' for value in values)} |"


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
