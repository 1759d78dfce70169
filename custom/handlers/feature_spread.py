# SPDX-License-Identifier: Apache-2.0
"""A monitor of collapse: the number of directions that the features of held-out volumes span."""

from __future__ import annotations

import torch
from ignite import distributed as idist
from ignite.engine import Engine, Events

from ..metrics import effective_rank


class FeatureSpread:
    """Measures the effective rank and the spread of local and bottleneck features over a validation epoch.

    Puts "effective_rank_NAME" (see `effective_rank`) and "spread_NAME" (mean standard deviation over the channels)
    into `engine.state.metrics`, for each of the named outputs (N, C, *spatial) of the evaluator. Collapsed features
    have rank 1 and spread 0. The samples of all processes are used together.

    Args:
        names: outputs to measure.
        voxels: number of voxels that are sampled from each batch.
        seed: of the sample.
    """

    def __init__(self, names: tuple[str, ...] = ("local", "bottleneck"), voxels: int = 2048, seed: int = 0) -> None:
        self.names = tuple(names)
        self.voxels = voxels
        self.seed = seed

    def attach(self, engine: Engine) -> None:
        """Registers on an evaluator."""
        engine.add_event_handler(Events.EPOCH_STARTED, self.start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.collect)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.measure)

    def start(self, engine: Engine) -> None:
        self._samples: dict[str, list[torch.Tensor]] = {name: [] for name in self.names}
        self._generator = torch.Generator().manual_seed(self.seed)

    def collect(self, engine: Engine) -> None:
        for name in self.names:
            features = engine.state.output[name].detach().float().movedim(1, -1).flatten(0, -2)
            sample = torch.randperm(len(features), generator=self._generator)[: self.voxels]
            self._samples[name].append(features[sample.to(features.device)].cpu())

    def measure(self, engine: Engine) -> None:
        for name, chunks in self._samples.items():
            features = _gathered(torch.cat(chunks))
            engine.state.metrics[f"effective_rank_{name}"] = float(effective_rank(features))
            engine.state.metrics[f"spread_{name}"] = float(features.std(dim=0).mean())


def _gathered(features: torch.Tensor) -> torch.Tensor:
    """The rows of all processes; they may hold different numbers of rows."""
    if idist.get_world_size() == 1:
        return features
    features = features.to(idist.device())
    rows = idist.all_gather(torch.tensor([len(features)], device=features.device))
    shapes = [[int(count), features.shape[1]] for count in rows]
    return torch.cat(idist.all_gather_tensors_with_shapes(features, shapes)).cpu()
