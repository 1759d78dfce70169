# SPDX-License-Identifier: Apache-2.0
"""Slices are shown as radiologists look at them: marked edges, right proportions, a scale bar."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure

from custom.figures import (
    SYNTHETIC,
    draw_outlines,
    draw_plane,
    extent,
    fullest_plane,
    middle_plane,
    name_figure,
    pixel_size,
)


@pytest.mark.parametrize(("axis", "place"), [(2, (0, 0)), (1, (0, 0)), (0, (0, 0))])
def test_right_anterior_superior_corner_is_top_left(axis: int, place: tuple[int, int]) -> None:
    volume = np.zeros((5, 7, 9))  # RAS: the last voxel of each axis lies right, anterior, superior
    corner = [-1, -1, -1]
    corner[axis] = volume.shape[axis] // 2
    volume[tuple(corner)] = 1
    plane = middle_plane(volume, axis)
    first, second = (side for other, side in enumerate(volume.shape) if other != axis)
    assert plane.shape == (second, first)
    assert np.argwhere(plane).tolist() == [list(place)]


def test_the_fullest_plane_shows_an_organ_that_lies_aside() -> None:
    volume = np.zeros((6, 5, 4), np.float32)
    volume[1, 1:4, 1:3] = 1
    volume[4, 2, 2] = 5
    for axis, index in ((0, 1), (1, 2), (2, 2)):
        assert np.array_equal(fullest_plane(volume, axis), volume.take(index, axis=axis).T[::-1, ::-1])


@pytest.mark.parametrize(("axis", "letters"), [(2, "RLAP"), (1, "RLSI"), (0, "APSI")])
def test_edges_bear_the_letter_of_the_side_whose_voxels_they_show(axis: int, letters: str) -> None:
    """The brightest edge of a ramp along an axis is the one with the letter of its end: R, A or S."""
    plot = Figure().subplots()
    shape = (6, 7, 8)
    draw_plane(plot, middle_plane(np.zeros(shape), axis), axis, (1, 1))
    marks = {text.get_text(): text.get_position() for text in plot.texts}
    assert list(marks) == list(letters)
    for ramp_axis, letter in enumerate("RAS"):
        if ramp_axis == axis:
            continue
        ramp = np.moveaxis(np.broadcast_to(np.arange(shape[ramp_axis]), (9, 9, shape[ramp_axis])), -1, ramp_axis)
        plane = middle_plane(ramp, axis)
        bright = np.array([plane[:, 0].mean(), plane[:, -1].mean(), plane[0].mean(), plane[-1].mean()]).argmax()
        x, y = marks[letter]
        assert bright == (0 if x < 0.1 else 1 if x > 0.9 else 2 if y > 0.9 else 3)


def test_pixels_have_their_physical_proportions() -> None:
    spacing = (1.0, 2.0, 5.0)
    assert [pixel_size(spacing, axis) for axis in (2, 1, 0)] == [(2, 1), (5, 1), (5, 2)]
    plot = Figure().subplots()
    plane = middle_plane(np.zeros((10, 20, 30)), 1)
    draw_plane(plot, plane, 1, pixel_size(spacing, 1))
    assert plot.get_aspect() == 5
    assert extent(plane, pixel_size(spacing, 1)) == (150, 10)


@pytest.mark.parametrize(("columns", "width", "length"), [(64, 3.5, 50), (48, 1.0, 10), (300, 1.0, 100), (3, 0.5, 1)])
def test_the_scale_bar_is_as_long_as_it_says(columns: int, width: float, length: int) -> None:
    plot = Figure().subplots()
    draw_plane(plot, np.zeros((40, columns)), 2, (1, width), bar=True)
    start, end = plot.lines[0].get_xdata()
    assert (end - start) * width == pytest.approx(length)
    assert plot.texts[-1].get_text() == f"{length} mm"
    assert plot.get_xlim() == (-0.5, columns - 0.5)  # the bar does not move the slice


def test_outlines_run_around_the_structures() -> None:
    plot = Figure().subplots()
    labels = np.zeros((10, 12), int)
    labels[2:5, 3:8], labels[6:9, 3:8] = 1, 2
    draw_outlines(plot, labels, "red")
    boxes = [contour.get_paths()[0].get_extents() for contour in plot.collections]
    assert [box.extents.tolist() for box in boxes] == [[2.5, 1.5, 7.5, 4.5], [2.5, 5.5, 7.5, 8.5]]
    draw_outlines(plot, np.ones((4, 4), int), "red")  # a structure without an edge in the slice
    assert len(plot.collections) == 2


def test_the_title_says_that_data_are_synthetic() -> None:
    figure = Figure()
    name_figure(figure, "a pair", ("A note.",))
    assert figure.get_suptitle() == "a pair"
    assert figure.legends[0].get_title().get_text() == "A note."
    name_figure(figure, "a pair", synthetic=True)
    assert figure.get_suptitle() == f"{SYNTHETIC}\na pair"
