# SPDX-License-Identifier: Apache-2.0
"""Where the lungs are: a given mask, or air inside the body found by a threshold."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from scipy.ndimage import binary_fill_holes
from skimage.filters import threshold_otsu
from skimage.measure import block_reduce, label, regionprops
from skimage.morphology import isotropic_closing
from skimage.segmentation import clear_border

from ..volumes import VolumeError

WORKING_SPACING = 3.0  # mm; finer volumes are averaged to about this, which also removes noise
CLOSING_RADIUS = 12.0  # mm; closes vessels and consolidations at the pleura
SECOND_LUNG = 0.1  # of the larger one: smaller pieces are air in stomach or bowel, or specks
HU_RANGE = (-1024.0, 300.0)  # bone and metal would draw the threshold upwards


def lung_mask(image: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
    """Both lungs, with trachea and main bronchi, by Otsu's threshold between air and tissue.

    Air that reaches the left, right, front or back of the volume is outside of the patient; of the rest the largest
    piece or, where the lungs are apart, the largest two are kept, closed (`CLOSING_RADIUS`) and filled in each
    sagittal plane, so that consolidations inside, also those that touch the mediastinum, count as lung. Air at the
    first and last axial plane stays: lungs may be cut there.

    Args:
        image: (*spatial), CT in HU, axes to the right, anterior and superior (or against them).
        spacing: voxel size in mm.

    Returns:
        (*spatial) bool; empty where there is no air inside the body.
    """
    block = tuple(max(1, round(WORKING_SPACING / size)) for size in spacing)
    coarse = block_reduce(np.clip(image, *HU_RANGE), block, np.mean, cval=HU_RANGE[0])
    sampling = np.multiply(block, spacing)
    air = coarse < threshold_otsu(coarse)
    open_ends = np.pad(air, ((0, 0), (0, 0), (1, 1)))  # so that the last axial planes are no border
    inside = clear_border(label(open_ends, connectivity=1))[:, :, 1:-1]
    pieces = sorted(regionprops(inside), key=lambda piece: piece.area, reverse=True)[:2]
    kept = [piece.label for piece in pieces if piece.area >= SECOND_LUNG * pieces[0].area]
    reach = int(np.ceil(CLOSING_RADIUS / min(sampling))) + 1
    lungs = np.pad(np.isin(inside, kept), reach, mode="edge")
    closed = isotropic_closing(lungs, CLOSING_RADIUS, spacing=sampling) if kept else lungs
    closed = np.stack([binary_fill_holes(plane) for plane in closed])[(slice(reach, -reach),) * 3]
    for axis, count in enumerate(block):
        closed = closed.repeat(count, axis=axis)
    return closed[tuple(slice(size) for size in image.shape)]


class LungMaskd(MapTransform):
    """Sees to it that an item has a mask of the lungs: the given one, or `lung_mask` of the image.

    Call it after orientation and resampling and before the intensities are scaled.

    Args:
        keys: one image key, (1, *spatial) MetaTensor in HU, RAS.
        mask_key: where the mask is or goes: (1, *spatial), 1 = lung. A given one (any value above zero is lung) must
            have the shape of the image.
        minimum_volume: millilitres below which a volume shows no lungs.
        allow_missing_keys: whether an item may lack the image.

    Raises:
        VolumeError: when called: no lungs of that size, or a given mask of another shape; names the file.
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

    def mask_of(self, image: MetaTensor, given: torch.Tensor | None) -> MetaTensor:
        """The mask (1, *spatial), float32, with the affine of the image."""
        name = image.meta.get("filename_or_obj", "no file name")
        spacing = np.linalg.norm(np.asarray(image.affine)[:3, :3], axis=0)
        if given is None:
            source = f"{name}: the threshold found"
            mask = torch.from_numpy(lung_mask(image[0].cpu().numpy(), spacing))[None]
        else:
            source = f"{getattr(given, 'meta', {}).get('filename_or_obj', 'mask')}: the mask holds"
            if given.shape != image.shape:
                shapes = f"{tuple(given.shape[1:])}, expected {tuple(image.shape[1:])}"
                raise VolumeError(f"{source} {shapes}, the shape of {name}")
            mask = given.as_tensor() > 0 if isinstance(given, MetaTensor) else given > 0
        volume = float(mask.sum()) * float(np.prod(spacing)) / 1000
        if volume < self.minimum_volume:
            raise VolumeError(f"{source} {volume:.0f} ml of lung, expected at least {self.minimum_volume:g} ml")
        return MetaTensor(mask.float(), meta=dict(image.meta))
