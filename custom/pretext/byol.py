# SPDX-License-Identifier: Apache-2.0
"""BYOL: predict what a twin of the network, which follows it slowly, makes of the other view of a volume.

J.-B. Grill et al., "Bootstrap Your Own Latent: A New Approach to Self-Supervised Learning", NeurIPS 2020.

A view x of a volume goes through the online network, q(g(f(x))), encoder, projector and predictor; the other view x'
through the target network, g'(f'(x')), without gradient:

    loss = L(x1, x2) + L(x2, x1),    L(x, x') = 2 - 2 cosine(q(g(f(x))), g'(f'(x')))                     (equation 2)
    after each step    target <- tau target + (1 - tau) online                                           (equation 1)
    tau = 1 - (1 - tau_base) (cos(pi k / K) + 1) / 2    at step k = 0, 1, ... of K                     (section 3.3)

the loss averaged over the volumes: both volumes of a pair are volumes of the batch, on equal terms.

- As the paper: projector and predictor of two layers with batch norm between them; tau_base 0.99, its value for shorter
  runs (0.996 for its longest). Hidden layers keep their ratio to the encoder's width (paper: 4096 to 2048); the output
  has the paper's 256 channels where the encoder has GVSL's 512.
- As in GVSL's comparison (He et al., CVPR 2023, section 4): the encoder of the same 3D U-Net, its bottleneck averaged
  over space; the optimiser of all methods, where the paper has LARS and weight decay.
- Views: the pair's crop, for each view a spatial transform (for the paper's random crop and flip), a monotone intensity
  curve (for its colour jitter) and a blur of its own. Both come from one distribution, the paper's differ a little.
- Small batches: the paper normalises over the 4096 rows of one view; here over the rows of both views of all processes,
  eight for two pairs, which one process encodes about as fast as a pair goes through GVSL.
- Collapse costs nothing: equal projections give the best loss, 0. The slow target and the predictor guard against it,
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
from .projection import ProjectionMLP, projection_spread, rows_of_views


class BYOLPretext(nn.Module):
    """Predictions of the online network for two views of each volume, and projections of the target network.

    The target network is a copy of its own, under "target." in the state dict; `TargetUpdate` makes it follow.

    Args:
        backbone: a module with `forward_bottleneck` and `forward_features`, as `UNet3D`.
        projector: from the channels of its bottleneck. predictor: from the projector's output to the same width.
    """

    def __init__(self, backbone: nn.Module, projector: ProjectionMLP, predictor: ProjectionMLP) -> None:
        super().__init__()
        self.backbone = backbone
        self.projector = projector
        self.predictor = predictor
        self.target = copy.deepcopy(nn.ModuleDict({"backbone": backbone, "projector": projector})).requires_grad_(False)

    def forward(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """One pass of a batch of pairs.

        Args:
            batch: "moving" and "fixed", and "moving_view" and "fixed_view", other views of the same volumes,
                (N, 1, *spatial) each.

        Returns:
            "prediction" and "target_projection", (4N, C), the first views of all volumes, then the second; in training
            those of all processes. In evaluation "bottleneck" and "local" features of "moving" and "fixed" too, of the
            online network, (2N, C, ...).
        """
        outputs = {"prediction": self.predictor(self.projector(rows_of_views(self.backbone, batch)))}
        with torch.no_grad():
            target_rows = rows_of_views(self.target["backbone"], batch)
            outputs["target_projection"] = self.target["projector"](target_rows)
        return outputs if self.training else outputs | features_of_pairs(self.backbone, batch)

    @torch.no_grad()
    def update_target(self, momentum: float) -> None:
        """Equation 1 for every parameter; running statistics of norms are the target's own, as in the paper's code."""
        for name, target in self.target.items():
            for followed, parameter in zip(self.get_submodule(name).parameters(), target.parameters(), strict=True):
                parameter.lerp_(followed, 1 - momentum)


class BYOLLoss(nn.Module):
    """Squared distance at unit length between each prediction and the target's projection of the other view."""

    def forward(self, outputs: dict[str, torch.Tensor], batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Outputs of `BYOLPretext` -> "loss", from 0 to 8, and "projection_spread"; scalars."""
        prediction, target = (at_least_float32(outputs[name]) for name in ("prediction", "target_projection"))
        first, second = target.chunk(2)
        distance = 2 - 2 * F.cosine_similarity(prediction, torch.cat((second, first)))
        return {"loss": 2 * distance.mean(), "projection_spread": projection_spread(target)}


def target_momentum(base: float, step: int, steps: int) -> float:
    """tau after step `step` of `steps`, counted from 0: from `base` by half a cosine to 1."""
    return 1 - (1 - base) * (math.cos(math.pi * step / steps) + 1) / 2


class TargetUpdate:
    """After each iteration of a trainer the target network follows the online one.

    The momentum comes from the trainer's own count: a run that resumes goes on where it was. Where mixed precision
    skips a step of the optimiser, the target follows all the same.

    Args:
        network: the pretext network itself, not its DistributedDataParallel. base_momentum: tau_base.

    Raises:
        ValueError: a momentum outside of [0, 1].
    """

    def __init__(self, network: BYOLPretext, base_momentum: float = 0.996) -> None:
        if not 0 <= base_momentum <= 1:
            raise ValueError(f"base_momentum must be in [0, 1], got {base_momentum}")
        self.network = network
        self.base_momentum = base_momentum

    def attach(self, trainer: Engine) -> None:
        """Registers on a trainer, on every process."""
        trainer.add_event_handler(Events.ITERATION_COMPLETED, self.follow)

    def follow(self, trainer: Engine) -> None:
        state = trainer.state
        steps = state.max_epochs * state.epoch_length
        self.network.update_target(target_momentum(self.base_momentum, state.iteration - 1, steps))
