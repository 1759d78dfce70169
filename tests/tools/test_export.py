# SPDX-License-Identifier: Apache-2.0
"""Every bundle as ONNX, TorchScript and .pt2, loaded without our code: `python -m pytest -m exports`."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from zips import BUNDLES, ROOT

from custom.files import read_json
from tools import export


@pytest.mark.exports
@pytest.mark.parametrize("name", BUNDLES)
def test_every_format_gives_the_network_s_output(name: str, tmp_path: Path) -> None:
    """At two sizes, one of them with a batch of two."""
    pytest.importorskip("onnxruntime", reason="the extra `onnx` of setup.cfg is not installed")
    rows = export.export(name, output_dir=str(tmp_path), check=True, results=str(tmp_path / "results.json"))
    assert [row["format"] for row in rows] == ["onnx", "torchscript", "pt2"]
    assert all(0 <= row["difference"] <= 1e-4 for row in rows)
    assert read_json(tmp_path / "results.json")["exports"] == rows


@pytest.mark.exports
def test_the_command_of_monai_gives_the_network_s_output(tmp_path: Path) -> None:
    """onnx_export as docs/exports.md has it, and its default shape from the metadata."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    folder = ROOT / "bundles" / "gvsl_seg_heart"
    network, description = export.weighted_network(folder / "models")
    common = export.of_bundle(tmp_path / "heart.onnx", folder, folder / "models", description)
    export.onnx_export(**common, use_trace=True, converter_kwargs={"dynamo": False})
    (image,) = onnx.load(tmp_path / "heart.onnx").graph.input
    assert [axis.dim_value for axis in image.type.tensor_type.shape.dim] == [1, 1, 16, 16, 16]


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
    ],
)
def test_wrong_arguments_are_named(bundle: str, to: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        export.export(bundle, to, str(tmp_path))
