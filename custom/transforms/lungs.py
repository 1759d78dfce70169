# SPDX-License-Identifier: Apache-2.0
"""Masks of the lungs in CT: from a file, or by a threshold of the air inside the body."""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from nibabel.orientations import aff2axcodes
from scipy.ndimage import binary_fill_holes
from skimage.filters import threshold_otsu
from skimage.measure import block_reduce, label, regionprops
from skimage.morphology import isotropic_closing
from skimage.segmentation import clear_border

from ..volumes import VolumeError, file_name, without_metadata

WORKING_SPACING = 3.0  # mm; finer volumes are averaged to about this voxel size, which also reduces noise
CLOSING_RADIUS = 12.0  # mm; it closes vessels and consolidations at the pleura (the surface of the lung)
SECOND_LUNG = 0.1  # smallest size of the second lung relative to the first; smaller pieces are air in stomach or bowel
HU_RANGE = (-1024.0, 300.0)  # clipping, because bone and metal would raise the threshold


def lung_mask(image: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
    """Mask of both lungs with trachea and main bronchi, by Otsu's threshold between air and tissue.

    Air that touches the left, right, front or back of the volume is outside the patient. Of the remaining air, the
    mask contains the largest piece and, if the lungs are separate, the second largest. A closing (`CLOSING_RADIUS`) and
    a filling of each sagittal plane add consolidations, also at the mediastinum (between the lungs). Air at the first
    and last axial plane belongs to the mask, because the volume may end inside the lungs.

    Args:
        image: (*spatial), CT in HU; the axes point to the right, front and top, or opposite.
        spacing: voxel size in millimetres.

    Returns:
        (*spatial) bool; all False if there is no air inside the body.
    """
    block = tuple(max(1, round(WORKING_SPACING / size)) for size in spacing)
    coarse = block_reduce(np.clip(image, *HU_RANGE), block, np.mean, cval=HU_RANGE[0])
    sampling = np.multiply(block, spacing)
    air = coarse < threshold_otsu(coarse)
    open_ends = np.pad(air, ((0, 0), (0, 0), (1, 1)))  # so that the first and last axial planes are no border
    inside = clear_border(label(open_ends, connectivity=1))[:, :, 1:-1]
    pieces = sorted(regionprops(inside), key=lambda piece: piece.area, reverse=True)[:2]
    lung_labels = [piece.label for piece in pieces if piece.area >= SECOND_LUNG * pieces[0].area]
    reach = int(np.ceil(CLOSING_RADIUS / min(sampling))) + 1
    lungs = np.pad(np.isin(inside, lung_labels), reach, mode="edge")
    closed = isotropic_closing(lungs, CLOSING_RADIUS, spacing=sampling) if lung_labels else lungs
    closed = np.stack([binary_fill_holes(plane) for plane in closed])[(slice(reach, -reach),) * 3]
    for axis, count in enumerate(block):
        closed = closed.repeat(count, axis=axis)
    return closed[tuple(slice(size) for size in image.shape)]


class LungMaskd(MapTransform):
    """Add a mask of the lungs to an item: its own mask as 0 and 1, or `lung_mask` of its image.

    It comes after orientation and resampling and before the scaling of the intensities.

    Args:
        keys: one key of an image, a (channels, *spatial) MetaTensor, RAS, whose first channel is in HU.
        mask_key: key of the mask, (1, *spatial), 1 = lung. If the item has a mask, values above zero are lung, and it
            must have the shape of the image.
        minimum_volume: smallest volume of both lungs in millilitres.
        allow_missing_keys: whether an item may lack the image.

    Raises:
        ValueError: `keys` is not one key.
        VolumeError: when called: the lungs are smaller, or the mask has another shape; the message names the file.
    """

    def __init__(
        self,
        keys: KeysCollection = "image",
        mask_key: str = "mask",
        minimum_volume: float = 300.0,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        if len(self.keys) != 1:
            raise ValueError(f"keys must name one image, got {self.keys}")
        self.mask_key = mask_key
        self.minimum_volume = minimum_volume

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        item = dict(data)
        for key in self.key_iterator(item):
            item[self.mask_key] = self.mask_of(item[key], item.get(self.mask_key))
        return item

    def mask_of(self, image: MetaTensor, own_mask: torch.Tensor | None) -> MetaTensor:
        """The mask (1, *spatial), float32, with the affine of the image."""
        name = file_name(image)
        axes = "".join(aff2axcodes(np.asarray(image.affine)))
        if own_mask is None and not re.fullmatch("[RL][AP][SI]", axes):
            raise VolumeError(f"{name}: axes {axes}, expected left-right, back-front and top-bottom (orientation RAS)")
        spacing = np.linalg.norm(np.asarray(image.affine)[:3, :3], axis=0)
        if own_mask is None:
            source = f"{name}: the threshold found"
            mask = torch.from_numpy(lung_mask(image[0].cpu().numpy(), spacing))[None]
        else:
            source = f"{file_name(own_mask, 'mask')}: the mask holds"
            if own_mask.shape[1:] != image.shape[1:]:
                shapes = f"{tuple(own_mask.shape[1:])}, expected {tuple(image.shape[1:])}"
                raise VolumeError(f"{source} {shapes}, the shape of {name}")
            mask = without_metadata(own_mask) > 0
        volume = float(mask.sum()) * float(np.prod(spacing)) / 1000
        if volume < self.minimum_volume:
            raise VolumeError(f"{source} {volume:.0f} ml of lung, expected at least {self.minimum_volume:g} ml")
        return MetaTensor(mask.float(), meta=dict(image.meta))
