# SPDX-License-Identifier: Apache-2.0
"""The table of `gvsl list`: the shipped bundles and their weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..files import read_json
from ..shipped import shipped_bundles

HEADER = ("BUNDLE", "TRAINED ON", "VOLUMES", "ON HELD-OUT VOLUMES", "WEIGHTS", "LICENCE", "TASK")
MEASURES = {
    "mean_dice": "Dice",
    "centre_line_dice": "centre-line Dice",
    "roc_auc": "AUC",
    "dice_before": "Dice before",
    "dice_after": "Dice after",
}


def list_bundles() -> str:
    """List the bundles: what their weights were trained on, how good they are, their size and licence.

    usage: gvsl list
    """
    rows = [HEADER, *(_row(name, folder) for name, folder in shipped_bundles().items())]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADER))]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    return "\n".join(lines)


def _row(name: str, folder: Path) -> Sequence[str]:
    weights = read_json(folder / "models" / "model.json", "the description of the weights")
    metadata = read_json(folder / "configs" / "metadata.json", "the description of the bundle")
    size = sum(path.stat().st_size for path in folder.glob("models/*.pt"))
    return (
        name,
        weights["trained_on"],
        str(weights["data"]["volumes"]),
        _measures(weights["metrics"]),
        f"{size / 1e6:.0f} MB",
        weights["licence"],
        metadata["task"],
    )


def _measures(metrics: Mapping[str, Any]) -> str:
    return ", ".join(f"{words} {metrics[name]:.2f}" for name, words in MEASURES.items() if name in metrics)
