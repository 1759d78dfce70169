# SPDX-License-Identifier: Apache-2.0
"""Checkpoints; a run that was killed and resumes from one gives the same result as an uninterrupted run."""

from __future__ import annotations

import logging
import random
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite import distributed as idist
from ignite.engine import Engine, Events
from ignite.handlers import Checkpoint
from ignite.handlers.checkpoint import BaseSaveHandler

from ..data import write_seen
from ..files import load_tensors, write_tensors
from ..running import resolved_config
from .kept_settings import keep_settings
from .run_settings import RunSettings

logger = logging.getLogger(__name__)

SETTINGS = "settings.json"


class RandomState:
    """The random state of Python, NumPy and PyTorch as tensors and numbers, for a checkpoint read with weights_only."""

    def state_dict(self) -> dict[str, Any]:
        """All generators of this process."""
        version, words, gauss = random.getstate()
        name, keys, position, has_gauss, cached = np.random.get_state()
        return {
            "python": [version, list(words), gauss],
            "numpy": [name, torch.from_numpy(keys.astype(np.int64)), int(position), int(has_gauss), float(cached)],
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Sets all generators; those of CUDA only if this process has as many devices."""
        version, words, gauss = state["python"]
        random.setstate((version, tuple(words), gauss))
        name, keys, *rest = state["numpy"]
        np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))
        torch.set_rng_state(state["torch"].cpu())
        if len(state["cuda"]) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all([generator.cpu() for generator in state["cuda"]])


class _Scaler:
    """The gradient scaler of a trainer, which exists only while the trainer runs with mixed precision."""

    def __init__(self, trainer: Engine) -> None:
        self.trainer = trainer

    def state_dict(self) -> dict[str, Any]:
        return {} if self.trainer.scaler is None else self.trainer.scaler.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state and self.trainer.scaler is not None:
            self.trainer.scaler.load_state_dict(state)


class _CheckpointFiles(BaseSaveHandler):
    """Writes checkpoints with `custom.files`, on the first process only. On a full disk the error names the file.

    Args:
        directory: folder of the files.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def __call__(self, checkpoint: Mapping, filename: str, metadata: Mapping | None = None) -> None:
        if idist.get_rank() == 0:
            write_tensors(self.directory / filename, checkpoint, "the checkpoint")

    def remove(self, filename: str) -> None:
        if idist.get_rank() == 0:
            (self.directory / filename).unlink(missing_ok=True)  # someone may have made room on the disk


class TrainingState:
    """Saves after each epoch all that a run needs to continue, and loads it when a run starts that resumes.

    A checkpoint holds the objects, the iteration and epoch, the gradient scaler and the random state. Files are written
    under a temporary name and then renamed; checkpoints before the last two are deleted. A run that resumes with other
    learning rates or more epochs has the schedule of its own config (`keep_settings`).

    Args:
        directory: folder of the files checkpoint_ITERATION.pt.
        objects: name -> object with `state_dict` and `load_state_dict`: network, optimiser, schedule.
        resume: continue at the newest checkpoint of the directory; without one the run starts at the beginning.
        interval: number of epochs between checkpoints.
        data: training items; a run that resumes must have the same volumes, see `RunSettings`, and an evaluation tells
            if it repeats them (`write_seen`).
        accept_changes: keys of the config that may differ where a run resumes, see `RunSettings`.
    """

    def __init__(
        self,
        directory: str,
        objects: dict[str, Any],
        resume: bool = False,
        interval: int = 1,
        data: Sequence[dict[str, Any]] | None = None,
        accept_changes: Sequence[str] = (),
    ) -> None:
        self.directory = Path(directory)
        self.objects = objects
        self.resume = resume
        self.interval = interval
        self.data = data
        self.settings = RunSettings(self.directory / SETTINGS, resolved_config(), data, accept_changes)

    def attach(self, trainer: Engine) -> None:
        """Registers on a trainer. Attach it first: it loads before other handlers start, and saves after them."""
        self._saved = {**self.objects, "trainer": trainer, "scaler": _Scaler(trainer), "random_state": RandomState()}
        self._save: Checkpoint | None = None
        trainer.add_event_handler(Events.STARTED, self.start)

    def start(self, trainer: Engine) -> None:
        """Loads, and registers the saving after each epoch, after all handlers that are attached before the start."""
        self.load(trainer)
        if self._save is None:
            if idist.get_rank() == 0:
                self.settings.write()
                if self.data is not None:
                    write_seen(self.directory.parent, self.data)
            self._save = Checkpoint(
                self._saved,
                _CheckpointFiles(self.directory),
                filename_pattern="checkpoint_{global_step}.pt",
                global_step_transform=lambda engine, _: engine.state.iteration,
                n_saved=2,
            )
            # the new Checkpoint then deletes the files of the stopped process too
            self._save.load_state_dict({"_saved": [(number, path.name) for number, path in self.files()][-2:]})
            trainer.add_event_handler(Events.EPOCH_COMPLETED(every=self.interval), self._save)

    def load(self, trainer: Engine) -> None:
        """Loads the newest checkpoint if the run resumes.

        Raises:
            ValueError: the run began with other settings (see `RunSettings`); the checkpoint has more iterations than
                the run shall have, or is of another network or optimiser; none of the files can be read; or the
                processes of several nodes do not see the same files.
        """
        if not self.resume:
            return
        paths = [path for _, path in self.files()]
        self.check_seen_by_all()
        if not paths:
            logger.info(f"no checkpoint in {self.directory}: the run starts at the beginning")
            return
        self.settings.check()
        max_epochs, epoch_length = trainer.state.max_epochs, trainer.state.epoch_length
        device = trainer.state.device
        newest, checkpoint = self.read(paths[::-1], device)
        restore_settings = keep_settings(self.objects.values())
        try:
            Checkpoint.load_objects(self._saved, checkpoint)
        except (KeyError, RuntimeError, ValueError) as error:
            raise ValueError(f"{newest} is of another network or optimiser: {error}") from error
        done, planned = trainer.state.iteration, max_epochs * epoch_length
        if trainer.state.epoch_length != epoch_length or done > planned:
            content = f"{done} iterations in epochs of {trainer.state.epoch_length}"
            raise ValueError(f"{newest} holds {content}, expected at most {planned} in epochs of {epoch_length}")
        restore_settings()
        trainer.state.max_epochs = max_epochs
        logger.info(f"resumed at iteration {done} of {planned} from {newest}")

    def check_seen_by_all(self) -> None:
        """Raises ValueError unless all processes see the same newest checkpoint."""
        newest = max((number for number, _ in self.files()), default=0)
        seen = idist.all_gather(newest) if idist.get_world_size() > 1 else [newest]
        if len(set(seen)) > 1:
            raise ValueError(
                f"{self.directory}: the newest checkpoints that the processes see are of the iterations {seen} (0: "
                "none), expected the same for all: resume with an output_dir that all nodes share"
            )

    def read(self, paths: list[Path], device: torch.device) -> tuple[Path, dict[str, Any]]:
        """The first checkpoint that can be read; warns of each that cannot (after a power cut, a full disk)."""
        for path in paths:
            try:
                checkpoint = load_tensors(path, map_location=device)
            except ValueError as error:
                problem = str(error)
            else:
                if isinstance(checkpoint, dict) and self._saved.keys() <= checkpoint.keys():
                    return path, checkpoint
                held = sorted(checkpoint) if isinstance(checkpoint, dict) else f"a {type(checkpoint).__name__}"
                problem = f"it holds {held}, expected {sorted(self._saved)}"
            logger.warning(f"cannot use {path} ({problem}), trying the checkpoint before it")
        raise ValueError(f"none of the checkpoints {[str(path) for path in paths]} can be read")

    def files(self) -> list[tuple[int, Path]]:
        """Iteration and file of all checkpoints, the newest last."""
        matches = [(re.fullmatch(r"checkpoint_(\d+)\.pt", path.name), path) for path in self.directory.glob("*.pt")]
        return sorted((int(match[1]), path) for match, path in matches if match)
