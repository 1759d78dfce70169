# SPDX-License-Identifier: Apache-2.0
"""Brains have the colors of FreeSurfer; other structures have colors that do not depend on how many there are."""

from __future__ import annotations

import numpy as np
import pytest

from custom.figures import colored, legend_patches, structure_colors
from custom.labels import BRAIN_LABELS, CARDIAC_LABELS


@pytest.mark.parametrize("count", [1, 7, 10, 28, 40])
def test_every_structure_has_a_color_of_its_own(count: int) -> None:
    names = [f"structure {number}" for number in range(count)]
    colors = structure_colors(names)
    assert len(set(colors)) == count and np.shape(colors) == (count, 3)
    assert colors == structure_colors([*names, "one more"])[:count]
    distance = np.linalg.norm(np.array(colors)[:, None] - np.array(colors)[None], axis=-1)
    assert distance[np.triu_indices(count, 1)].min(initial=1) > 0.04


@pytest.mark.parametrize(
    ("name", "color"),
    [
        ("left_thalamus", (0, 118, 14)),
        ("right_thalamus", (0, 118, 14)),
        ("right hippocampus", (220, 216, 20)),
        ("left ventral DC", (165, 42, 42)),
        ("brain_stem", (119, 159, 176)),
    ],
)
def test_brains_have_the_colors_of_freesurfer(name: str, color: tuple[int, int, int]) -> None:
    assert structure_colors([name])[0] == pytest.approx(np.array(color) / 255)


def test_every_structure_of_the_brain_bundle_is_in_the_table() -> None:
    others = set(structure_colors([f"structure {number}" for number in range(28)]))
    assert not others & set(structure_colors(BRAIN_LABELS))


def test_the_legend_names_left_and_right_once() -> None:
    entries = [patch.get_label() for patch in legend_patches(list(BRAIN_LABELS))]
    assert len(entries) == 16 and entries[0] == "cerebral white matter"
    assert [patch.get_label() for patch in legend_patches(["left_kidney", "right_kidney"])] == [
        "left kidney",
        "right kidney",
    ]
    assert len(legend_patches(list(CARDIAC_LABELS))) == 7


def test_label_maps_take_the_colors_and_background_is_transparent() -> None:
    labels = np.array([[0, 500], [205, 7]])
    structures = {"myocardium": 205, "left_ventricle": 500}
    picture = colored(labels, structures, 0.5)
    assert picture[..., 3].tolist() == [[0, 0.5], [0.5, 0]]
    first, second = structure_colors(structures)
    assert tuple(picture[1, 0, :3]) == first and tuple(picture[0, 1, :3]) == second
