# SPDX-License-Identifier: Apache-2.0
"""The files of a registration: warped image, displacement field, measures of its quality."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events

from ..data.output_names import refuse_replacing_inputs
from ..files import finite, set_aside, write_json
from ..networks import ZMatchingHead
from ..volumes import check_geometry, image_name, load_image, load_volume, paths_of, whole_numbers, write_volume
from ..weights import origin_of
from .vector_nifti import write_displacement_field
from .world import pull_image, resample_displacement, world_displacement

logger = logging.getLogger(__name__)

REPORT = "registration.json"
WRITTEN = {
    "displacement_field": "displacement_field.nii.gz",
    "warped": "warped.nii.gz",
    "warped_label": "warped_label.nii.gz",
}
WORSE = 0.01  # rise of the registration loss, which lies in [0, 1], that is worth a warning
Grid = tuple[np.ndarray, tuple[int, ...]]  # affine and shape


def label_dice(moved: np.ndarray, fixed: np.ndarray) -> dict[int, float]:
    """Dice of each label of the fixed map except 0.

    Args:
        moved: (*spatial) label map.
        fixed: (*spatial) label map.

    Returns:
        label -> Dice in [0, 1].
    """
    labels = [int(label) for label in np.unique(fixed) if label != 0]
    return {
        label: float(
            2 * ((moved == label) & (fixed == label)).sum() / ((moved == label).sum() + (fixed == label).sum())
        )
        for label in labels
    }


def worse_than_before(measured: Mapping[str, float | None]) -> str | None:
    """A sentence where the volumes match worse after the registration than before it.

    Args:
        measured: with "registration_before" and the loss of the last stage, "registration_refined" or
            "registration_after"; where one is missing or None, nothing is said.
    """
    before = measured.get("registration_before")
    last = "registration_refined" if "registration_refined" in measured else "registration_after"
    after = measured.get(last)
    if before is None or after is None or after <= before + WORSE:
        return None
    return (
        f"the volumes match worse after the registration than before (registration_before {before:.4f}, {last} "
        f"{after:.4f}; lower is better): do not use the result, these weights may not suit such volumes"
    )


class RegistrationFiles:
    """Writes the files of a registered pair on the grid of the original fixed file.

    - warped.nii.gz: the original moving image, with its own intensities (float32), sampled once on the fixed grid;
      several channels are the last axis.
    - displacement_field.nii.gz: from a fixed point to its moving point; see `write_displacement_field`.
    - warped_label.nii.gz: only with a moving label map.
    - registration.json: files, grid and every measure of the evaluator. With both label maps, also the Dice of each
      label before the registration (with the centres of the preprocessed volumes on each other), after the affine
      stage, after both stages, and after the refinement if there was one (`RefineDisplacement`). The measures of the
      refined displacement have names with "refined"; the files are those of the refined displacement. It also holds the
      weights and, if they were trained on phantoms alone, a notice, which is logged too (`origin_of`), and so is
      "warning" if the volumes match worse than before (`worse_than_before`).

    Files of an earlier registration in the folder are moved to earlier/NUMBER. The mean Dice of each stage is added to
    the outputs of the evaluator, for handlers that come later.

    Args:
        directory: folder of the files; it is made. None of the four input files may be an output file.
        matching_head: the head that computed the outputs.
        background: value of the warped image outside the moving image; None for the minimum of each channel of the
            moving image.
        weights: file or folder of the weights; None says nothing about them.
    """

    def __init__(
        self,
        directory: str,
        matching_head: ZMatchingHead,
        background: float | None = None,
        weights: str | None = None,
    ) -> None:
        self.directory = Path(directory)
        self.matching_head = matching_head
        self.background = background
        self.weights = weights

    def attach(self, engine: Engine) -> None:
        """Register on an evaluator of a `RegistrationPair`."""
        engine.add_event_handler(Events.STARTED, self.start)
        engine.add_event_handler(Events.ITERATION_STARTED, self.check)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.write)

    def start(self, engine: Engine) -> None:
        """Move the files of an earlier registration away and read what the weights were trained on."""
        inputs = [path for image in engine.data_loader.dataset.files.values() for path in paths_of(image)]
        refuse_replacing_inputs(self.directory, WRITTEN.values(), inputs)
        pictures = {path.name for path in self.directory.glob("registration_*.png")}
        set_aside(self.directory, {*WRITTEN.values(), REPORT, *pictures})
        self.described: dict[str, Any] = {}
        if self.weights is not None:
            described, notice = origin_of(self.weights)
            self.described = {"weights": described} | ({"notice": notice} if notice else {})
            if notice:
                logger.warning(notice)

    def check(self, engine: Engine) -> None:
        """Refuse a pair whose files could not be written, before it is registered."""
        check_geometry(file_grid(engine.state.batch)[0], image_name(engine.data_loader.dataset.files["fixed"]))

    def write(self, engine: Engine) -> None:
        """Write the files of the pair of the last iteration."""
        batch, outputs = engine.state.batch, engine.state.output
        files, grid = engine.data_loader.dataset.files, file_grid(batch)
        field = resample_displacement(*millimetre_field(outputs["displacement"], batch), *grid)
        written = {name: WRITTEN[name] for name in ("displacement_field", "warped")}
        write_displacement_field(self.directory / written["displacement_field"], field, grid[0])
        background = self._write_warped(files["moving"], batch["moving"].shape[1], field, grid[0])

        measured = {
            name: finite(value) for name, value in outputs.items() if torch.is_tensor(value) and value.numel() == 1
        }
        if "moving_label" in files:
            moving_label = file_label(batch, "moving")
            warped_label = pull_image(*moving_label, field, grid[0], 0, nearest=True)
            written["warped_label"] = WRITTEN["warped_label"]
            write_volume(self.directory / written["warped_label"], warped_label, grid[0])
            if "fixed_label" in files:
                overlap = self._overlap(batch, outputs, grid, moving_label, warped_label)
                if not overlap["dice"]:
                    logger.warning(f"{files['fixed_label']}: every voxel is background, so there is no Dice")
                measured |= overlap
                engine.state.output = outputs | {
                    name: torch.tensor([value]) for name, value in overlap.items() if name != "dice"
                }
        affine = batch["fixed_affine"][0].cpu().numpy()
        size = outputs["displacement"].shape[2:]
        used = {"spacing": np.linalg.norm(affine[:3, :3], axis=0).round(6).tolist(), "size": list(size)}
        content = {**self.described, "files": files, "written": written, "outputs": list(written.values())}
        content |= {"background": background, "grid": used, **measured}
        warning = worse_than_before(measured)
        content |= {"warning": warning} if warning else {}
        write_json(self.directory / REPORT, content, "the measures of the registration")
        listed = ", ".join(f"{name} {value:.4f}" for name, value in measured.items() if isinstance(value, float))
        names = " to ".join(image_name(files[side]) for side in ("moving", "fixed"))
        logger.info(f"registered {names}: {listed}; written to {self.directory}")
        if warning:
            logger.warning(warning)

    def _write_warped(
        self, file: str | list[str], channels: int, field: np.ndarray, affine: np.ndarray
    ) -> float | list[float]:
        """Write the original moving image on the fixed grid; returns the value outside it, of each channel if many."""
        moving = load_image(file, channels)
        lowest = [float(channel.min()) for channel in moving.as_tensor()]
        background = lowest if self.background is None else [self.background] * channels
        warped = [
            pull_image(channel.numpy(), np.asarray(moving.affine), field, affine, outside)
            for channel, outside in zip(moving.as_tensor(), background, strict=True)
        ]
        write_volume(self.directory / WRITTEN["warped"], warped[0] if channels == 1 else np.stack(warped, -1), affine)
        return background[0] if channels == 1 else background

    def _overlap(
        self,
        batch: dict[str, Any],
        outputs: dict[str, Any],
        grid: Grid,
        moving_label: tuple[np.ndarray, np.ndarray],
        warped_label: np.ndarray,
    ) -> dict[str, Any]:
        """Entries of registration.json: "dice" of each label and stage, and the mean "dice_STAGE" over the labels.

        `moving_label` is a map and its affine, `warped_label` this map, warped by the final displacement.
        """
        fixed = batch["fixed_file_label"][0].cpu().numpy()
        zero = torch.zeros_like(outputs["local_displacement"])
        affine_map = outputs.get("network_affine_matrix", outputs["affine_matrix"])
        stages = {"before": zero, "affine": self.matching_head.conventions.displacement(affine_map, zero)}
        last = "after"
        if "network_displacement" in outputs:
            stages["after"], last = outputs["network_displacement"], "refined"
        dice = {}
        for stage, displacement in stages.items():
            field = resample_displacement(*millimetre_field(displacement, batch), *grid)
            dice[stage] = label_dice(pull_image(*moving_label, field, grid[0], 0, nearest=True), fixed)
        dice[last] = label_dice(warped_label, fixed)
        per_label = {str(label): {stage: dice[stage][label] for stage in dice} for label in dice[last]}
        means = {f"dice_{stage}": float(np.mean(list(values.values()))) for stage, values in dice.items() if values}
        return means | {"dice": per_label}


def file_grid(batch: Mapping[str, Any]) -> Grid:
    """Affine and shape of the fixed file of a batch of one `RegistrationPair`."""
    return batch["fixed_file_affine"][0].cpu().numpy(), tuple(batch["fixed_file_shape"][0].tolist())


def file_label(batch: Mapping[str, Any], side: str) -> tuple[np.ndarray, np.ndarray]:
    """(label map, affine) of a file of a batch of one `RegistrationPair`; `side` is "moving" or "fixed"."""
    return tuple(batch[f"{side}_file_{name}"][0].cpu().numpy() for name in ("label", "affine"))


def millimetre_field(displacement: torch.Tensor, batch: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """The displacement of a pair in millimetres, RAS, (3, *spatial), and its affine; see `world_displacement`.

    Args:
        displacement: (1, 3, *spatial), voxels.
        batch: with "moving_affine" and "fixed_affine" of `RegistrationPair`, (1, 4, 4).
    """
    moving_affine, fixed_affine = (batch[f"{side}_affine"][0].cpu().numpy() for side in ("moving", "fixed"))
    return world_displacement(displacement[0].float().cpu().numpy(), moving_affine, fixed_affine), fixed_affine


def read_label(path: str) -> tuple[np.ndarray, np.ndarray]:
    """(label map in the smallest of int16, int32 and int64 that holds its values, affine)."""
    label = load_volume(path, is_label=True)
    return whole_numbers(label), np.asarray(label.affine)
