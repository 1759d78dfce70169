# SPDX-License-Identifier: Apache-2.0
"""Weights on disk: what was saved comes back, what was tampered with does not."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import BinaryIO

import pytest
import torch

from custom.files import read_json, sha256
from custom.networks import AffineHead, DeformableHead, RestorationHead, UNet3D, ZMatchingHead
from custom.pretext import GVSLPretext
from custom.running import resolved_component, resolved_config
from custom.weights import load_pretext, read_weights, save_pretext


def network(width: int = 8) -> GVSLPretext:
    matching_head = ZMatchingHead(AffineHead(2 * width, 8), DeformableHead(width))
    return GVSLPretext(UNet3D(1, (width, 2 * width)), matching_head, RestorationHead(width))


def test_round_trip(tmp_path: Path) -> None:
    saved, loaded = network(), network()
    save_pretext(saved, tmp_path, {"iterations": 3})
    assert load_pretext(loaded, tmp_path)["iterations"] == 3
    for name, tensor in saved.state_dict().items():
        assert torch.equal(tensor, loaded.state_dict()[name]), name
    bare = UNet3D(1, (8, 16))
    bare.load_state_dict(torch.load(tmp_path / "model.pt", weights_only=True))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["heads.pt", "model.json", "model.pt"]
    described = read_json(tmp_path / "model.json")["files"]
    assert described["model.pt"]["parameters"] == sum(parameter.numel() for parameter in bare.parameters())


@pytest.mark.parametrize("full", ["model.pt", "heads.pt"])
def test_a_full_disk_leaves_the_weights_of_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full: str) -> None:
    save_pretext(network(), tmp_path, {"iterations": 1})
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def save(content: dict, file: BinaryIO) -> None:
        if file.name.endswith(full):
            raise OSError(errno.ENOSPC, "No space left on device")
        saved(content, file)

    saved = torch.save
    monkeypatch.setattr(torch, "save", save)
    with pytest.raises(
        OSError, match=rf"^\[Errno 28\] \S*{full}: the weights cannot be written \(No space left on device"
    ):
        save_pretext(network(), tmp_path, {"iterations": 2})
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert load_pretext(network(), tmp_path)["iterations"] == 1


def test_tampered_file_is_refused(tmp_path: Path) -> None:
    save_pretext(network(), tmp_path, {})
    content = bytearray((tmp_path / "model.pt").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "model.pt").write_bytes(content)
    with pytest.raises(ValueError, match=r"model\.pt has SHA-256 .* names"):
        load_pretext(network(), tmp_path)


class Harmful:
    def __reduce__(self):
        return (print, ("executed",))


def test_pickles_of_other_things_are_not_opened(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Not even where the description names their hash, as that of a stranger's bundle may."""
    save_pretext(network(), tmp_path, {})
    torch.save({"weight": Harmful()}, tmp_path / "model.pt")
    description = read_json(tmp_path / "model.json")
    description["files"]["model.pt"]["sha256"] = sha256(tmp_path / "model.pt")
    (tmp_path / "model.json").write_text(json.dumps(description))
    with pytest.raises(ValueError, match=r"model\.pt is not a file of tensors alone"):
        load_pretext(network(), tmp_path)
    assert "executed" not in capsys.readouterr().out


def test_other_width_names_both_sides(tmp_path: Path) -> None:
    save_pretext(network(), tmp_path, {})
    with pytest.raises(ValueError, match=r"shape \(8, 1, 3, 3, 3\), the network \(16, 1, 3, 3, 3\)|do not fit"):
        load_pretext(network(16), tmp_path)


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"model\.json"):
        load_pretext(network(), tmp_path)
    save_pretext(network(), tmp_path, {})
    (tmp_path / "heads.pt").unlink()
    with pytest.raises(FileNotFoundError, match=r"heads\.pt"):
        load_pretext(network(), tmp_path)
    (tmp_path / "model.json").write_text("{")
    with pytest.raises(ValueError, match=r"model\.json is not valid JSON"):
        load_pretext(network(), tmp_path)


def test_outside_of_a_run_the_config_is_empty_and_a_component_an_error() -> None:
    assert resolved_config() == {}
    with pytest.raises(
        RuntimeError, match="component 'network_def' cannot be looked up, expected a call from a bundle"
    ):
        resolved_component("network_def")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([1, 2], "model.pt holds a list, expected a state dict"),
        ({"a": 1}, "model.pt: a is a int, expected a tensor"),
        ({"a": torch.tensor([1.0, float("nan")])}, "model.pt: a holds NaN or infinite values"),
        ({"a": torch.tensor([1.0, float("-inf")])}, "model.pt: a holds NaN or infinite values"),
        (b"", "model.pt is not a file of tensors alone"),
        (b"PK garbage", "model.pt is not a file of tensors alone"),
    ],
)
def test_a_file_that_is_no_state_dict_of_numbers_is_named(content, words, tmp_path):
    path = tmp_path / "model.pt"
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    (tmp_path / "model.json").write_text(json.dumps({"files": {"model.pt": {"sha256": sha256(path)}}}))
    with pytest.raises(ValueError, match=words):
        read_weights(tmp_path)


@pytest.mark.parametrize(
    ("description", "words"),
    [
        ([], "model.json holds a JSON list, expected an object"),
        ({}, "model.json: files is None, expected an object with model.pt"),
        ({"files": ["model.pt"]}, "model.json: files is \\['model.pt'\\]"),
        ({"files": {}}, "expected model.pt"),
        ({"files": {"model.pt": {}}}, "model.json: files#model.pt#sha256 is missing"),
        ({"files": {"model.pt": "abc"}}, "model.json: files#model.pt#sha256 is missing"),
        ({"files": {"model.pt": {"sha256": None}}}, "model.json: files#model.pt#sha256 is missing"),
    ],
)
def test_a_description_without_a_hash_is_named(description, words, tmp_path):
    torch.save({"a": torch.zeros(1)}, tmp_path / "model.pt")
    (tmp_path / "model.json").write_text(json.dumps(description))
    with pytest.raises(ValueError, match=words):
        read_weights(tmp_path)
