# SPDX-License-Identifier: Apache-2.0
"""Small pictures: of few colors, and never incomplete under their name."""

from __future__ import annotations

from pathlib import Path

import pytest
from matplotlib.figure import Figure
from PIL import Image

from tools.small_picture import save_small


def test_a_picture_of_256_colors_takes_fewer_bytes(tmp_path: Path) -> None:
    figure = Figure()
    figure.subplots().imshow([[0, 1], [2, 3]], interpolation="bilinear")
    figure.savefig(tmp_path / "whole.png", dpi=80)
    save_small(figure, tmp_path / "small.png")
    assert Image.open(tmp_path / "small.png").mode == "P"
    assert (tmp_path / "small.png").stat().st_size < (tmp_path / "whole.png").stat().st_size


def test_a_full_disk_leaves_a_complete_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(picture: Image.Image, path: Path, **_: object) -> None:
        if picture.mode == "P":  # the small one
            Path(path).write_bytes(b"half")
            raise OSError(28, "No space left on device")
        save(picture, path, **_)

    save = Image.Image.save
    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(OSError, match=r"a\.png: the picture cannot be written \(No space"):
        save_small(Figure(), tmp_path / "a.png")
    monkeypatch.undo()
    Image.open(tmp_path / "a.png").load()
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
