# SPDX-License-Identifier: Apache-2.0
"""An evaluation goes on after a bad case, wherever it fails, and then names all of them."""

from __future__ import annotations

import logging

import pytest
import torch
from ignite.engine import Events
from monai.data import Dataset, MetaTensor
from monai.handlers import MeanDice, from_engine
from torch import nn

from custom.data import CaseLoader
from custom.engines import CaseEvaluator, CasePretextEvaluator, CasesFailed, PrepareBatch
from custom.handlers import MeanOutputs

FAULTS = {"loading": 1, "network": 2, "postprocessing": 3}


def item(number: int) -> dict:
    return {"image": f"folder/{number}.nii.gz", "number": number}


def load(entry: dict) -> dict:
    number = entry["number"]
    if number == FAULTS["loading"]:
        raise ValueError("half a file")
    image = MetaTensor(torch.full((1, 4, 4, 4), float(number)), meta={"filename_or_obj": entry["image"]})
    return {"image": image, "label": (image > 0).float(), "number": number}


class Network(nn.Module):
    def forward(self, image: torch.Tensor) -> torch.Tensor:
        if image.max() == FAULTS["network"]:
            raise RuntimeError("not enough memory")
        return (image > 0).float()


def postprocess(entry: dict) -> dict:
    if entry["image"].max() == FAULTS["postprocessing"]:
        raise RuntimeError("no inverse")
    return entry


def evaluator(numbers: list[int], **arguments) -> CaseEvaluator:
    metric = MeanDice(include_background=True, output_transform=from_engine(["pred", "label"]))
    return CaseEvaluator(
        device=torch.device("cpu"),
        val_data_loader=CaseLoader(Dataset([item(number) for number in numbers], load)),
        network=Network(),
        postprocessing=postprocess,
        key_val_metric={"mean_dice": metric},
        **arguments,
    )


class Seen:
    """A handler that writes down the cases it is given."""

    def __init__(self, error: Exception | None = None) -> None:
        self.numbers: list[int] = []
        self.error = error

    def attach(self, engine) -> None:
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.see)

    def see(self, engine) -> None:
        if self.error is not None:
            raise self.error
        self.numbers += [int(output["image"].max()) for output in engine.state.output]


def test_every_other_case_is_computed_and_the_last_lines_name_the_failures(caplog):
    seen = Seen()
    made = evaluator([4, 1, 5, 2, 3, 6], val_handlers=[seen])
    with caplog.at_level(logging.ERROR, "custom"), pytest.raises(CasesFailed) as caught:
        made.run()
    assert seen.numbers == [4, 5, 6] and made.state.metrics["mean_dice"] == 1
    first, *others = str(caught.value).splitlines()
    assert first == "3 of 6 cases have no result, those of the others are written:"
    assert [line.split(":")[0].strip() for line in others] == [f"folder/{number}.nii.gz" for number in (1, 2, 3)]
    for line, reason in zip(others, ("half a file", "not enough memory", "no inverse"), strict=True):
        assert reason in line and reason in caplog.text


def test_without_failures_nothing_is_raised():
    seen = Seen()
    evaluator([4, 5], val_handlers=[seen]).run()
    assert seen.numbers == [4, 5]


@pytest.mark.parametrize("numbers", [[1], [1, 1], [2], [3, 1]])
def test_no_case_at_all(numbers):
    with pytest.raises(CasesFailed, match=f"^none of {len(numbers)} cases has a result:"):
        evaluator(numbers).run()


def test_a_full_disk_ends_the_run():
    with pytest.raises(OSError, match="no space left"):
        evaluator([4, 1, 5], val_handlers=[Seen(OSError("no space left"))]).run()


def test_another_error_of_a_handler_is_named_beside_the_failures():
    with pytest.raises(CasesFailed, match=r"^one class; and 1 of 2 cases have no result:\n  folder/1.nii.gz: "):
        evaluator([1, 4], val_handlers=[Seen(ValueError("one class"))]).run()


def test_pairs(random_pairs):
    pairs = [{"moving": f"{number}a.nii.gz", "fixed": f"{number}b.nii.gz", "number": number} for number in (0, 1, 2)]

    def load_pair(pair: dict) -> dict:
        if pair["number"] == 1:
            raise ValueError("half a file")
        batch = random_pairs(1, (4, 4, 4), pair["number"])
        return {name: value[0] for name, value in batch.items()} | {"index": pair["number"]}

    class PairNetwork(nn.Module):
        def forward(self, batch: dict) -> dict:
            if batch["index"][0] == 2:
                raise RuntimeError("not enough memory")
            return {"value": batch["fixed"].mean(dim=(1, 2, 3, 4))}

    made = CasePretextEvaluator(
        device=torch.device("cpu"),
        val_data_loader=CaseLoader(Dataset(pairs, load_pair)),
        network=PairNetwork(),
        prepare_batch=PrepareBatch(),
        val_handlers=[MeanOutputs()],
    )
    with pytest.raises(CasesFailed) as caught:
        made.run()
    lines = str(caught.value).splitlines()
    assert lines[1].startswith("  1a.nii.gz and 1b.nii.gz: ") and "half a file" in lines[1]
    assert lines[2] == "  2a.nii.gz and 2b.nii.gz: RuntimeError: not enough memory"
    assert made.state.metrics["value"] == pytest.approx(float(random_pairs(1, (4, 4, 4), 0)["fixed"].mean()))
