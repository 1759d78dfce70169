# SPDX-License-Identifier: Apache-2.0
"""Pictures show the patient as radiologists look at them, and the grid where it goes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from custom.figures import fullest_plane, loss_figure, middle_plane, read_table, registration_figure, save_figure


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


def test_registration_figure_draws_the_grid_of_the_displacement() -> None:
    volume = np.random.default_rng(0).random((12, 12, 12))
    displacement = np.zeros((3, 12, 12, 12))
    displacement[0] = 2.0
    figure = registration_figure(volume, volume, volume, displacement, "title")
    titles = [axis.get_title() for axis in figure.axes[:6]]
    assert titles == ["moving", "fixed", "warped", "moving - fixed", "warped - fixed", "deformed grid"]
    axial_lines = figure.axes[5].get_lines()
    assert axial_lines[0].get_xdata() == pytest.approx(2.0)  # the line x = 0 of the fixed grid lies at x = 2
    assert figure.axes[3].get_images()[0].get_array().max() == 0


def test_loss_figure_has_a_plot_for_each_term(tmp_path: Path) -> None:
    (tmp_path / "training.csv").write_text("iteration,loss,registration\n1,2.0,0.9\n2,1.5,0.8\n")
    (tmp_path / "validation.csv").write_text("iteration,loss\n2,1.4\n")
    figure = loss_figure(tmp_path / "training.csv", tmp_path / "validation.csv")
    assert [axis.get_title() for axis in figure.axes] == ["loss", "registration"]
    assert [len(axis.get_lines()) for axis in figure.axes] == [3, 2]
    save_figure(figure, tmp_path / "new" / "losses.png")
    assert (tmp_path / "new" / "losses.png").read_bytes().startswith(b"\x89PNG")
    assert read_table(tmp_path / "training.csv")["loss"].tolist() == [2.0, 1.5]
