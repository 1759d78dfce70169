# SPDX-License-Identifier: Apache-2.0
"""The model of a run is copied to the folder from which inference reads it."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from pathlib import Path

from ignite import distributed as idist
from ignite.engine import Engine, Events

from ..files import atomic
from ..weights import read_weights

logger = logging.getLogger(__name__)


class PublishModel:
    """Replaces model.pt and model.json of a folder by those of the run at its end; on the first process only.

    MONAI Label needs it: it infers with models/model.pt of the bundle, not with the output of a run. Attach this
    handler after the one that writes the files. After an error the target is unchanged.

    Args:
        source: output of the run.
        target: folder of the bundle's weights.

    Raises:
        FileNotFoundError: the run has not written one of the files.
        ValueError: model.pt is not the file that model.json describes.
    """

    def __init__(self, source: str, target: str) -> None:
        self.source = Path(source)
        self.target = Path(target)

    def attach(self, trainer: Engine) -> None:
        """Registers on the trainer."""
        if idist.get_rank() == 0:
            trainer.add_event_handler(Events.COMPLETED, self.publish)

    def publish(self, trainer: Engine) -> None:
        """Writes both files under temporary names, then renames them."""
        read_weights(self.source)
        contents = {name: (self.source / name).read_bytes() for name in ("model.json", "model.pt")}
        with ExitStack() as stack:
            for name, content in contents.items():
                stack.enter_context(atomic(self.target / name, "the published model")).write_bytes(content)
        logger.info(f"copied the model of {self.source} to {self.target}")
