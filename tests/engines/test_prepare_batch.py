# SPDX-License-Identifier: Apache-2.0
"""Batches go to the device and are transformed without gradient."""

from __future__ import annotations

import torch

from custom.engines import PrepareBatch, prepare_partial_labels


def test_volumes_are_moved_and_the_rest_is_kept():
    batch = {"moving": torch.ones(1, 1, 2, 2, 2), "name": ["a"], "index": torch.tensor([3])}
    prepared = PrepareBatch()(batch, torch.device("meta"))
    assert prepared["moving"].device.type == "meta"
    assert prepared["index"].device.type == "cpu" and prepared["name"] == ["a"]
    assert batch["moving"].device.type == "cpu"  # the loader's batch is left alone


def test_further_arguments_reach_the_tensors():
    prepared = PrepareBatch()({"moving": torch.ones(2, 1)}, torch.device("cpu"), non_blocking=True, dtype=torch.float64)
    assert prepared["moving"].dtype == torch.float64


def test_the_transform_sees_the_batch_on_the_device_without_gradient():
    seen = {}

    def double(batch: dict) -> dict:
        seen.update(device=batch["moving"].device.type, gradient=torch.is_grad_enabled())
        return batch | {"moving": 2 * batch["moving"]}

    prepared = PrepareBatch(double)({"moving": torch.ones(2, requires_grad=True)}, torch.device("cpu"))
    assert prepared["moving"].tolist() == [2, 2] and not prepared["moving"].requires_grad
    assert seen == {"device": "cpu", "gradient": False}
    assert torch.is_grad_enabled()


def test_partial_labels_come_with_their_absent_structures():
    batch = {"image": torch.ones(1, 1, 2, 2, 2), "label": torch.zeros(1, 1, 2, 2, 2), "absent": torch.tensor([[False]])}
    image, (label, absent) = prepare_partial_labels(batch, torch.device("cpu"), dtype=torch.float64)
    assert image.dtype == torch.float64 and label is batch["label"] and absent is batch["absent"]
