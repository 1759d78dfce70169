# SPDX-License-Identifier: Apache-2.0
"""BYOL: predict the projection that a second network, which follows the first one slowly, gives of another view.

J.-B. Grill et al., "Bootstrap Your Own Latent: A New Approach to Self-Supervised Learning", NeurIPS 2020.

A view x of a volume goes through the online network q(g(f(x))): encoder, projector and predictor. The other view x'
goes through the target network g'(f'(x')), without gradient:

    loss = L(x1, x2) + L(x2, x1),    L(x, x') = 2 - 2 cosine(q(g(f(x))), g'(f'(x')))                     (equation 2)
    after each step    target <- tau target + (1 - tau) online                                           (equation 1)
    tau = 1 - (1 - tau_base) (cos(pi k / K) + 1) / 2    at step k = 0, 1, ... of K steps               (section 3.3)

The loss is averaged over the volumes. Both volumes of a pair are volumes of the batch.

- As the paper: projector and predictor of two layers with batch norm between them; tau_base 0.99, the paper's value for
  shorter runs (0.996 for its longest). Hidden layers keep their ratio to the encoder's width (paper: 4096 to 2048); the
  output has the paper's 256 channels where the encoder has GVSL's 512.
- As in GVSL's comparison (He et al., CVPR 2023, section 4): the encoder of the same 3D U-Net, its bottleneck averaged
  over space; the optimizer of all methods, where the paper has LARS and weight decay.
- Views: the pair's crop, for each view a spatial transform (for the paper's random crop and flip), a monotone intensity
  curve (for its color jitter) and a blur of its own. Both views are drawn from one distribution; the paper has two that
  differ a little.
- Small batches: the batch norm of the paper sees the 4096 rows of one view, here those of both views of all processes:
  eight for two pairs. To encode them takes one process about as long as one pair of GVSL.
- Collapse costs nothing: equal projections give the best loss, 0. The slow target and the predictor work against it,
  and "projection_spread" shows it: 0 where all projections of the target are equal.
"""

from __future__ import annotations

import copy
import math

import torch
from ignite.engine import Engine, Events
from torch import nn
from torch.nn import functional as F

from ..layers import at_least_float32
from .pairs import features_of_pairs
from .projection import PredictorPretext, ProjectionMLP, projection_spread, rows_of_views


class BYOLPretext(PredictorPretext):
    """Predictions of the online network for two views of each volume, and projections of the target network.

    The target network copies backbone and projector, as "target." in the state dict; `TargetUpdate` updates it.

    Arguments as for `PredictorPretext`.
    """

    def __init__(self, backbone: nn.Module, projector: ProjectionMLP, predictor: ProjectionMLP) -> None:
        super().__init__(backbone, projector, predictor)
        self.target = copy.deepcopy(nn.ModuleDict({"backbone": backbone, "projector": projector})).requires_grad_(False)

    def forward(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """One pass of a batch of pairs.

        Args:
            batch: the first views "moving" and "fixed", the second views "moving_view" and "fixed_view" of the same
                volumes, (N, C, *spatial) each.

        Returns:
            "prediction" and "target_projection", (4N, C), of the first views of all volumes, then of the second views;
            in training those of all processes. In evaluation also the online network's features of
            `features_of_pairs`.
        """
        outputs = {"prediction": self.predictor(self.projector(rows_of_views(self.backbone, batch)))}
        with torch.no_grad():
            target_rows = rows_of_views(self.target["backbone"], batch)
            outputs["target_projection"] = self.target["projector"](target_rows)
        return outputs if self.training else outputs | features_of_pairs(self.backbone, batch)

    @torch.no_grad()
    def update_target(self, momentum: float) -> None:
        """Equation 1 with tau = `momentum`; batch norms keep statistics of their own, as in the paper's code."""
        for name, target in self.target.items():
            for online, parameter in zip(self.get_submodule(name).parameters(), target.parameters(), strict=True):
                parameter.lerp_(online, 1 - momentum)


class BYOLLoss(nn.Module):
    """Squared distance, both at unit length, of each prediction from the target's projection of the other view."""

    def forward(self, outputs: dict[str, torch.Tensor], batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Outputs of `BYOLPretext` -> "loss", from 0 to 8, and "projection_spread"; scalars."""
        prediction, target = (at_least_float32(outputs[name]) for name in ("prediction", "target_projection"))
        first, second = target.chunk(2)
        distance = 2 - 2 * F.cosine_similarity(prediction, torch.cat((second, first)))
        return {"loss": 2 * distance.mean(), "projection_spread": projection_spread(target)}


def target_momentum(base: float, step: int, steps: int) -> float:
    """tau of step k = `step` of K = `steps`, from tau_base = `base` (see above)."""
    return 1 - (1 - base) * (math.cos(math.pi * step / steps) + 1) / 2


class TargetUpdate:
    """Handler: updates the target network after each iteration of a trainer.

    The momentum follows from the trainer's iteration, so a resumed run continues with the right one. The target is
    updated also where mixed precision skips a step of the optimizer.

    Args:
        network: the pretext network itself, not the DistributedDataParallel around it.
        base_momentum: tau_base, in [0, 1].

    Raises:
        ValueError: another momentum.
    """

    def __init__(self, network: BYOLPretext, base_momentum: float = 0.996) -> None:
        if not 0 <= base_momentum <= 1:
            raise ValueError(f"base_momentum must be in [0, 1], got {base_momentum}")
        self.network = network
        self.base_momentum = base_momentum

    def attach(self, trainer: Engine) -> None:
        """Registers on a trainer, in every process."""
        trainer.add_event_handler(Events.ITERATION_COMPLETED, self.follow)

    def follow(self, trainer: Engine) -> None:
        state = trainer.state
        steps = state.max_epochs * state.epoch_length
        self.network.update_target(target_momentum(self.base_momentum, state.iteration - 1, steps))
