# SPDX-License-Identifier: Apache-2.0
"""Converts the checkpoint of GVSL's authors to weights of this zoo, and weights to the authors' names or nnU-Net's.

python -m tools.convert_weights from_authors --source F.pth --output_dir D
python -m tools.convert_weights to_authors --source D --output_file F.pth
python -m tools.convert_weights to_nnunet --source D --output_file F.pth --plans nnUNetResEncUNetLPlans.json
"""

from __future__ import annotations

from pathlib import Path

from custom.files import read_json, sha256, write_json, write_tensors
from custom.running import run_tool
from custom.weights import read_weights, save_weights
from custom.weights.authors import from_authors, read_authors_state, to_authors
from custom.weights.nnunet import in_plans, to_nnunet


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


def convert_to_nnunet(source: str, output_file: str, plans: str | None = None) -> str:
    """Writes a checkpoint for nnU-Net 2 (`nnUNetv2_train -pretrained_weights`) and for nnssl's fine-tuning.

    Args:
        source: folder of weights that were pre-trained with the overlay nnunet.json.
        output_file: the .pth to write.
        plans: a plans file of nnU-Net. Beside it NAME_gvsl.json is written: the plans with the network and the patch
            size of the weights, because nnU-Net loads weights into an equal network only.

    Returns:
        What was written, as a sentence.
    """
    backbone, description = read_weights(source)
    checkpoint = to_nnunet(backbone, description)
    write_tensors(output_file, checkpoint, "the checkpoint for nnU-Net")
    written = f"{output_file}: {len(checkpoint['network_weights'])} tensors"
    if plans is None:
        return written
    name = f"{Path(plans).stem}_gvsl"
    changed = in_plans(read_json(plans, "plans of nnU-Net"), description, name)
    write_json(Path(plans).with_name(f"{name}.json"), changed, "the plans")
    return f"{written}; {Path(plans).with_name(name)}.json: train with -p {name}"


if __name__ == "__main__":
    run_tool({"from_authors": convert_from_authors, "to_authors": convert_to_authors, "to_nnunet": convert_to_nnunet})
