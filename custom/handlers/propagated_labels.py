# SPDX-License-Identifier: Apache-2.0
"""The label maps that registered atlases vote for, as NIfTI files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from ignite.engine import Engine
from tqdm import tqdm

from ..registration import Vote, elect, file_grid, millimetre_field
from ..volumes import write_volume
from .case_files import CaseFiles


class PropagatedLabels(CaseFiles):
    """Writes OUTPUT_label.nii.gz for each volume, on the grid of its file: at each voxel the value that wins the vote.

    report.json (see `CaseFiles`) has for each case "atlases", the number of maps that voted, and "agreement", the mean
    share of votes for the winner over the voxels where any atlas has a label (`custom.registration.elect`). A low
    agreement means that the atlases were registered badly, or do not fit.

    Args:
        directory: where the files go.
        data: the volumes, see `custom.registration.AtlasPairs`.
        weights: file or folder of the weights.
    """

    are_labels = True

    def start(self, engine: Engine) -> None:
        """As `CaseFiles`; no map has voted."""
        super().start(engine)
        self.votes: list[Vote] = []
        self.progress = tqdm(total=len(engine.data_loader.dataset), desc="pairs", unit="pair", delay=10, mininterval=1)
        self.item: dict[str, Any] = {}

    def inputs(self, engine: Engine) -> list[str]:
        """As `CaseFiles`, and the images and label maps of the atlases."""
        return engine.data_loader.dataset.inputs

    def output_of(self, item: Mapping[str, Any]) -> str:
        return f"{item['output']}_label.nii.gz"

    def collect(self, engine: Engine) -> None:
        """Adds the vote of the pair of the last iteration."""
        batch = engine.state.batch
        self.progress.update(engine.state.iteration - self.progress.n)
        if batch["output"][0] != self.item.get("output"):
            self.count_votes()
            self.item = {name: batch[name][0] for name in ("subject", "output")}
            self.grid = file_grid(batch)
        label, affine = (batch[f"moving_file_{name}"][0].cpu().numpy() for name in ("label", "affine"))
        self.votes.append(Vote(label, affine, *millimetre_field(engine.state.output["displacement"], batch)))

    def finish(self, engine: Engine) -> None:
        """Counts the votes of the last volume and writes the last report."""
        self.count_votes()
        self.progress.close()
        super().finish(engine)

    def count_votes(self) -> None:
        """Writes the label map of the volume whose votes are there, if any."""
        if not self.votes:
            return
        winner, agreement = elect(self.votes, *self.grid)
        name = self.output_of(self.item)
        write_volume(self.directory / name, winner, np.asarray(self.grid[0]), allow_shear=True)
        case = {"subject": self.item["subject"], "case": self.item["output"], "file": name}
        self.cases.append(case | {"atlases": len(self.votes), "agreement": agreement})
        self.votes.clear()
