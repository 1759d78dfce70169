# SPDX-License-Identifier: Apache-2.0
"""SimSiam: predict the projection of one view of a volume from another view.

X. Chen, K. He, "Exploring Simple Siamese Representation Learning", CVPR 2021.

Two views x1, x2 of each volume go through the encoder and the projector, z = g(f(x)), and the predictor, p = h(z):

    loss = D(p1, stopgrad(z2)) / 2 + D(p2, stopgrad(z1)) / 2,    D(p, z) = - p . z / (|p| |z|)        (equations 1 to 4)

averaged over the volumes. Both volumes of a pair are volumes of the batch.

- As the paper: the stop-gradient, without which all projections become equal; a projector of three layers and a
  predictor whose hidden layer is four times narrower. Widths keep their ratio to the encoder's (paper: 2048, 2048 and
  512).
- As in GVSL's comparison (He et al., CVPR 2023, section 4): the encoder of the same 3D U-Net, its bottleneck averaged
  over space; the optimizer of all methods. The learning rate of the predictor falls with the others, which the paper
  keeps constant.
- Views: the pair's crop, for each view a spatial transform (for the paper's random crop and flip), a monotone intensity
  curve (for its color jitter) and a blur of its own.
- Small batches: the paper has batch norm in all layers of the projector, over 512 rows. Two pairs give eight rows; to
  encode them takes about as long as one pair of GVSL. Batch norm at the output turns eight rows into noise: with it the
  loss did not fall below -0.12 in 240 steps of small phantoms, without it it fell to -0.5. So it stands between the
  layers alone (the paper's table 3: 67.4 instead of 68.1 % correct, 34.6 without any batch norm). Layer norm, which
  needs no batch, made all projections equal by step 100: volumes of one anatomy give similar features from the start
  (cosine 0.99), and layer norm does not remove what they share. Batch norm takes the rows of both views and of all
  processes together, in the paper those of one view.
- Collapse costs nothing: equal projections give the best loss, -1. Stop-gradient and predictor work against it, and
  "projection_spread", the measure of the paper's figure 2, shows it: 0 where all projections are equal.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from ..layers import at_least_float32
from .pairs import features_of_pairs
from .projection import PredictorPretext, projection_spread, rows_of_views


class SimSiamPretext(PredictorPretext):
    """Projections of two views of each volume, and the predictions made from them."""

    def forward(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """One pass of a batch of pairs.

        Args:
            batch: the first views "moving" and "fixed", the second views "moving_view" and "fixed_view" of the same
                volumes, (N, C, *spatial) each.

        Returns:
            "projection" and "prediction", (4N, C), of the first views of all volumes, then of the second views; in
            training those of all processes. In evaluation also the features of `features_of_pairs`.
        """
        projection = self.projector(rows_of_views(self.backbone, batch))
        outputs = {"projection": projection, "prediction": self.predictor(projection)}
        return outputs if self.training else outputs | features_of_pairs(self.backbone, batch)


class SimSiamLoss(nn.Module):
    """Negative cosine similarity of each prediction and the projection of the other view; no gradient to the latter."""

    def forward(self, outputs: dict[str, torch.Tensor], batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Outputs of `SimSiamPretext` -> "loss", from -1 to 1, and "projection_spread"; scalars."""
        prediction, projection = (at_least_float32(outputs[name]) for name in ("prediction", "projection"))
        first, second = projection.detach().chunk(2)
        loss = -F.cosine_similarity(prediction, torch.cat((second, first))).mean()
        return {"loss": loss, "projection_spread": projection_spread(projection)}
