# SPDX-License-Identifier: Apache-2.0
"""Copies pre-trained weights into a downstream bundle: python -m tools.ship_backbone --bundle bundles/gvsl_seg_heart"""

from __future__ import annotations

from pathlib import Path

from custom.files import write_bytes, write_json
from custom.running import run_tool
from custom.weights import read_weights


def ship(bundle: str, source: str = "bundles/gvsl_pretrain/models") -> str:
    """Writes models/backbone.pt, the same bytes as model.pt, and models/backbone.json, its description.

    Args:
        bundle: folder of the bundle.
        source: folder with model.pt and model.json of a pre-training run.

    Returns:
        Path of backbone.pt.
    """
    _, description = read_weights(source)  # checks the hash
    models = Path(bundle) / "models"
    write_bytes(models / "backbone.pt", (Path(source) / "model.pt").read_bytes(), "the pre-trained backbone")
    write_json(models / "backbone.json", description | {"files": {"backbone.pt": description["files"]["model.pt"]}})
    read_weights(models / "backbone.pt")
    return str(models / "backbone.pt")


if __name__ == "__main__":
    run_tool(ship)
