# SPDX-License-Identifier: Apache-2.0
"""Copies pre-trained weights into a downstream bundle: python -m tools.ship_backbone --bundle bundles/gvsl_seg_heart"""

from __future__ import annotations

import shutil
from pathlib import Path

import fire

from custom.files import write_json
from custom.weights import read_weights


def ship(bundle: str, source: str = "bundles/gvsl_pretrain/models") -> str:
    """Writes models/backbone.pt, a copy byte by byte, and models/backbone.json, which describes that file alone.

    Args:
        bundle: folder of the bundle. source: folder with model.pt and model.json of a pre-training run.
    """
    _, description = read_weights(source)  # checks the hash
    models = Path(bundle) / "models"
    models.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(Path(source) / "model.pt", models / "backbone.pt")
    write_json(models / "backbone.json", description | {"files": {"backbone.pt": description["files"]["model.pt"]}})
    read_weights(models / "backbone.pt")
    return str(models / "backbone.pt")


if __name__ == "__main__":
    fire.Fire(ship)
