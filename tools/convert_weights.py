# SPDX-License-Identifier: Apache-2.0
"""The authors' checkpoint as weights of this zoo, and back.

python -m tools.convert_weights from_authors --source F.pth --output_dir D
python -m tools.convert_weights to_authors --source D --output_file F.pth
"""

from __future__ import annotations

import os
from pathlib import Path

import fire
import torch

from custom.files import sha256
from custom.weights import read_weights, save_weights
from custom.weights.authors import from_authors, read_authors_state, to_authors


def convert_from_authors(source: str, output_dir: str) -> str:
    """Writes model.pt (the backbone), heads.pt if the file has them, and model.json.

    Args:
        source: the authors' .pth: the whole model, its U-Net with the prefix `unet.`, or the bare U-Net.
        output_dir: made if missing; goes into `--pretrained_weights` of a downstream bundle.
    """
    backbone, heads, channels = from_authors(read_authors_state(source), source)
    description = {
        "pretext_task": "gvsl, authors' release",
        "network": {"_target_": "custom.networks.UNet3D", "in_channels": 1, "channels": channels},
        "preprocessing": {},
        "conventions": "authors",
        "converted_from": {"file": Path(source).name, "sha256": sha256(source)},
        "licence": "the authors' release states none",
        "notes": "Neither spacing nor intensity is stored in the file. The released code clips raw values to [0, 2048] "
        "and scales them to [0, 1] in pre-training, but adds 1024 first downstream.",
    }
    files = {"model.pt": ("backbone", backbone)} | ({"heads.pt": ("heads", heads)} if heads else {})
    save_weights(output_dir, files, description)
    counts = f"{len(backbone)} tensors of the U-Net ({'-'.join(map(str, channels))}) and {len(heads)} of the heads"
    return f"{output_dir}: {counts}" + ("" if heads else "; the file has no heads, so it cannot register")


def convert_to_authors(source: str, output_file: str, backbone_only: bool = False) -> str:
    """Writes a state dict with the authors' names: the whole model, or the bare U-Net if there are no heads.

    Args:
        source: folder with model.pt, model.json and perhaps heads.pt. output_file: the .pth.
        backbone_only: leave heads.pt out, such as an affine head by keypoints, which the authors' model cannot hold.
    """
    folder = Path(source)
    backbone, description = read_weights(folder)
    with_heads = "heads.pt" in description["files"] and not backbone_only
    heads = read_weights(folder / "heads.pt")[0] if with_heads else {}
    state = to_authors(backbone, heads)
    temporary = f"{output_file}.tmp"
    torch.save(state, temporary)
    os.replace(temporary, output_file)
    return f"{output_file}: {len(state)} tensors"


if __name__ == "__main__":
    fire.Fire({"from_authors": convert_from_authors, "to_authors": convert_to_authors})
