# SPDX-License-Identifier: Apache-2.0
"""The product of a run goes where inference looks for it."""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path

from ignite import distributed as idist
from ignite.engine import Engine, Events

from ..weights import read_weights

logger = logging.getLogger(__name__)


class PublishModel:
    """When the trainer ends, model.pt and model.json of the run replace those of another folder; first process only.

    For MONAI Label, which infers with a bundle's models/model.pt and never with a run's output. Attach it after the
    handler that writes the files.

    Args:
        source: output of the run. target: folder of the bundle's weights.

    Raises:
        FileNotFoundError: at the end, a file is missing. ValueError: model.pt is not what model.json describes. The
            target is as it was then.
    """

    def __init__(self, source: str, target: str) -> None:
        self.source = Path(source)
        self.target = Path(target)

    def attach(self, trainer: Engine) -> None:
        """Registers on the trainer."""
        if idist.get_rank() == 0:
            trainer.add_event_handler(Events.COMPLETED, self.publish)

    def publish(self, trainer: Engine) -> None:
        """Copies both files under other names, then renames them."""
        read_weights(self.source)
        self.target.mkdir(parents=True, exist_ok=True)
        copies = {self.target / name: self.target / f".{name}.tmp" for name in ("model.pt", "model.json")}
        for place, copy in copies.items():
            shutil.copyfile(self.source / place.name, copy)
        for place, copy in copies.items():
            os.replace(copy, place)
        logger.info(f"{self.target} has the model of {self.source} now")
