# SPDX-License-Identifier: Apache-2.0
"""The intensity step of a bundle, checked: something must be left of the image, and a HU window needs HU."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from copy import copy
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform
from monai.utils import convert_to_dst_type

from ..volumes import VolumeError, file_name, warn_once, without_metadata

SMALLEST_SPREAD = 0.01  # of the output range, among the voxels inside the window
SMALLEST_SHARE = 0.001  # of the voxels, inside the window
AIR_BELOW, TISSUE = -200.0, (-200.0, 300.0)  # HU; lung and air are below -400, fat and organs between -150 and 200
AIR_SHARE, TISSUE_SHARE = 0.001, 0.01


def looks_like_hu(values: torch.Tensor) -> bool:
    """
    Whether intensities look like Hounsfield units: air or lung, and soft tissue, have the values that they have in CT.

    At least 0.1 % of the voxels are below -200 and at least 1 % are from -200 to 300. An MR, a CT with an offset, and a
    CT that was scaled to 0..1 fail. A CT whose air was cut off, or a small crop without air, fails too.
    """
    air = (values < AIR_BELOW).float().mean().item()
    tissue = ((values >= TISSUE[0]) & (values <= TISSUE[1])).float().mean().item()
    return air >= AIR_SHARE and tissue >= TISSUE_SHARE


class CheckedIntensityd(MapTransform):
    """
    Apply an intensity transform to each channel of an image by itself, and check the result.

    A fixed window (`ScaleIntensityRanged`) that begins below `AIR_BELOW` is a HU window: a volume that does not look
    like HU (see `looks_like_hu`) is used with a warning, once for each volume. Other transforms, such as percentiles
    for MR, get no such warning.

    Args:
        intensity: a dictionary transform of MONAI such as `ScaleIntensityRanged`.
        keys: keys of the volumes that are transformed and checked, instead of those of `intensity`.

    Raises:
        ValueError: the lower end of the window is not below the upper end.
        VolumeError: when called: the result is not finite, or nothing is left of the image: less than 0.1 % of the
            voxels lie inside the window (above the lowest and below the highest value of the result), or they differ
            by less than 1 % of the output range. The message names file, raw range and window.
    """

    def __init__(self, intensity: MapTransform, keys: KeysCollection | None = None) -> None:
        super().__init__(intensity.keys if keys is None else keys, intensity.allow_missing_keys)
        self.intensity = copy(intensity)
        self.intensity.keys = self.keys
        self.window = _window(intensity)
        for lower, upper in (("a_min", "a_max"), ("b_min", "b_max"), ("lower", "upper"), ("minv", "maxv")):
            ends = self.window.get(lower), self.window.get(upper)
            if None not in ends and not ends[0] < ends[1]:
                raise ValueError(
                    f"intensity: {lower} is {ends[0]:g} and {upper} {ends[1]:g}, expected {lower} < {upper}"
                )

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        images = {key: data[key] for key in self.key_iterator(dict(data))}
        channels = max(map(len, images.values()), default=1)
        raw = [{key: image[number : number + 1] for key, image in images.items()} for number in range(channels)]
        scaled = [self.intensity({**data, **of_channel}) for of_channel in raw]
        for number, of_channel in enumerate(raw):
            which = f", channel {number + 1} of {channels}" if channels > 1 else ""
            for key, channel in of_channel.items():
                name = file_name(channel, f"key {key!r}")
                self._check(_plain(channel), _plain(scaled[number][key]), name + which)
        return scaled[0] | {key: _joined([of_channel[key] for of_channel in scaled]) for key in images}

    def _check(self, raw: torch.Tensor, scaled: torch.Tensor, name: str) -> None:
        lowest, highest = scaled.min().item(), scaled.max().item()
        between = scaled[(scaled > lowest) & (scaled < highest)]
        span = self.window.get("b_max", highest) - self.window.get("b_min", lowest)
        spread = (between.max() - between.min()).item() if between.numel() else 0.0
        found = f"raw intensities from {raw.min().item():g} to {raw.max().item():g}, intensity step {self.described()}"
        if not torch.isfinite(scaled).all():
            raise VolumeError(f"{name}: {found}: the result is not finite, expected finite intensities")
        if between.numel() < SMALLEST_SHARE * scaled.numel() or spread < SMALLEST_SPREAD * span:
            raise VolumeError(
                f"{name}: {found}: nothing is left of the image (values {lowest:g} to {highest:g}, "
                f"{between.numel()} of {scaled.numel()} voxels between them, over {spread:g}), expected intensities in "
                "the unit of the step (for CT: HU)"
            )
        if self.window.get("a_min", 0.0) < AIR_BELOW and not looks_like_hu(raw):
            warn_once(
                f"{name}: {found} expects HU, but the volume does not look like HU (air below {AIR_BELOW:g} and soft "
                f"tissue from {TISSUE[0]:g} to {TISSUE[1]:g}): results on an MR or on a CT in other units are wrong"
            )

    def described(self) -> str:
        arguments = ", ".join(f"{name} {value:g}" for name, value in self.window.items())
        return f"{type(self.intensity).__name__}({arguments})"


def _window(intensity: MapTransform) -> dict[str, float]:
    """The numbers of a transform of `ScaleIntensityRanged`'s family, {} for others."""
    scaler = getattr(intensity, "scaler", None)
    names = ("a_min", "a_max", "lower", "upper", "b_min", "b_max", "minv", "maxv")
    return {name: float(value) for name in names if (value := getattr(scaler, name, None)) is not None}


def _joined(channels: Sequence[torch.Tensor]) -> torch.Tensor:
    """Channels (1, *spatial) as one image (channels, *spatial) with the metadata of the first."""
    joined = torch.cat([_plain(channel) for channel in channels])
    return convert_to_dst_type(joined, channels[0], dtype=joined.dtype)[0]


def _plain(volume: Any) -> torch.Tensor:
    return torch.as_tensor(without_metadata(volume))
