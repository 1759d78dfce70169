# SPDX-License-Identifier: Apache-2.0
"""Networks with their weights in one line: from a shipped bundle, a folder of weights or the zip of a bundle."""

from __future__ import annotations

import os
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch
from monai.bundle import ConfigParser
from torch import nn

from .files import read_json
from .running.screen import reason
from .shipped import described_folders, find_weights, shipped_bundles, shipped_weights
from .volumes import nifti_image
from .weights import check_objects, load_strictly, network_from, read_weights

WEIGHTS, DESCRIPTION = "model.pt", "model.json"
NETWORK = "SegmentationNetwork"
PRETRAINING = "pretrain"
SYS_PATH = "$sys.path.insert(1, @bundle_root)"  # for the code in a zip; the code here is this package


class Segmenter:
    """A segmentation network with the steps of its bundle's inference.json: a file in, a label map out.

    Args:
        parser: of inference.json.

    Attributes:
        network: the network in eval mode; it maps (N, 1, *spatial) of `preprocessing` to logits (N, classes, *spatial).
        labels: structure -> its value in label maps.
        preprocessing: {"image": path} -> {"image": tensor (1, *spatial), RAS}.
        inferer: (batch, network) -> logits, by sliding windows.
    """

    def __init__(self, parser: ConfigParser) -> None:
        self.network: nn.Module = parser.get_parsed_content("network").eval()
        self.labels: dict[str, int] = parser.get_parsed_content("labels")
        self.preprocessing: Callable[..., Any] = parser.get_parsed_content("preprocessing")
        self.inferer: Callable[..., Any] = parser.get_parsed_content("inferer")
        self._postprocessing = parser.get_parsed_content("postprocessing")

    def __call__(self, path: str | os.PathLike) -> nibabel.Nifti1Image:
        """Segment a volume.

        Args:
            path: a file or a DICOM folder.

        Returns:
            The label map in int32 on the grid of the file, with the values of `labels` and 0.

        Raises:
            VolumeError: the file cannot be read or used.
        """
        item = self.preprocessing({"image": os.fspath(path)})
        device = next(self.network.parameters()).device
        with torch.inference_mode():
            item["pred"] = self.inferer(item["image"][None].to(device), self.network)[0]
        label = self._postprocessing(item)["pred"].cpu()
        affine = np.asarray(label.affine, dtype=np.float64)
        return nifti_image(label.as_tensor().numpy()[0].astype(np.int32), affine)


def load_backbone(weights: str | os.PathLike = "gvsl_pretrain", device: torch.device | str = "cpu") -> nn.Module:
    """The backbone of a bundle in eval mode.

    Args:
        weights: name of shipped weights ("pretrain" or "gvsl_pretrain", "pretrain/brain"), folder with model.pt and
            model.json, or zip of a bundle. Of a downstream network the backbone is returned, as fine-tuned.
        device: where the network goes.

    Returns:
        The network. `forward(x)` gives the local features, `forward_features(x)` bottleneck and local features.

    Raises:
        FileNotFoundError: nothing has this name, or a file is missing.
        ValueError: the weights are damaged, or do not fit the network that their model.json describes.
    """
    with _folder_of(weights) as folder:
        state, description = read_weights(folder)
        network = network_from(description)
        load_strictly(network, state, folder)
    return getattr(network, "backbone", network).to(device).eval()


def load_segmenter(weights: str | os.PathLike, device: torch.device | str = "cpu") -> Segmenter:
    """A network that segments files: `load_segmenter("heart")("ct.nii.gz")` is a label map.

    Args:
        weights: name of shipped weights ("heart" or "gvsl_seg_heart"), folder with model.pt and model.json of a
            segmentation run, or zip of a bundle.
        device: where the network computes.

    Raises:
        FileNotFoundError: nothing has this name, or a file is missing.
        ValueError: the weights are damaged or no segmentation network.
    """
    with _folder_of(weights) as folder:
        bundle = _segmentation_bundle(folder / DESCRIPTION)
        with _naming_the_weights(weights):
            return Segmenter(_configured(bundle, folder, device))


def load_preprocessing(weights: str | os.PathLike = "gvsl_pretrain") -> Callable[..., Any]:
    """The steps that make the input of a backbone from a file: orientation, spacing and intensities of its training.

        volume = load_preprocessing("pretrain/brain")({"image": "t1.nii.gz"})["image"][None]

    Args:
        weights: as of `load_backbone`.

    Returns:
        {"image": path} -> {"image": tensor (channels, *spatial), RAS}; paths in the order of the channels for several.

    Raises:
        FileNotFoundError: nothing has this name, or a file is missing.
        ValueError: the description of the weights is damaged.
    """
    with _folder_of(weights) as folder, _naming_the_weights(weights):
        parser = _configured(shipped_bundles()[PRETRAINING], folder, "cpu")
        return parser.get_parsed_content("preprocessing")


def _configured(bundle: Path, folder: Path, device: torch.device | str) -> ConfigParser:
    """The inference.json of a bundle with the weights of a folder, initialised."""
    config = read_json(bundle / "configs" / "inference.json")
    config |= {"bundle_root": str(bundle), "model_dir": str(folder), "device": str(device)}
    config["initialize"] = [step for step in config["initialize"] if step != SYS_PATH]
    parser = ConfigParser(config)
    for number in range(len(config["initialize"])):  # one after another, because a step may change the config
        parser.get_parsed_content(f"initialize::{number}")
    return parser


@contextmanager
def _naming_the_weights(weights: str | os.PathLike) -> Iterator[None]:
    """Turn an error of MONAI around a reason into a ValueError with the weights and the reason."""
    try:
        yield
    except RuntimeError as error:
        raise ValueError(f"{weights}: {reason(error)}") from error


@contextmanager
def _folder_of(weights: str | os.PathLike) -> Iterator[Path]:
    """A folder with model.pt and model.json; that of a zip exists within the block."""
    path, shipped = Path(weights), find_weights(os.fspath(weights))
    if shipped is not None:
        yield shipped
    elif path.is_dir():
        described = described_folders(path)
        if not described:
            raise FileNotFoundError(
                f"{path} holds no {DESCRIPTION}, expected a folder with {WEIGHTS} and {DESCRIPTION}"
            )
        yield described[0]
    elif path.is_file():
        with tempfile.TemporaryDirectory() as temporary:
            _unpack_weights(path, Path(temporary))
            yield Path(temporary)
    else:
        raise FileNotFoundError(
            f"{path} does not exist, expected one of {list(shipped_weights())}, a folder with {WEIGHTS} and "
            f"{DESCRIPTION}, or the zip of a bundle"
        )


def _unpack_weights(path: Path, folder: Path) -> None:
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path} is no zip, expected the zip of a bundle or a folder with {WEIGHTS}")
    with zipfile.ZipFile(path) as archive:
        for name in (WEIGHTS, DESCRIPTION):
            members = [member for member in archive.namelist() if member.endswith(f"/models/{name}")]
            if len(members) != 1:
                raise ValueError(f"{path} holds {len(members)} files BUNDLE/models/{name}, expected one")
            (folder / name).write_bytes(archive.read(members[0]))


def _segmentation_bundle(description_file: Path) -> Path:
    """The shipped bundle of the task of weights or, for a task of the user's own, the first one.

    The inference.json of these bundles differ only in what the description of the weights decides.
    """
    description = read_json(description_file, "the description of weights")
    check_objects(description, description_file)
    network = (description.get("network") or {}).get("_target_")
    if str(network).rpartition(".")[2] != NETWORK:
        raise ValueError(f"{description_file}: network is {network!r}, expected a {NETWORK}")
    bundles = [folder for folder in shipped_bundles().values() if folder.name.startswith("gvsl_seg_")]
    tasks = {read_json(folder / "models" / DESCRIPTION)["task"]: folder for folder in bundles}
    return tasks.get(description.get("task"), bundles[0])
