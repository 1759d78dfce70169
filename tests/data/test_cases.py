# SPDX-License-Identifier: Apache-2.0
"""Cases that cannot be read are left out of the batches and named."""

from __future__ import annotations

import pytest
import torch
from monai.data import Dataset

from custom.data import CaseLoader
from custom.volumes import VolumeError

ITEMS = [{"image": f"folder/{number}.nii.gz", "value": number} for number in range(5)]


def load(item: dict) -> dict:
    if item["value"] in (1, 2):
        raise VolumeError(f"{item['image']}: every voxel is 7, expected contrast")
    if item["value"] == 4:
        raise KeyError("mask")
    return {"value": torch.tensor(item["value"])}


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("batch_size", [1, 2])
def test_the_others_are_given_and_the_failures_named(batch_size: int, workers: int, caplog) -> None:
    loader = CaseLoader(Dataset(ITEMS, load), batch_size=batch_size, num_workers=workers)
    for _ in range(2):  # each time anew
        values = [value for batch in loader for value in batch["value"].tolist()]
        assert values == [0, 3]
        assert [failure.case for failure in loader.failures] == [f"folder/{number}.nii.gz" for number in (1, 2, 4)]
    assert str(loader.failures[0]) == "folder/1.nii.gz: every voxel is 7, expected contrast"
    assert "preprocessing failed" in str(loader.failures[2]) and "KeyError: 'mask'" in str(loader.failures[2])
    assert "no result for folder/2.nii.gz: every voxel is 7" in caplog.text


def test_a_disk_that_is_full_is_no_fault_of_a_case() -> None:
    class Cache:
        data = ITEMS

        def __len__(self) -> int:
            return 5

        def __getitem__(self, index: int) -> dict:
            raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        list(CaseLoader(Cache()))
