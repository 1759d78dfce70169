# SPDX-License-Identifier: Apache-2.0
"""docs/search.md lists every variant that was measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.transfer.results import read_results

ROOT = Path(__file__).resolve().parents[2]


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
