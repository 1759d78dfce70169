# SPDX-License-Identifier: Apache-2.0
"""The table of `gvsl list`: the shipped bundles and their weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..files import read_json
from ..shipped import shipped_bundles, shipped_weights

HEADER = ("BUNDLE", "TRAINED ON", "VOLUMES", "IN VALIDATION", "WEIGHTS", "LICENCE", "TASK")
MEASURES = {
    "mean_dice": "Dice",
    "centre_line_dice": "centre-line Dice",
    "roc_auc": "AUC",
    "dice_before": "Dice before",
    "dice_after": "Dice after",
}
TRAINED_ON = {"synthetic": "phantoms", "files": "real volumes"}
WITHOUT_LABELS = {"registration_before": "registration loss before", "registration_after": "after"}


def list_bundles() -> str:
    """List the shipped weights: what they were trained on, the best value in validation, their size and licence.

    usage: gvsl list
    """
    rows = [HEADER, *(_row(name, folder) for name, folder in shipped_weights().items())]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADER))]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    return "\n".join(lines)


def _row(name: str, folder: Path) -> Sequence[str]:
    weights = read_json(folder / "model.json", "the description of the weights")
    bundle = shipped_bundles()[name.partition("/")[0]]
    metadata = read_json(bundle / "configs" / "metadata.json", "the description of the bundle")
    size = sum(path.stat().st_size for path in folder.glob("*.pt"))
    return (
        name,
        TRAINED_ON[weights["trained_on"]],
        str(weights["data"]["volumes"]),
        _measures(weights["metrics"]),
        f"{size / 1e6:.0f} MB",
        weights["licence"],
        metadata["task"],
    )


def _measures(metrics: Mapping[str, Any]) -> str:
    measures = MEASURES if MEASURES.keys() & metrics.keys() else WITHOUT_LABELS
    return ", ".join(f"{words} {metrics[name]:.2f}" for name, words in measures.items() if name in metrics)
