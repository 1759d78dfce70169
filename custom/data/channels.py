# SPDX-License-Identifier: Apache-2.0
"""Images whose channels are files of their own: case_0000, case_0001 of nnU-Net, or case_t1, case_flair."""

from __future__ import annotations

import os
from collections.abc import Sequence

from .layout import Volume
from .names import modality_channel, natural_key, numbered_channel
from .subjects import NNUNET_RULE


def channel_names(volumes: Sequence[Volume]) -> list[str]:
    """The channels of the first case with several files, in their order; [] if no case has several."""
    return next((list(files) for files in _cases(volumes).values() if len(files) > 1), [])


def group_channels(volumes: Sequence[Volume], channels: int, root: str) -> list[Volume]:
    """
    Volumes whose files are the channels of one image as one volume, with the channels in natural order of their names.

    Such files lie in one folder, and their names differ at the end alone: in the number of nnU-Net or in the name of a
    modality. A file without companions stays as it is: it may hold all channels.

    Args:
        volumes: see `find_layout`.
        channels: number of channels of an image; 1 leaves every file as it is.
        root: the data set, for the message.

    Returns:
        The volumes in natural order; the label maps of one are those of its files.

    Raises:
        ValueError: a case has another number of files or other channels than the first one; the message lists them.
    """
    if channels == 1:
        return list(volumes)
    cases = _cases(volumes)
    several = {case: files for case, files in cases.items() if len(files) > 1}
    expected = next((list(files) for files in several.values() if len(files) == channels), None)
    wrong = [f"{case or root}: {', '.join(files)}" for (_, case), files in several.items() if list(files) != expected]
    if wrong:
        names = ", ".join(expected) if expected else "one file for each"
        raise ValueError(
            f"dataset_dir {root!r}: {len(wrong)} of {len(several)} cases have other channels, expected {channels} "
            f"({names}; in_channels):\n  " + "\n  ".join(wrong[:20])
        )
    grouped = []
    for files in cases.values():
        first, *others = files.values()
        labels = dict.fromkeys(label for volume in files.values() for label in volume.labels)
        image = (first.image, *(volume.image for volume in others)) if others else first.image
        grouped.append(first._replace(image=image, labels=tuple(labels)))
    return grouped


def _cases(volumes: Sequence[Volume]) -> dict[tuple[str, str], dict[str, Volume]]:
    """(folder, case) -> channel -> volume; a file that is no channel is a case of its own."""
    cases: dict[tuple[str, str], dict[str, Volume]] = {}
    for volume in sorted(volumes, key=lambda volume: natural_key(volume.image)):
        named = numbered_channel(volume.image) if volume.rule == NNUNET_RULE else modality_channel(volume.image)
        case, channel = named or (volume.image, "")
        of_case = cases.setdefault((os.path.dirname(volume.image), case), {})
        of_case[channel if channel not in of_case else os.path.basename(volume.image)] = volume
    return cases
