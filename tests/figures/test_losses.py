# SPDX-License-Identifier: Apache-2.0
"""Loss curves: a plot for each term, one legend."""

from __future__ import annotations

from pathlib import Path

from custom.figures import SYNTHETIC, loss_figure, read_table, save_figure


def test_loss_figure_has_a_plot_for_each_term(tmp_path: Path) -> None:
    (tmp_path / "training.csv").write_text("iteration,loss,affine_registration\n1,2.0,0.9\n2,1.5,0.01\n")
    (tmp_path / "validation.csv").write_text("iteration,loss,mean_dice\n2,1.4,0.5\n")
    figure = loss_figure(tmp_path / "training.csv", tmp_path / "validation.csv", ["mean_dice"], synthetic=True)
    assert [axis.get_title() for axis in figure.axes] == ["loss", "affine registration", "mean dice"]
    assert [len(axis.get_lines()) for axis in figure.axes] == [3, 2, 1]
    assert [axis.get_yscale() for axis in figure.axes] == ["linear", "log", "linear"]
    assert not any(axis.get_legend() for axis in figure.axes)
    entries = [text.get_text() for text in figure.legends[0].get_texts()]
    assert entries == ["training, mean of 1 iterations", "held out"]
    assert figure.get_suptitle() == SYNTHETIC
    save_figure(figure, tmp_path / "new" / "losses.png")
    assert (tmp_path / "new" / "losses.png").read_bytes().startswith(b"\x89PNG")
    assert read_table(tmp_path / "training.csv")["loss"].tolist() == [2.0, 1.5]
    assert loss_figure(tmp_path / "training.csv").get_suptitle() == ""
