# SPDX-License-Identifier: Apache-2.0
"""Measures of frozen features: a linear probe (logistic regression of standardised features) and the rank."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from monai.transforms import RandAffined
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from custom.metrics import effective_rank

UNKNOWN = -1  # in label maps: background, or a structure that was not annotated
Volumes = Sequence[tuple[torch.Tensor, torch.Tensor]]


def moved(volumes: Volumes, seed: int = 0) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Volumes and label maps (1, *spatial), each rotated by up to 15 degrees, shifted by 8 % and scaled by 10 %."""
    result = []
    for index, (image, label) in enumerate(volumes):
        move = RandAffined(
            keys=["image", "label"],
            prob=1.0,
            rotate_range=[np.deg2rad(15)] * 3,
            translate_range=[0.08 * side for side in image.shape[1:]],
            scale_range=[0.1] * 3,
            mode=["bilinear", "nearest"],
            padding_mode="zeros",
        ).set_random_state(seed + index)
        pair = move({"image": image, "label": label.float()})
        result.append((torch.as_tensor(pair["image"]), torch.as_tensor(pair["label"]).round().long()))
    return result


@torch.no_grad()
def local_features(backbone: nn.Module, image: torch.Tensor) -> np.ndarray:
    """Features (voxels, channels) of an image (1, *spatial)."""
    return backbone(image[None])[0].flatten(1).T.numpy()


def probe_dice(
    backbone: nn.Module, training: Volumes, tests: Sequence[Volumes], classes: int, voxels: int = 6000, seed: int = 0
) -> list[np.ndarray]:
    """Dice of each structure on unseen volumes, predicted by logistic regression from the features of each voxel.

    Voxels of intensity zero (padding, outside of a skull-stripped brain) count as background; the model neither trains
    on them nor predicts them. It does not train on UNKNOWN voxels either.

    Args:
        backbone: gives local features.
        training: labelled volumes: image (1, *spatial), class indices of the same shape.
        tests: lists of such volumes.
        classes: number of classes with background.
        voxels: number sampled from each training volume.
        seed: of the sample.

    Returns:
        an array (volumes, classes - 1) in [0, 1] for each list of `tests`; NaN where a volume lacks a structure.
    """
    backbone.eval()
    generator = np.random.default_rng(seed)
    features, targets = [], []
    for image, label in training:
        inside = np.flatnonzero((image.flatten() > 0) & (label.flatten() != UNKNOWN))
        sample = generator.choice(inside, min(voxels, len(inside)), replace=False)
        features.append(local_features(backbone, image)[sample])
        targets.append(label.flatten().numpy()[sample])
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000, tol=1e-3))
    model.fit(np.concatenate(features), np.concatenate(targets))

    def dice(image: torch.Tensor, label: torch.Tensor) -> np.ndarray:
        true = np.maximum(label.flatten().numpy(), 0)
        predicted = np.where(image.flatten().numpy() > 0, model.predict(local_features(backbone, image)), 0)
        sizes, true_sizes, both = (
            np.bincount(values, minlength=classes)[1:] for values in (predicted, true, true[predicted == true])
        )
        return np.where(true_sizes > 0, 2 * both / np.maximum(sizes + true_sizes, 1), np.nan)

    return [np.stack([dice(*volume) for volume in test]) for test in tests]


@torch.no_grad()
def probe_auc(backbone: nn.Module, training: Volumes, test: Volumes) -> float:
    """AUC of the second of two classes on unseen volumes, by logistic regression on pooled bottleneck features.

    Args:
        backbone: has `forward_bottleneck`.
        training: volumes: image (1, *spatial), class 0 or 1.
        test: such volumes.
    """
    backbone.eval()
    pooled, classes = (
        [backbone.forward_bottleneck(image[None]).mean(dim=(2, 3, 4))[0].numpy() for image, _ in training + test],
        [int(label) for _, label in training + test],
    )
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000, tol=1e-3))
    model.fit(pooled[: len(training)], classes[: len(training)])
    return float(roc_auc_score(classes[len(training) :], model.predict_proba(pooled[len(training) :])[:, 1]))


@torch.no_grad()
def rank_share(
    function: Callable[[torch.Tensor], torch.Tensor], images: Sequence[torch.Tensor], voxels: int = 2048, seed: int = 0
) -> float:
    """Effective rank of the features of images (1, *spatial) in percent of the channels.

    Args:
        function: gives features (1, channels, *spatial) of an image (1, 1, *spatial).
        images: (1, *spatial).
        voxels: number sampled from each image; an image with fewer voxels gives all.
        seed: of the sample.
    """
    generator, samples = torch.Generator().manual_seed(seed), []
    for image in images:
        features = function(image[None])[0].flatten(1).T
        samples.append(features[torch.randperm(len(features), generator=generator)[:voxels]])
    return 100 * float(effective_rank(torch.cat(samples))) / samples[0].shape[1]
