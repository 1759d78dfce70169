# SPDX-License-Identifier: Apache-2.0
"""Every bundle as ONNX, TorchScript and .pt2, loaded without our code: `python -m pytest -m exports`."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
import torch
from zips import BUNDLES, ROOT, run_alone, unpacked

from custom.files import read_json
from tools import export

PAGE = (ROOT / "docs" / "exports.md").read_text(encoding="utf-8")


@pytest.mark.exports
@pytest.mark.parametrize("name", BUNDLES)
def test_every_format_gives_the_network_s_output(name: str, tmp_path: Path) -> None:
    """At two sizes, one of them with a batch of two."""
    pytest.importorskip("onnxruntime", reason="the extra `onnx` of setup.cfg is not installed")
    export.export(name, output_dir=str(tmp_path), check=True, results=str(tmp_path / "results.json"))
    rows = read_json(tmp_path / "results.json")["exports"]
    assert [row["format"] for row in rows] == ["onnx", "torchscript", "pt2"]
    assert all(0 <= row["difference"] <= 1e-4 for row in rows)


@pytest.mark.exports
def test_the_commands_of_monai_work_in_a_zip(dist: Path, tmp_path: Path) -> None:
    """Those of docs/exports.md: TorchScript, ONNX of one size, ONNX of any size."""
    pytest.importorskip("onnxruntime", reason="the extra `onnx` of setup.cfg is not installed")
    lines = [shlex.split(line) for line in PAGE.splitlines() if line.startswith("python -m monai.bundle")]
    assert [words[3] for words in lines] == ["ckpt_export", "onnx_export", "onnx_export"]
    folder = unpacked(dist, "gvsl_seg_heart", tmp_path) / "gvsl_seg_heart"
    network, _ = export.weighted_network(ROOT / "bundles" / "gvsl_seg_heart" / "models")
    for words, shapes in zip(lines, (export.SHAPES, export.SHAPES[:1], export.SHAPES), strict=True):
        run_alone(words[1:], folder)
        file = folder / words[words.index("--filepath") + 1]
        assert export.compared(file, network, 1, shapes)["difference"] <= 1e-4


def test_an_unpacked_zip_is_exported(dist: Path, tmp_path: Path) -> None:
    """Its configs name `scripts`, which is not installed here."""
    folder = unpacked(dist, "gvsl_seg_heart", tmp_path) / "gvsl_seg_heart"
    export.export(str(folder), to="torchscript", output_dir=str(tmp_path), check=True)
    assert (tmp_path / "gvsl_seg_heart.ts").is_file()


def test_weights_of_another_task_are_refused(tmp_path: Path) -> None:
    heart = str(ROOT / "bundles" / "gvsl_seg_heart" / "models")
    with pytest.raises(ValueError, match=r"weights is .* for 2 bundles, expected one bundle"):
        export.export("covid,coronary", to="torchscript", output_dir=str(tmp_path), weights=heart)
    for name in ("covid", "coronary", "pretrain"):
        with pytest.raises(ValueError, match=rf"model\.json: task is 'heart chambers', expected .* of gvsl_\w*{name}"):
            export.export(name, to="torchscript", output_dir=str(tmp_path), weights=heart)
    assert not list(tmp_path.iterdir())


def test_the_page_has_the_measured_table() -> None:
    assert export.table(read_json(ROOT / "benchmarks" / "results" / "exports.json")["exports"]) in PAGE


def test_a_file_that_gives_another_output_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The network changes after its export as TorchScript, which needs no further package."""
    monkeypatch.setattr(export, "SHAPES", ((1, 16, 16, 16), (2, 16, 32, 17)))
    monkeypatch.setattr(export, "RUNS", 1)
    write = export.write_torchscript

    @torch.no_grad()
    def changed(path, folder, weights, network, description) -> None:
        write(path, folder, weights, network, description)
        network.head.bias += 1

    monkeypatch.setitem(export.WRITERS, "torchscript", changed)
    with pytest.raises(ValueError, match=r"gvsl_seg_heart as torchscript differs by 1\.0e\+00"):
        export.export("heart", "torchscript", str(tmp_path), check=True)


@pytest.mark.parametrize(
    ("bundle", "to", "message"),
    [
        ("heart", "onnx,tflite", "to names 'tflite', expected of"),
        ("liver", "onnx", "liver is no bundle, expected a fol"),
        ("heart", " , ", "to is ' , ', expected of"),
        ("", "onnx", "bundle is '', expected a folder or of"),
    ],
)
def test_wrong_arguments_are_named(bundle: str, to: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        export.export(bundle, to, str(tmp_path))
