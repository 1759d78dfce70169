# SPDX-License-Identifier: Apache-2.0
"""Colors of structures: those of FreeSurfer for the brain, otherwise colors that color-blind readers tell apart."""

from __future__ import annotations

import colorsys
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.patches import Patch

# Okabe and Ito, Color Universal Design, 2008
BLUE, SKY, GREEN, YELLOW = "#0072B2", "#56B4E9", "#009E73", "#F0E442"
ORANGE, VERMILION, PURPLE = "#E69F00", "#D55E00", "#CC79A7"
OKABE_ITO = (VERMILION, SKY, YELLOW, BLUE, GREEN, PURPLE, ORANGE)  # neighbours in this order differ most
# FreeSurferColorLUT.txt of FreeSurfer 7; left and right have one color. The last three are other names.
FREESURFER = {
    "cerebral_white_matter": (245, 245, 245),
    "cerebral_cortex": (205, 62, 78),
    "lateral_ventricle": (120, 18, 134),
    "inferior_lateral_ventricle": (196, 58, 250),
    "cerebellum_white_matter": (220, 248, 164),
    "cerebellum_cortex": (230, 148, 34),
    "thalamus": (0, 118, 14),
    "caudate": (122, 186, 220),
    "putamen": (236, 13, 176),
    "pallidum": (12, 48, 255),
    "third_ventricle": (204, 182, 142),
    "fourth_ventricle": (42, 204, 164),
    "brain_stem": (119, 159, 176),
    "hippocampus": (220, 216, 20),
    "amygdala": (103, 255, 255),
    "cerebrospinal_fluid": (60, 60, 60),
    "accumbens": (255, 165, 0),
    "ventral_diencephalon": (165, 42, 42),
    "cortex": (205, 62, 78),
    "cerebellum_exterior": (230, 148, 34),
    "ventral_dc": (165, 42, 42),
}


def structure_colors(names: Iterable[str]) -> list[tuple[float, float, float]]:
    """A color for each structure, RGB in [0, 1].

    Brain structures have the colors of FreeSurfer, the same left and right. The n-th of the others has a color that
    depends on n alone.

    Args:
        names: of the structures, as in the configs.
    """
    free = _distinct()
    known = (FREESURFER.get(without_side(name).lower().replace(" ", "_")) for name in names)
    return [next(free) if color is None else tuple(part / 255 for part in color) for color in known]


def colored(labels: np.ndarray, structures: Mapping[str, int], opacity: float) -> np.ndarray:
    """A label map in the colors of its structures; other values are transparent.

    Args:
        labels: label map, (height, width).
        structures: name -> value in the label map.
        opacity: of the structures, from 0 to 1.

    Returns:
        (height, width, 4), RGBA in [0, 1].
    """
    picture = np.zeros((*labels.shape, 4))
    for value, color in zip(structures.values(), structure_colors(structures), strict=True):
        picture[labels == value] = (*color, opacity)
    return picture


def legend_patches(names: Sequence[str]) -> list[Patch]:
    """Entries of a legend: one for each color, left and right of a color together."""
    entries: dict[tuple[float, ...], str] = {}
    for name, color in zip(names, structure_colors(names), strict=True):
        entries[color] = in_words(without_side(name) if color in entries else name)
    return [Patch(color=color, label=label) for color, label in entries.items()]


def without_side(name: str) -> str:
    """Name of a structure, the same for left and right."""
    for side in ("left", "right"):
        name = name.removeprefix(f"{side}_").removeprefix(f"{side} ")
    return name


def in_words(name: str) -> str:
    """A name of a config as text."""
    return name.replace("_", " ")


def _distinct() -> Iterator[tuple[float, float, float]]:
    """The colors of Okabe and Ito, then hues a golden angle apart."""
    yield from map(to_rgb, OKABE_ITO)
    for number in itertools.count():
        yield colorsys.hsv_to_rgb(0.618034 * number % 1, (0.55, 0.95)[number % 2], (0.95, 0.65, 0.45)[number % 3])
