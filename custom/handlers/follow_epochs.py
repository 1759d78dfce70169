# SPDX-License-Identifier: Apache-2.0
"""Lets a loader's sampler follow the epochs of a trainer that knows nothing of it."""

from __future__ import annotations

from ignite.engine import Engine

from ..data import GlobalSampler


class FollowEpochs:
    """Attaches a sampler to a trainer, on every process: MONAI's config checks allow only components in handler lists.

    Args:
        sampler: of the training loader.
    """

    def __init__(self, sampler: GlobalSampler) -> None:
        self.sampler = sampler

    def attach(self, trainer: Engine) -> None:
        """Registers on a trainer."""
        self.sampler.attach(trainer)
