# SPDX-License-Identifier: Apache-2.0
"""Converts the checkpoint of GVSL's authors to weights of this zoo, and back.

python -m tools.convert_weights from_authors --source F.pth --output_dir D
python -m tools.convert_weights to_authors --source D --output_file F.pth
"""

from __future__ import annotations

from pathlib import Path

from custom.files import sha256, write_tensors
from custom.running import run_tool
from custom.weights import read_weights, save_weights
from custom.weights.authors import from_authors, read_authors_state, to_authors


def convert_from_authors(source: str, output_dir: str) -> str:
    """Writes model.pt (the backbone), heads.pt if the file has them, and model.json.

    Args:
        source: the authors' .pth with the whole model, with a U-Net under the prefix `unet.`, or with a U-Net alone.
        output_dir: made if missing; a downstream bundle takes it as `--pretrained_weights`.

    Returns:
        What was written, as a sentence.
    """
    backbone, heads, channels = from_authors(read_authors_state(source), source)
    description = {
        "pretext_task": "gvsl, authors' release",
        "network": {"_target_": "custom.networks.UNet3D", "in_channels": 1, "channels": channels},
        "preprocessing": {},
        "conventions": "authors",
        "converted_from": {"file": Path(source).name, "sha256": sha256(source)},
        "trained_on": "files",  # by the paper, CTs of patients
        "licence": "the authors' release states none",
        "notes": "Neither spacing nor intensity is stored in the file. The released code clips raw values to [0, 2048] "
        "and scales them to [0, 1] in pre-training, but adds 1024 first downstream.",
    }
    files = {"model.pt": ("backbone", backbone)} | ({"heads.pt": ("heads", heads)} if heads else {})
    save_weights(output_dir, files, description)
    counts = f"{len(backbone)} tensors of the U-Net ({'-'.join(map(str, channels))}) and {len(heads)} of the heads"
    return f"{output_dir}: {counts}" + ("" if heads else "; the file has no heads, so it cannot register")


def convert_to_authors(source: str, output_file: str, backbone_only: bool = False) -> str:
    """Writes a state dict with the authors' names: the whole model, or the U-Net alone if there are no heads.

    Args:
        source: folder with model.pt, model.json and, if the model has heads, heads.pt.
        output_file: the .pth to write.
        backbone_only: leave heads.pt out, for heads that the authors' model does not have, such as an affine head by
            keypoints.

    Returns:
        What was written, as a sentence.
    """
    folder = Path(source)
    backbone, description = read_weights(folder)
    with_heads = "heads.pt" in description["files"] and not backbone_only
    heads = read_weights(folder / "heads.pt")[0] if with_heads else {}
    state = to_authors(backbone, heads)
    write_tensors(output_file, state, "the weights with the authors' names")
    return f"{output_file}: {len(state)} tensors"


if __name__ == "__main__":
    run_tool({"from_authors": convert_from_authors, "to_authors": convert_to_authors})
