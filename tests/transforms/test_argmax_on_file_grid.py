# SPDX-License-Identifier: Apache-2.0
"""ArgmaxOnFileGridd against MONAI's chain of softmax, Invertd and argmax, and what it needs of memory."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Activationsd, AsDiscreted, CenterSpatialCropd, Compose, Invertd, Orientationd
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation

from benchmarks.machine import CLEAR_REFS, peak_main_memory, reset_peak_memory
from custom.transforms import ArgmaxOnFileGridd, CheckedLoadImaged, ToSpacingd, argmax_on_grid

TURNED = Rotation.from_euler("xyz", [12, -8, 31], degrees=True).as_matrix()[:, [1, 2, 0]] * [-1, 1, 1]
GRIDS = {  # directions and spacing of the file, shape, classes, spacing of the network
    "oblique": (TURNED * [1.2, 3.0, 0.9], (24, 15, 27), 8, 2.0),
    "flipped": (np.diag([-0.4, -0.4, 0.5]), (60, 50, 40), 3, 3.5),
    "sheared": (np.array([[1, 0.2, 0], [0, 1.2, -0.1], [0, 0, 0.9]]), (30, 26, 28), 5, 2.0),
    "the same": (np.eye(3), (20, 18, 16), 3, 1.0),
    "finer": (np.diag([3.0, 3, 3]), (10, 11, 9), 29, 1.0),
    "thin": (np.diag([3.0, 3, 9]), (14, 12, 2), 29, 3.5),
}


def transformed(folder: Path, directions: np.ndarray, shape: tuple[int, ...], spacing: float) -> tuple[Compose, dict]:
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = directions, [40, -70, 300]
    path = folder / "image.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.random.default_rng(0).normal(size=shape).astype(np.float32), affine), path)
    orient = Orientationd("image", axcodes="RAS", labels=[["L", "R"], ["P", "A"], ["I", "S"]])
    chain = Compose([CheckedLoadImaged("image"), orient, ToSpacingd("image", [spacing] * 3, mode="bilinear")])
    return chain, dict(chain({"image": str(path)}))


def scores(classes: int, shape: torch.Size, sigma: float = 1.0) -> MetaTensor:
    generator = np.random.default_rng(1)
    maps = [gaussian_filter(generator.normal(size=tuple(shape)), sigma) for _ in range(classes)]
    return MetaTensor(torch.from_numpy(np.stack(maps)).float() * 30)


@pytest.mark.parametrize("grid", GRIDS)
def test_labels_and_geometry_are_those_of_monai(grid: str, tmp_path: Path) -> None:
    directions, shape, classes, spacing = GRIDS[grid]
    chain, item = transformed(tmp_path, directions, shape, spacing)
    item["pred"] = scores(classes, item["image"].shape[1:])
    stock = Compose(
        [
            Activationsd("pred", softmax=True),
            Invertd("pred", chain, orig_keys="image", nearest_interp=False),
            AsDiscreted("pred", argmax=True),
        ]
    )(dict(item))["pred"]
    ours = ArgmaxOnFileGridd("pred")(item)["pred"]
    assert ours.shape == stock.shape == (1, *shape) and ours.dtype == torch.uint8
    assert torch.allclose(ours.affine, stock.affine, atol=1e-9) and ours.meta.keys() == stock.meta.keys()
    assert len(stock.unique()) > classes / 2
    differing = int((ours.as_tensor() != stock.as_tensor()).sum())
    assert differing <= 1e-4 * stock.numel()  # equal values in float32


def test_a_case_by_hand() -> None:
    """Between 0.9 / 0.1 and 0.2 / 0.8 the classes are equal at 4/7 of the way; quarters of it are 0, 0, 0, 1, 1."""
    values = torch.tensor([[0.9, 0.2], [0.1, 0.8]]).reshape(2, 2, 1, 1)
    to_values = torch.diag(torch.tensor([0.25, 1, 1, 1], dtype=torch.float64))
    assert argmax_on_grid(values, to_values, (7, 1, 1)).flatten().tolist() == [0, 0, 0, 1, 1, 1, 1]  # last two: border
    third = torch.tensor([[0.5, 0.0], [0.4, 0.4], [0.0, 0.5]]).reshape(3, 2, 1, 1)  # a class between two others
    assert argmax_on_grid(third, to_values, (5, 1, 1)).flatten().tolist() == [0, 1, 1, 1, 2]


def test_slabs_and_parts_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    values = scores(4, torch.Size((9, 8, 7))).as_tensor().softmax(0)
    to_values = torch.diag(torch.tensor([0.3, 0.4, 0.5, 1], dtype=torch.float64))
    whole = argmax_on_grid(values, to_values, (28, 19, 13))
    monkeypatch.setattr("custom.transforms.argmax_on_file_grid.SLAB", 500)
    monkeypatch.setattr("custom.transforms.argmax_on_file_grid.ROWS", 64)
    assert torch.equal(argmax_on_grid(values, to_values, (28, 19, 13)), whole)


@pytest.mark.skipif(not CLEAR_REFS.exists(), reason="only Linux can start the peak of the memory anew")
def test_memory_does_not_grow_with_the_classes() -> None:
    values = scores(29, torch.Size((16, 16, 16)), 2.0).as_tensor().softmax(0)
    to_values = torch.diag(torch.tensor([0.1, 0.1, 0.1, 1], dtype=torch.float64))
    argmax_on_grid(values, to_values, (16, 16, 16))
    reset_peak_memory()
    before = peak_main_memory()
    argmax_on_grid(values, to_values, (128, 128, 200))
    assert peak_main_memory() - before < 100e6  # volumes of 29 classes in float32 have 380 MB


def test_more_than_256_classes() -> None:
    values = torch.zeros(300, 2, 1, 1)
    values[299, 0], values[256, 1] = 1, 1
    labels = argmax_on_grid(values, torch.eye(4, dtype=torch.float64), (2, 1, 1))
    assert labels.flatten().tolist() == [299, 256] and labels.dtype == torch.int32


def test_other_transforms_and_shapes_are_refused(tmp_path: Path) -> None:
    _, item = transformed(tmp_path, np.eye(3), (12, 12, 12), 1.0)
    item["pred"] = torch.zeros(2, 12, 12, 11)
    with pytest.raises(ValueError, match=r"pred has the shape \(2, 12, 12, 11\), image \(1, 12, 12, 12\)"):
        ArgmaxOnFileGridd("pred")(item)
    cropped = CenterSpatialCropd("image", (8, 8, 8))(item) | {"pred": torch.zeros(2, 8, 8, 8)}
    with pytest.raises(ValueError, match="image was transformed by .*Crop.*, expected some of"):
        ArgmaxOnFileGridd("pred")(cropped)
