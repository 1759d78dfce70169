# SPDX-License-Identifier: Apache-2.0
"""A registered pair: what each panel shows, the grid, the outlines, the title in words."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.colors import to_hex

from custom.figures import (
    ORIENTATION,
    SYNTHETIC,
    UNITLESS,
    GrayScale,
    RegisteredPair,
    registration_figure,
    registration_in_words,
)

SHAPE = (12, 10, 8)
SPACING = (1.0, 2.0, 3.0)


def pair(labels: bool = False) -> RegisteredPair:
    """A volume that lies 2 voxels right of the fixed one, moved back."""
    fixed = np.random.default_rng(0).random(SHAPE)
    displacement = np.zeros((3, *SHAPE))
    displacement[0] = 2.0
    structure = np.zeros(SHAPE)
    structure[3:6, 3:6, 3:6] = 1
    maps = (np.roll(structure, 2, 0), structure, structure) if labels else None
    return RegisteredPair(np.roll(fixed, 2, 0), fixed, fixed, displacement, SPACING, maps)


def test_each_panel_shows_what_its_title_says() -> None:
    figure = registration_figure(pair(), GrayScale((40, 400), slope=100), "title", synthetic=True)
    titles = [plot.get_title() for plot in figure.axes[:6]]
    minus = "\N{MINUS SIGN}"
    assert titles == [
        *("fixed", "moving", "moving, registered", f"moving {minus} fixed", f"registered {minus} fixed"),
        "deformed grid",
    ]
    first = [plot.get_images()[0] for plot in figure.axes[:5]]
    axial = [image.get_array() for image in first]
    assert np.array_equal(axial[1][:, :-2], axial[0][:, 2:])  # moving lies right, which is left in the picture
    assert np.array_equal(axial[2], axial[0]) and not axial[4].any() and abs(axial[3]).max() > 50
    assert axial[0].max() > 50  # HU
    assert first[0].get_clim() == (-160, 240) and first[3].get_clim() == (-400, 400)
    assert figure.get_suptitle() == f"{SYNTHETIC}\ntitle"
    notes = figure.legends[0].get_title().get_text()
    assert ORIENTATION in notes and "level 40 HU, width 400 HU" in notes


def test_planes_have_the_proportions_of_the_spacing_and_marks() -> None:
    figure = registration_figure(pair(), UNITLESS)
    rows = [figure.axes[6 * row : 6 * row + 6] for row in range(3)]
    assert [[plot.get_aspect() for plot in row] for row in rows] == [[2.0] * 6, [3.0] * 6, [1.5] * 6]
    for row, letters in zip(rows, ("RLAP", "RLSI", "APSI"), strict=True):
        for plot in row[:5]:
            assert "".join(text.get_text() for text in plot.texts)[:4] == letters
        assert row[0].texts[-1].get_text().endswith(" mm")
    (bar,) = [plot for plot in figure.axes if "difference" in plot.get_xlabel()]
    assert bar.get_xlabel() == "difference (scaled intensity)"


def test_the_grid_is_drawn_where_it_lies_in_the_moving_volume() -> None:
    grid = registration_figure(pair(), UNITLESS).axes[5]
    assert grid.get_lines()[0].get_xdata() == pytest.approx(2.0)  # the line x = 0 of the fixed grid lies at x = 2


def test_structures_are_outlined_before_and_after() -> None:
    figure = registration_figure(pair(labels=True), UNITLESS)
    fixed, before, after = (
        [(to_hex(outline.get_edgecolor()[0]), outline.get_paths()[0].get_extents()) for outline in plot.collections]
        for plot in figure.axes[:3]
    )
    of_fixed, of_moving = "#56b4e9", "#e69f00"
    assert [color for color, _ in fixed] == [of_fixed]
    assert [color for color, _ in before] == [color for color, _ in after] == [of_fixed, of_moving]
    assert before[1][1].x0 == before[0][1].x0 - 2 and after[1][1].x0 == after[0][1].x0
    entries = [text.get_text() for plot in figure.axes if plot.get_legend() for text in plot.get_legend().get_texts()]
    assert entries == ["structures of fixed", "structures of moving"]  # once


def test_measures_in_words() -> None:
    measures = {"dice_before": 0.414, "dice_affine": 0.496, "dice_after": 0.558, "folded_share": 0.005}
    assert registration_in_words(measures) == "Dice 0.41 → 0.56 (affine stage 0.50), 0.50 % of the voxels folded"
    measures = {"registration_before": 0.85, "registration_affine": 0.75, "registration_after": 0.47}
    measures |= {"registration_refined": 0.14, "folded_share": 0.5, "folded_share_refined": 0.0}
    expected = "registration loss 0.85 → 0.14 (affine stage 0.75, network 0.47), 0.00 % of the voxels folded"
    assert registration_in_words(measures) == expected
    assert registration_in_words({}) == ""
