# SPDX-License-Identifier: Apache-2.0
"""The authors' checkpoint in our names and back: nothing left over, the same bytes, clear refusals."""

from __future__ import annotations

import subprocess
import sys
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch

from custom.networks import UNet3D
from custom.weights import load_pretext, network_from, read_weights
from custom.weights.authors import from_authors, read_authors_state, their_name

ROOT = Path(__file__).resolve().parents[2]


def conv(name: str, inside: int, outside: int, side: int = 3) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (outside, inside, side, side, side), f"{name}.bias": (outside,)}


def group(name: str, inside: int, outside: int) -> dict[str, tuple[int, ...]]:
    """Two convolutions with group norm each, as the authors' `double_conv`."""
    shapes: dict[str, tuple[int, ...]] = {}
    for layer, width in ((0, inside), (3, outside)):
        shapes |= conv(f"{name}.double_conv.{layer}", width, outside)
        shapes |= {f"{name}.double_conv.{layer + 1}.{kind}": (outside,) for kind in ("weight", "bias")}
    return shapes


def authors_model(width: int = 32, affine: int = 256, local: int = 16) -> dict[str, torch.Tensor]:
    """Random tensors with the names and shapes of the released model, written down from its description."""
    w = [width * 2**level for level in range(5)]
    shapes = group("unet.inc", 1, w[0])
    for level in range(1, 5):
        shapes |= group(f"unet.down{level}.maxpool_conv.1", w[level - 1], w[level])
        shapes |= group(f"unet.up{level}.conv", w[5 - level] + w[4 - level], w[4 - level])
    shapes |= group("f_conv", 2 * w[4], affine) | group("sp_conv", 2 * w[0], local) | conv("out_flow", local, 3)
    shapes |= conv("res_conv.0", w[0], 16) | {"res_conv.1.weight": (16,), "res_conv.1.bias": (16,)}
    shapes |= conv("res_conv.3", 16, 1, side=1)
    for name, numbers in (("fc_rot", 3), ("fc_scl", 3), ("fc_trans", 3), ("fc_shear", 6)):
        shapes |= {f"{name}.weight": (numbers, affine), f"{name}.bias": (numbers,)}
    generator = torch.Generator().manual_seed(0)
    return OrderedDict((name, torch.randn(shape, generator=generator)) for name, shape in shapes.items())


def convert(*arguments: str | Path) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "tools.convert_weights", *arguments]
    return subprocess.run(list(map(str, command)), cwd=ROOT, capture_output=True, encoding="utf-8")


def test_the_full_model_converts_completely_and_back_to_the_same_bytes(tmp_path: Path) -> None:
    state = authors_model()
    assert len(state) == 104 and sum(tensor.numel() for tensor in state.values()) == 32_440_739
    torch.save(state, tmp_path / "authors.pth")
    done = convert("from_authors", "--source", tmp_path / "authors.pth", "--output_dir", tmp_path / "ours")
    assert done.returncode == 0, done.stderr
    backbone, description = read_weights(tmp_path / "ours")
    assert len(backbone) == 72 and description["network"]["channels"] == [32, 64, 128, 256, 512]
    network = network_from(description)
    network.load_state_dict(backbone)
    done = convert("to_authors", "--source", tmp_path / "ours", "--output_file", tmp_path / "back.pth")
    assert done.returncode == 0, done.stderr
    back = torch.load(tmp_path / "back.pth", weights_only=True)
    assert back.keys() == state.keys()
    assert all(tensor.numpy().tobytes() == back[name].numpy().tobytes() for name, tensor in state.items())


def test_the_heads_fit_the_pretext_network(tmp_path: Path, make_pretext) -> None:
    """Widths are read from the file; the converted folder loads as a pretext network."""
    torch.save(authors_model(width=8, affine=24, local=8), tmp_path / "authors.pth")
    assert convert("from_authors", tmp_path / "authors.pth", tmp_path / "ours").returncode == 0
    network = make_pretext(channels=(8, 16, 32, 64, 128), affine=24, deformable=8, restoration=16)
    load_pretext(network, tmp_path / "ours")
    assert torch.equal(network.matching_head.affine_head.shear.weight, authors_model(8, 24, 8)["fc_shear.weight"])


@torch.no_grad()
@pytest.mark.parametrize("prefix", ["", "unet."])
def test_the_reference_network_gives_its_stored_features(prefix: str, shared_data: Path, tmp_path: Path) -> None:
    with np.load(shared_data / "reference" / "authors_modules.npz") as arrays:
        state = {
            prefix + name.removeprefix("unet_state/"): torch.from_numpy(arrays[name])
            for name in arrays
            if name.startswith("unet_state/")
        }
        image, bottleneck, local = (torch.from_numpy(arrays[f"unet_{n}"]) for n in ("input", "bottleneck", "local"))
    torch.save(state, tmp_path / "authors.pth")
    backbone, heads, channels = from_authors(read_authors_state(tmp_path / "authors.pth"), "authors.pth")
    assert not heads and channels == [8, 16, 32, 64, 128]
    network = UNet3D(1, channels).eval()
    network.load_state_dict(backbone)
    found = network.forward_features(image)
    torch.testing.assert_close(found[0], bottleneck, atol=1e-5, rtol=0)
    torch.testing.assert_close(found[1], local, atol=1e-5, rtol=0)


def test_what_is_missing_left_over_or_of_another_shape_is_named() -> None:
    state = authors_model(8, 24, 8)
    del state["unet.up2.conv.double_conv.3.bias"]
    state["extra"] = torch.zeros(1)
    state["fc_rot.weight"] = torch.zeros(3, 7)
    with pytest.raises(ValueError) as error:
        from_authors(state, "F.pth")
    text = str(error.value)
    assert "F.pth is not a model of the authors, 3 tensors do not fit" in text
    assert "unet.up2.conv.double_conv.3.bias is missing" in text and "extra is not in the model" in text
    assert "fc_rot.weight has shape (3, 7), expected (3, 24)" in text
    with pytest.raises(ValueError, match="inc.double_conv.0.weight is missing, expected a U-Net"):
        from_authors({"conv.weight": torch.zeros(1)}, "F.pth")
    with pytest.raises(ValueError, match="sp_conv.double_conv.0.weight is missing, although"):
        from_authors({name: tensor for name, tensor in state.items() if "sp_conv" not in name}, "F.pth")


class Harmful:
    def __reduce__(self):
        return (print, ("executed",))


def test_pickles_of_other_things_are_not_opened(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    torch.save({"weights": Harmful()}, tmp_path / "bad.pth")
    with pytest.raises(ValueError, match=r"bad\.pth is not a file of tensors alone"):
        read_authors_state(tmp_path / "bad.pth")
    assert "executed" not in capsys.readouterr().out
    (tmp_path / "half.pth").write_bytes((tmp_path / "bad.pth").read_bytes()[:60])
    with pytest.raises(ValueError, match=r"half\.pth is not a file of tensors alone"):
        read_authors_state(tmp_path / "half.pth")
    torch.save({"epoch": 3}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"other\.pth: epoch is a int, expected a tensor"):
        read_authors_state(tmp_path / "other.pth")
    for text in ("Quota exceeded", "https://drive", "GVSL"):  # what a download may bring instead
        (tmp_path / "text.pth").write_text(text)
        with pytest.raises(ValueError, match=r"text\.pth is not a file of tensors alone"):
            read_authors_state(tmp_path / "text.pth")
    with pytest.raises(FileNotFoundError, match="none.pth does not exist"):
        read_authors_state(tmp_path / "none.pth")


def test_the_shipped_weights_go_to_the_authors_names_without_their_heads(tmp_path: Path) -> None:
    models = ROOT / "bundles" / "gvsl_pretrain" / "models"
    done = convert("to_authors", models, tmp_path / "F.pth")
    assert done.returncode != 0 and "keypoints" in done.stderr
    assert convert("to_authors", models, tmp_path / "F.pth", "--backbone_only").returncode == 0
    state = torch.load(tmp_path / "F.pth", weights_only=True)
    assert len(state) == 72
    ours = read_weights(models)[0]
    assert all(torch.equal(state[their_name(name)], tensor) for name, tensor in ours.items())
