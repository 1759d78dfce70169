# SPDX-License-Identifier: Apache-2.0
"""A segmented case: the columns, where prediction and reference differ, and one case for several methods."""

from __future__ import annotations

import numpy as np
import pytest

from custom.figures import (
    SYNTHETIC,
    GrayScale,
    Planes,
    comparison_figure,
    middle_planes,
    segmentation_figure,
    structure_colors,
)

STRUCTURES = {"left_ventricle": 1, "aorta": 2}


def planes(shift: int = 0, reference: int = 0) -> Planes:
    """A case whose prediction lies `shift` voxels off; another `reference` is another case."""
    image = np.random.default_rng(0).random((12, 12, 12))
    label, prediction = np.zeros((12, 12, 12)), np.zeros((12, 12, 12))
    label[2 + reference : 8 + reference, 2:8, 2:8] = 1
    prediction[2 + shift : 8 + shift, 2:8, 2:8] = 1
    return middle_planes(image, label, prediction, np.diag([1.0, 1.0, 2.0, 1.0]))


def columns(figure) -> dict[str, list[np.ndarray]]:
    """Title of each column -> its axial overlay, None for the image alone."""
    first_row = [plot for plot in figure.axes if plot.get_title()]
    overlays = [[image.get_array() for image in plot.get_images()][1:] for plot in first_row]
    return dict(zip((plot.get_title() for plot in first_row), overlays, strict=True))


def test_columns_and_where_they_differ() -> None:
    case = planes(shift=2)
    figure = segmentation_figure(case, STRUCTURES, "median of 5 cases", GrayScale((40, 400)), synthetic=True)
    shown = columns(figure)
    assert list(shown) == ["image", "reference", "prediction", "where they differ"]
    assert shown["image"] == []
    (reference,), (prediction,), (different,) = (shown[name] for name in list(shown)[1:])
    color = structure_colors(STRUCTURES)[0]
    assert np.array_equal(reference[..., 3] > 0, case.reference[0] == 1)
    assert np.allclose(prediction[case.prediction[0] == 1][:, :3], color)
    assert np.array_equal(different[..., 3] > 0, case.reference[0] != case.prediction[0])
    assert figure.get_suptitle() == f"{SYNTHETIC}\nmedian of 5 cases"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["left ventricle", "aorta"]
    assert [plot.get_aspect() for plot in figure.axes[::4]] == [1, 2, 2]
    for plot, letters in zip(figure.axes[::4], ("RLAP", "RLSI", "APSI"), strict=True):
        assert "".join(text.get_text() for text in plot.texts[:4]) == letters
        assert plot.texts[4].get_text().endswith(" mm")


def test_methods_are_compared_on_one_case() -> None:
    figure = comparison_figure({"random": planes(3), "GVSL": planes(1)}, STRUCTURES, "case 7")
    shown = columns(figure)
    assert list(shown) == ["image", "reference", "random", "GVSL"]
    assert not np.array_equal(shown["random"][0], shown["GVSL"][0])
    with pytest.raises(ValueError, match="GVSL are of another case, expected that of random"):
        comparison_figure({"random": planes(3), "GVSL": planes(1, reference=1)}, STRUCTURES)


def test_values_above_255_keep_their_number() -> None:
    label = np.zeros((4, 4, 4), np.int32)
    label[:2], label[2:] = 256, 257
    for projected in (False, True):
        case = middle_planes(label, label, label, np.eye(4), projected)
        assert set(np.unique([*case.reference, *case.prediction])) == {256, 257}
