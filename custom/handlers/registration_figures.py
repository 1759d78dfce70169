# SPDX-License-Identifier: Apache-2.0
"""Pictures of registered pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite import distributed as idist
from ignite.engine import Engine, Events

from ..data.origin import is_phantom
from ..figures import GrayScale, RegisteredPair, registration_figure, registration_in_words, save_figure
from ..layers import warp
from ..registration import pull_image
from ..volumes import load_volume

SIDES = ("moving", "fixed")


class RegistrationFigures:
    """Draws the first pairs of each evaluation as registration_PAIR.png; on the first process only.

    Args:
        directory: where the pictures go.
        spacing: voxel size of the pairs in millimetres, of each axis.
        gray_scale: of the pairs.
        pairs: number of pairs.
    """

    def __init__(self, directory: str, spacing: Sequence[float], gray_scale: GrayScale, pairs: int = 2) -> None:
        self.directory = Path(directory)
        self.spacing = spacing
        self.gray_scale = gray_scale
        self.pairs = pairs

    def attach(self, engine: Engine) -> None:
        """Registers on an evaluator of pairs with file names, whose outputs hold "warped" and "displacement"."""
        if idist.get_rank() == 0:
            engine.add_event_handler(Events.ITERATION_COMPLETED, self.draw)

    def draw(self, engine: Engine) -> None:
        batch, outputs = engine.state.batch, engine.state.output
        for row, index in enumerate(batch["index"].tolist()):
            if index >= self.pairs or "warped" not in outputs:
                continue
            files = [batch[f"{side}_file"][row] for side in SIDES]
            volumes = batch["moving"][row, 0], batch["fixed"][row, 0], outputs["warped"][row, 0]
            arrays = [_array(tensor) for tensor in (*volumes, outputs["displacement"][row])]
            pair = RegisteredPair(*arrays, self.spacing, _labels(batch, outputs, row))
            title = " registered to ".join(Path(file).name.split(".")[0] for file in files)
            title += f": {registration_in_words(_measures(outputs, row))}"
            figure = registration_figure(pair, self.gray_scale, title, any(map(is_phantom, files)))
            save_figure(figure, self.directory / f"registration_{index}.png")


def _array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().float().cpu().numpy()


def _labels(batch: Mapping[str, Any], outputs: Mapping[str, Any], row: int) -> tuple[np.ndarray, ...] | None:
    """Label maps (*spatial) of moving, fixed and warped, or None if the batch names none."""
    displacement = outputs["displacement"][row : row + 1]
    if "moving_label" in batch and "fixed_label" in batch:
        moving, fixed = (batch[f"{side}_label"][row : row + 1].float() for side in SIDES)
    elif "moving_label_file" in batch and "fixed_label_file" in batch:
        moving, fixed = (_label_on_grid(batch, side, row).to(displacement) for side in SIDES)
    else:
        return None
    warped = warp(moving, displacement, mode="nearest")
    return tuple(_array(label[0, 0]) for label in (moving, fixed, warped))


def _label_on_grid(batch: Mapping[str, Any], side: str, row: int) -> torch.Tensor:
    """The label map of a file on the grid of the batch, (1, 1, *spatial)."""
    label = load_volume(batch[f"{side}_label_file"][row], is_label=True)
    grid, still = batch[f"{side}_affine"][row].cpu().numpy(), np.zeros((3, *batch[side].shape[2:]), np.float32)
    pulled = pull_image(label[0].numpy(), np.asarray(label.affine), still, grid, 0, nearest=True)
    return torch.as_tensor(pulled)[None, None]


def _measures(outputs: Mapping[str, Any], row: int) -> dict[str, float]:
    prefixes = ("registration_", "dice_", "folded_")
    return {name: float(value[row]) for name, value in outputs.items() if name.startswith(prefixes)}
