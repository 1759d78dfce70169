# SPDX-License-Identifier: Apache-2.0
"""DeepCluster: in turns, cluster the features of all blocks of all volumes and learn to predict the clusters.

M. Caron, P. Bojanowski, A. Joulin, M. Douze, "Deep Clustering for Unsupervised Learning of Visual Features", ECCV 2018.

At the start of each epoch k-means assigns each block x_n of the training volumes to a cluster y_n (equation 2). f is
the encoder, its features averaged over space; z_n is f(x_n), PCA-reduced, whitened and scaled to unit length (section
3.4):

    min over centroids c and assignments y of sum over n of |z_n - c_(y_n)|^2

During the epoch the encoder and a new linear classifier W learn these pseudo-labels (equation 1):

    loss = - mean over n of w_n log softmax(W f(x_n))_(y_n),    w_n = B / (K |cluster y_n|) for B blocks, K clusters

- As the paper: clusters of central crops, training under spatial transforms; a new classifier each epoch (section 3.4
  and the authors' code: weights of standard deviation 0.01, an optimizer without memory), and therefore a constant
  learning rate: with one that falls to zero the last classifiers stay untrained. The paper's epochs have thousands of
  steps, those of a small cohort twenty: deep_cluster.json gives the classifier ten times the encoder's rate. The paper
  draws pictures uniformly over clusters. Here pairs are drawn as for all methods of the comparison, and the loss is
  weighted by the inverse cluster size, which the paper calls equivalent. Weights are not normalised within a batch.
- Blocks: the paper has 1.3 million pictures for 10,000 clusters, a small cohort ten volumes of one anatomy. There,
  clusters of whole volumes change from epoch to epoch, and six labels left features an effective rank of 6 to 8 % of
  the channels. So a block of a volume takes the part of a picture: as few blocks as cover the patch, eight by default.
  Clusters are then positions in the body, which every subject has. Training takes the central crop, too, so that a
  block stays where its label was assigned: with random crops of wider volumes the loss stayed at log K. Centroids as
  classifier (DeepCluster-v2, Caron et al., NeurIPS 2020) made the loss rise: whitened features of few blocks are mostly
  noise.
- Few blocks: the paper has 5000 pictures for each of 256 components. B blocks whitened in B - 1 components are all at
  the same distance from each other, whatever they look like, and have no clusters. So the number of components is
  limited to one for every `blocks_per_component` blocks. To a cluster that loses its members k-means (scikit-learn)
  assigns the block that is farthest from its centroid; the paper splits another cluster (section 3.3). Where fewer
  blocks differ than there are clusters, the other clusters stay empty and out of the softmax.
- Held-out volumes have no assignment: their pseudo-label is the nearest centroid. The paper has no held-out loss.
- Collapse costs nothing, as the paper warns: equal features make one cluster and a loss of 0. Re-assigning and
  weighting work against it but do not exclude it. Each epoch logs how far the pooled features differ, with a warning
  where they are equal.
"""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Sequence

import numpy as np
import torch
from ignite import distributed as idist
from ignite.engine import Engine, Events
from monai.networks import eval_mode
from monai.transforms import CenterSpatialCrop
from monai.utils import convert_to_tensor
from sklearn.cluster import KMeans
from sklearn.metrics import normalized_mutual_info_score
from threadpoolctl import threadpool_limits
from torch import nn
from torch.nn import functional as F
from torch.utils.data import Dataset

from ..layers import at_least_float32, in_float32, to_device
from .pairs import features_of_pairs

logger = logging.getLogger(__name__)

CLUSTERS = ("assignments", "sizes", "mean", "whitening", "centroids")  # buffers that a clustering fills
INITIAL_STD = 0.01  # of the classifier's weights, as in the authors' code
ROUNDING = 1e-5  # features that differ less than this, relative to their size, differ by rounding


class DeepClusterPretext(nn.Module):
    """Classifies the blocks of both volumes of a pair by cluster, from the encoder's pooled features.

    Args:
        backbone: a module with `forward_bottleneck` and `forward_features`, as `UNet3D`.
        channels: channels of the bottleneck.
        clusters: number of clusters, of which some may stay empty.
        volumes: number of training volumes. To evaluate weights on other data give the number they were trained on.
        patch_size: sides of the volumes in a batch, in voxels, array order.
        block_size: sides of the blocks that cover a patch, in voxels, array order.
    """

    def __init__(
        self,
        backbone: nn.Module,
        channels: int,
        clusters: int,
        volumes: int,
        patch_size: Sequence[int],
        block_size: Sequence[int],
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.classifier = nn.Linear(channels, clusters)
        self.patch_size, self.block_size = tuple(patch_size), tuple(block_size)
        self.starts = block_starts(patch_size, block_size)
        self.register_buffer("assignments", torch.zeros(volumes, len(self.starts), dtype=torch.long))
        self.register_buffer("sizes", torch.zeros(clusters, dtype=torch.long))
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("whitening", torch.zeros(channels, channels))
        self.register_buffer("centroids", torch.zeros(clusters, channels))

    def forward(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """One pass of a batch of pairs.

        Args:
            batch: "moving" and "fixed", (N, C, *patch_size), and for training volumes their indices "moving_index" and
                "fixed_index", (N,).

        Returns:
            "logits" (2N * blocks, clusters), of all moving volumes, then of all fixed volumes; minus infinity for empty
            clusters.
            "cluster" and "weight" (2N, blocks), the pseudo-label of each block and its weight in the loss.
            In evaluation also the features of `features_of_pairs`.

        Raises:
            RuntimeError: there are no clusters yet.
        """
        if not self.sizes.any():
            raise RuntimeError("there are no clusters yet: train with the handler ReassignClusters, or load weights")
        pooled = self.pooled(torch.cat((batch["moving"], batch["fixed"])))
        if "moving_index" in batch:
            index = torch.cat((batch["moving_index"], batch["fixed_index"]))
            cluster = self.assignments[to_device(index, pooled.device)]
        else:
            cluster = self.nearest(pooled.detach().flatten(0, 1)).view(pooled.shape[:2])
        logits = self.classifier(pooled.flatten(0, 1)).masked_fill(self.sizes == 0, -torch.inf)
        outputs = {"logits": logits, "cluster": cluster, "weight": inverse_size_weights(self.sizes)[cluster]}
        return outputs if self.training else outputs | features_of_pairs(self.backbone, batch)

    def pooled(self, volumes: torch.Tensor) -> torch.Tensor:
        """Encoder features averaged over space, (N, blocks, channels), of the blocks of volumes (N, C, *patch_size)."""
        blocks = cut_blocks(volumes, self.starts, self.block_size)
        return self.backbone.forward_bottleneck(blocks.flatten(0, 1)).mean(dim=(2, 3, 4)).unflatten(0, blocks.shape[:2])

    def whitened(self, pooled: torch.Tensor) -> torch.Tensor:
        """Features (N, channels), PCA-reduced, whitened and of unit length: (N, channels), 0 in unused components."""
        return in_float32(lambda features: F.normalize((features - self.mean) @ self.whitening, dim=1), pooled)

    def nearest(self, pooled: torch.Tensor) -> torch.Tensor:
        """The clusters (N,) with the nearest centroid, for features (N, channels)."""
        distance = (self.whitened(pooled)[:, None] - self.centroids).square().sum(dim=2)
        return distance.masked_fill(self.sizes == 0, torch.inf).argmin(dim=1)

    @torch.no_grad()
    def reset_classifier(self, generator: torch.Generator) -> None:
        """Draws new weights of the classifier, in place: optimizer and DistributedDataParallel hold its parameters."""
        weight = torch.empty(self.classifier.weight.shape).normal_(std=INITIAL_STD, generator=generator)
        self.classifier.weight.copy_(weight)
        self.classifier.bias.zero_()


def block_size(patch_size: Sequence[int], parts: int, multiple: int) -> list[int]:
    """Sides of blocks in voxels: those of the patch divided by `parts`, rounded up to multiples of `multiple`."""
    return [multiple * math.ceil(side / (parts * multiple)) for side in patch_size]


def block_starts(patch_size: Sequence[int], block_size: Sequence[int]) -> list[tuple[int, ...]]:
    """First voxels of the blocks of a patch: as few blocks as cover it, at equal distances along each axis.

    Raises:
        ValueError: a block is larger than the patch, or has no voxels.
    """
    if any(not 0 < block <= side for side, block in zip(patch_size, block_size, strict=True)):
        raise ValueError(f"block_size is {list(block_size)}, expected 1 or more and at most {list(patch_size)}")
    axes = []
    for side, block in zip(patch_size, block_size, strict=True):
        count = math.ceil(side / block)
        axes.append([round(index * (side - block) / max(count - 1, 1)) for index in range(count)])
    return list(itertools.product(*axes))


def cut_blocks(volumes: torch.Tensor, starts: Sequence[tuple[int, ...]], block_size: Sequence[int]) -> torch.Tensor:
    """Blocks (N, blocks, C, *block_size) of volumes (N, C, *spatial), from their first voxels (see `block_starts`)."""
    i, j, k = block_size
    return torch.stack([volumes[:, :, x : x + i, y : y + j, z : z + k] for x, y, z in starts], dim=1)


class DeepClusterLoss(nn.Module):
    """Cross-entropy of the logits and the pseudo-labels, weighted by the inverse size of the cluster."""

    def forward(self, outputs: dict[str, torch.Tensor], batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Outputs of `DeepClusterPretext` -> "loss" and "accuracy", the share of correct clusters; scalars."""
        logits, cluster = at_least_float32(outputs["logits"]), outputs["cluster"].flatten()
        cross_entropy = F.cross_entropy(logits, cluster, reduction="none")
        accuracy = (logits.argmax(dim=1) == cluster).to(logits.dtype).mean()
        return {"loss": (outputs["weight"].flatten() * cross_entropy).mean(), "accuracy": accuracy}


class ReassignClusters:
    """Handler: clusters the training blocks and draws a new classifier at the start of each epoch.

    The optimizer forgets the moments of the classifier, which belong to the previous clusters; the parameters stay the
    same objects. The clusters depend on the seed and the epoch alone. Several processes share the passes of the
    encoder; the first process clusters for all. A run that is resumed within an epoch continues with the clusters and
    the classifier of its checkpoint.

    Args:
        network: the pretext network.
        optimizer: the optimizer of its parameters.
        volumes: training volumes, items with "image" (1, *spatial), in the order of the batches' indices.
        seed: seed of the run.
        components: see `fit_whitening`; 256 in the paper.
        blocks_per_component: see `fit_whitening`.

    Raises:
        ValueError: another number of volumes than the network was made for.
    """

    def __init__(
        self,
        network: DeepClusterPretext,
        optimizer: torch.optim.Optimizer,
        volumes: Dataset,
        seed: int,
        components: int = 256,
        blocks_per_component: int = 4,
    ) -> None:
        if len(volumes) != len(network.assignments):
            raise ValueError(f"{len(volumes)} training volumes, but the network is made for {len(network.assignments)}")
        self.network = network
        self.optimizer = optimizer
        self.volumes = volumes
        self.crop = CenterSpatialCrop(network.patch_size)
        self.seed = seed
        self.components = components
        self.blocks_per_component = blocks_per_component

    def attach(self, trainer: Engine) -> None:
        """Registers on a trainer, after the handler that loads a checkpoint."""
        trainer.add_event_handler(Events.EPOCH_STARTED, self.reassign)

    def reassign(self, trainer: Engine) -> None:
        """Clusters the blocks and draws the classifier, unless the run was resumed within an epoch."""
        if trainer.state.iteration % trainer.state.epoch_length:  # resumed within an epoch
            return
        random = np.random.default_rng([self.seed, trainer.state.epoch])
        self.network.reset_classifier(torch.Generator().manual_seed(int(random.integers(2**62))))
        for parameter in self.network.classifier.parameters():
            self.optimizer.state.pop(parameter, None)
        features = self.features()
        if idist.get_rank() == 0:
            self.cluster(features, random, trainer.state.epoch)
        if idist.get_world_size() > 1:
            for name in CLUSTERS:
                buffer = self.network.get_buffer(name)
                buffer.copy_(idist.broadcast(buffer, src=0))

    def features(self) -> torch.Tensor:
        """Pooled features of the blocks of all training volumes, (volumes * blocks, channels), in every process."""
        network = self.network
        features = network.mean.new_zeros(*network.assignments.shape, len(network.mean))
        with eval_mode(network):
            for index in range(idist.get_rank(), len(self.volumes), idist.get_world_size()):
                image = convert_to_tensor(self.crop(self.volumes[index]["image"]), track_meta=False)
                features[index] = network.pooled(image[None].to(features))[0]
        return (idist.all_reduce(features) if idist.get_world_size() > 1 else features).flatten(0, 1)

    @torch.no_grad()
    def cluster(self, features: torch.Tensor, random: np.random.Generator, epoch: int) -> None:
        """Fills the network's buffers from features (volumes * blocks, channels)."""
        network = self.network
        before = network.assignments.flatten().cpu().numpy().copy() if network.sizes.any() else None
        fitted = fit_whitening(features.double().cpu().numpy(), self.components, self.blocks_per_component)
        for buffer, value in zip((network.mean, network.whitening), fitted, strict=True):
            buffer.copy_(torch.from_numpy(value))
        if not network.whitening.any():
            logger.warning(f"epoch {epoch}: the features of all {len(features)} blocks are the same, they collapsed")
        points = network.whitened(features)
        labels = k_means(points.double().cpu().numpy(), len(network.sizes), random)
        network.assignments.copy_(torch.from_numpy(labels).view_as(network.assignments))
        clusters = network.assignments.flatten()
        network.sizes.copy_(clusters.bincount(minlength=len(network.sizes)))
        network.centroids.zero_().index_add_(0, clusters, points.to(network.centroids))
        network.centroids.div_(network.sizes.clamp_min(1)[:, None])
        sizes = sorted(network.sizes[network.sizes > 0].tolist(), reverse=True)
        agreement = "none before" if before is None else f"{normalized_mutual_info_score(before, labels):.2f}"
        differ = float((features - features.mean(dim=0)).norm() / features.norm())
        logger.info(
            f"epoch {epoch}: features of blocks differ by {differ:.2%}; {len(sizes)} of {len(network.sizes)} "
            f"clusters, of {sizes} blocks; normalised mutual information with the clusters before: {agreement}"
        )


def inverse_size_weights(sizes: torch.Tensor) -> torch.Tensor:
    """Weights w of the clusters: inverse to their sizes, with a mean of 1 over all blocks; 0 for empty clusters."""
    weights = sizes.sum() / ((sizes > 0).sum() * sizes.clamp_min(1).float())
    return weights * (sizes > 0)


def fit_whitening(features: np.ndarray, components: int, blocks_per_component: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean m and matrix A such that (x - m) A are the whitened principal components of features x.

    Components without variance are left out: A is zero where all features are equal.

    Args:
        features: (blocks, channels).
        components: number of components at most.
        blocks_per_component: limits the number to blocks / blocks_per_component, but not below one.

    Returns:
        m (channels,) and A (channels, channels), whose columns after the last component are zero.
    """
    blocks, channels = features.shape
    count = max(min(components, channels, blocks // blocks_per_component), 1)
    mean = features.mean(axis=0)
    with threadpool_limits(1):  # sums in one order, so that one seed gives one result
        _, singular_values, directions = np.linalg.svd(features - mean, full_matrices=False)
    deviation = singular_values[:count] / np.sqrt(max(blocks - 1, 1))
    varying = int((deviation > ROUNDING * np.sqrt(np.square(features).sum() / blocks)).sum())
    matrix = np.zeros((channels, channels))
    matrix[:, :varying] = directions[:varying].T / deviation[:varying]
    return mean, matrix


def k_means(points: np.ndarray, clusters: int, random: np.random.Generator) -> np.ndarray:
    """Clusters (blocks,) of points (blocks, components); fewer than `clusters` where fewer points differ."""
    different = len(np.unique(points.round(5), axis=0))
    with threadpool_limits(1):
        fitted = KMeans(min(clusters, different), n_init=10, random_state=int(random.integers(2**31))).fit(points)
    return fitted.labels_.astype(np.int64)
