# SPDX-License-Identifier: Apache-2.0
"""What a registration leaves behind: the warped image, the displacement field, figures of its quality."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events

from ..files import write_json
from ..networks import ZMatchingHead
from ..volumes import load_volume, write_volume
from .vector_nifti import write_displacement_field
from .world import pull_image, resample_displacement, world_displacement

logger = logging.getLogger(__name__)

Grid = tuple[np.ndarray, tuple[int, ...]]  # affine and shape


def label_dice(moved: np.ndarray, fixed: np.ndarray) -> dict[int, float]:
    """Dice of each label (not 0) of the fixed map, in [0, 1]. Two label maps of one shape."""
    labels = [int(label) for label in np.unique(fixed) if label != 0]
    return {
        label: float(
            2 * ((moved == label) & (fixed == label)).sum() / ((moved == label).sum() + (fixed == label).sum())
        )
        for label in labels
    }


class RegistrationFiles:
    """Writes a registered pair, on the grid of the original fixed file:

    - warped.nii.gz: the original moving image (its own intensities, float32) in the fixed image, sampled once;
    - displacement_field.nii.gz: see `write_displacement_field`; moves a fixed point to its moving point;
    - warped_label.nii.gz, where a moving label map was given;
    - registration.json: files, grid, every measure of the evaluator, and with both label maps the Dice of each label
      before (the centres of the preprocessed volumes laid over each other), after the affine stage, and after both.

    Args:
        directory: where they go; made if missing.
        matching_head: the head that made the outputs.
        background: value of the warped image outside of the moving one; None for the moving image's minimum.
    """

    def __init__(self, directory: str, matching_head: ZMatchingHead, background: float | None = None) -> None:
        self.directory = Path(directory)
        self.matching_head = matching_head
        self.background = background

    def attach(self, engine: Engine) -> None:
        """Registers on an evaluator of a `RegistrationPair`."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.write)

    def write(self, engine: Engine) -> None:
        """Writes the pair that the engine has just registered."""
        batch, outputs = engine.state.batch, engine.state.output
        files = {name.removesuffix("_file"): batch[name][0] for name in batch if name.endswith("_file")}
        fixed = load_volume(files["fixed"])
        grid = np.asarray(fixed.affine), tuple(fixed.shape[1:])
        del fixed
        self.directory.mkdir(parents=True, exist_ok=True)

        field = self._field(outputs["displacement"], batch, grid)
        written = {"displacement_field": "displacement_field.nii.gz", "warped": "warped.nii.gz"}
        write_displacement_field(self.directory / written["displacement_field"], field, grid[0])
        moving = load_volume(files["moving"])
        background = float(moving.min()) if self.background is None else self.background
        warped = pull_image(moving[0].numpy(), np.asarray(moving.affine), field, grid[0], background)
        write_volume(self.directory / written["warped"], warped, grid[0])
        del moving, warped

        measured = {
            name: float(value) for name, value in outputs.items() if torch.is_tensor(value) and value.numel() == 1
        }
        if "moving_label" in files:
            moving_label, affine = _read_label(files["moving_label"])
            warped_label = pull_image(moving_label, affine, field, grid[0], 0, nearest=True)
            written["warped_label"] = "warped_label.nii.gz"
            write_volume(self.directory / written["warped_label"], warped_label, grid[0])
            if "fixed_label" in files:
                measured |= self._overlap(files, batch, outputs, grid, warped_label)
        affine = batch["fixed_affine"][0].cpu().numpy()
        size = outputs["displacement"].shape[2:]
        used = {"spacing": np.linalg.norm(affine[:3, :3], axis=0).round(6).tolist(), "size": list(size)}
        content = {"files": files, "written": written, "background": background, "grid": used, **measured}
        write_json(self.directory / "registration.json", content)
        shown = ", ".join(f"{name} {value:.4f}" for name, value in measured.items() if isinstance(value, float))
        logger.info(f"registered {files['moving']} to {files['fixed']}: {shown}; written to {self.directory}")

    def _field(self, displacement: torch.Tensor, batch: dict[str, Any], grid: Grid) -> np.ndarray:
        """A displacement of the pair (1, 3, *spatial) in voxels -> in millimetres on the original fixed grid."""
        moving_affine, fixed_affine = (batch[f"{side}_affine"][0].cpu().numpy() for side in ("moving", "fixed"))
        world = world_displacement(displacement[0].float().cpu().numpy(), moving_affine, fixed_affine)
        return resample_displacement(world, fixed_affine, *grid)

    def _overlap(
        self, files: dict[str, str], batch: dict[str, Any], outputs: dict[str, Any], grid: Grid, after: np.ndarray
    ) -> dict[str, Any]:
        """ "dice" of each label and its means "dice_before", "dice_affine", "dice_after"."""
        fixed, _ = _read_label(files["fixed_label"])
        moving, affine = _read_label(files["moving_label"])
        zero = torch.zeros_like(outputs["local_displacement"])
        stages = {"before": zero, "affine": self.matching_head.conventions.displacement(outputs["affine_matrix"], zero)}
        dice = {}
        for stage, displacement in stages.items():
            field = self._field(displacement, batch, grid)
            dice[stage] = label_dice(pull_image(moving, affine, field, grid[0], 0, nearest=True), fixed)
        dice["after"] = label_dice(after, fixed)
        per_label = {str(label): {stage: dice[stage][label] for stage in dice} for label in dice["after"]}
        means = {f"dice_{stage}": float(np.mean(list(values.values()))) for stage, values in dice.items() if values}
        return means | {"dice": per_label}


def _read_label(path: str) -> tuple[np.ndarray, np.ndarray]:
    """A label map as int16, or int32 where its values ask for it, and its affine."""
    label = load_volume(path, is_label=True)
    fits = np.abs(label[0].numpy()).max() <= np.iinfo(np.int16).max
    return label[0].numpy().astype(np.int16 if fits else np.int32), np.asarray(label.affine)
