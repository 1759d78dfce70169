# SPDX-License-Identifier: Apache-2.0
"""DeepCluster: cluster the features of all volumes, then learn to tell the clusters, again and again.

M. Caron, P. Bojanowski, A. Joulin, M. Douze, "Deep Clustering for Unsupervised Learning of Visual Features", ECCV 2018.

At the start of each epoch k-means assigns each training volume x_n to a cluster y_n (equation 2), where f is the
encoder, its features averaged over space, and z_n is f(x_n), PCA-reduced, whitened and of unit length (section 3.4):

    min over centroids c and assignments y of sum over n of |z_n - c_(y_n)|^2

Through the epoch the encoder and a new linear classifier W learn these pseudo-labels (equation 1):

    loss = - mean over n of w_n log softmax(W f(x_n))_(y_n),    w_n = V / (K |cluster y_n|) for V volumes, K clusters

- As the paper: clusters of the central crops, training on random crops and spatial transforms; a new classifier each
  epoch (section 3.4 and the authors' code: weights of standard deviation 0.01, an optimiser without memory); a cluster
  without members takes part of another one (section 3.3). The paper draws volumes uniformly over clusters; pairs are
  drawn here as for all methods of the comparison, so the loss is weighted by the inverse cluster size, which the paper
  calls the same. Weights are not normalised within a batch: a batch of one pair would lose them.
- Few volumes: the paper has 5000 pictures for each of 256 components. V volumes whitened in V - 1 components are all at
  the same distance from each other, whatever they look like, and have no clusters. So only so many components are kept
  that each has `volumes_per_component` volumes; for fewer than two components features are centred and not whitened.
  Clusters of fewer than `min_cluster_size` volumes are treated like empty ones. Where there are too few volumes for
  `clusters` clusters, the rest stays empty and out of the softmax.
- Held-out volumes have no assignment: their pseudo-label is the nearest centroid. The paper has no held-out loss.
- Features that collapse make one cluster and a loss of zero, at no cost, as the paper warns. Re-assigning and weighting
  work against it, nothing forbids it: how far the pooled features of the volumes differ is logged each epoch, with a
  warning where they do not. On 18 phantoms of one anatomy that falls from 4.6 % to 0.3 % in 160 steps of two pairs, and
  the loss stays near log(K): a classifier that begins anew every 20 steps learns little there.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
import torch
from ignite import distributed as idist
from ignite.engine import Engine, Events
from monai.networks import eval_mode
from monai.transforms import CenterSpatialCrop
from monai.utils import convert_to_tensor
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.metrics import normalized_mutual_info_score
from threadpoolctl import threadpool_limits
from torch import nn
from torch.nn import functional as F
from torch.utils.data import Dataset

from ..layers import at_least_float32
from ..networks import features_of_pairs

logger = logging.getLogger(__name__)

CLUSTERS = ("assignments", "sizes", "mean", "whitening", "centroids")  # buffers that a clustering fills
INITIAL_STD = 0.01  # of the classifier's weights, as in the authors' code
ALIKE = 1e-5  # features that differ less, relative to their size, differ by rounding


class DeepClusterPretext(nn.Module):
    """Says from the encoder's pooled features to which cluster each volume of a pair belongs.

    Args:
        backbone: a module with `forward_bottleneck` and `forward_features`, as `UNet3D`.
        channels: of its bottleneck.
        clusters: at most so many.
        volumes: number of training volumes. To evaluate weights on other data give the number they were trained on.
    """

    def __init__(self, backbone: nn.Module, channels: int, clusters: int, volumes: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.classifier = nn.Linear(channels, clusters)
        self.register_buffer("assignments", torch.zeros(volumes, dtype=torch.long))
        self.register_buffer("sizes", torch.zeros(clusters, dtype=torch.long))
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("whitening", torch.zeros(channels, channels))
        self.register_buffer("centroids", torch.zeros(clusters, channels))

    def forward(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """One pass of a batch of pairs.

        Args:
            batch: "moving" and "fixed", (N, 1, *spatial), and for training volumes their "moving_place" and
                "fixed_place", (N,).

        Returns:
            "logits" (2N, clusters), first of all moving, then of all fixed volumes, minus infinity for empty clusters;
            "cluster" and "weight" (2, N), pseudo-label and weight of each (two axes, since an evaluator takes outputs
            of one axis for measures); in evaluation "bottleneck" and "local" features, (2N, C, ...).

        Raises:
            RuntimeError: before the first clustering.
        """
        if not self.sizes.any():
            raise RuntimeError("there are no clusters yet: train with the handler ReassignClusters, or load weights")
        if self.training:
            outputs, pooled = {}, self.pooled(torch.cat((batch["moving"], batch["fixed"])))
        else:
            outputs = features_of_pairs(self.backbone, batch)
            pooled = outputs["bottleneck"].mean(dim=(2, 3, 4))
        if "moving_place" in batch:
            cluster = self.assignments[torch.stack((batch["moving_place"], batch["fixed_place"]))]
        else:
            cluster = self.nearest(pooled.detach()).view(2, -1)
        outputs["logits"] = self.classifier(pooled).masked_fill(self.sizes == 0, -torch.inf)
        return outputs | {"cluster": cluster, "weight": inverse_size_weights(self.sizes)[cluster]}

    def pooled(self, volumes: torch.Tensor) -> torch.Tensor:
        """Encoder features averaged over space, (N, channels), of volumes (N, 1, *spatial)."""
        return self.backbone.forward_bottleneck(volumes).mean(dim=(2, 3, 4))

    def whitened(self, pooled: torch.Tensor) -> torch.Tensor:
        """Features (N, channels), PCA-reduced, whitened and of unit length; (N, channels), unused components are 0."""
        with torch.autocast(pooled.device.type, enabled=False):
            return F.normalize((at_least_float32(pooled) - self.mean) @ self.whitening, dim=1)

    def nearest(self, pooled: torch.Tensor) -> torch.Tensor:
        """The cluster (N,) whose centroid is nearest to each of the features (N, channels)."""
        distance = (self.whitened(pooled)[:, None] - self.centroids).square().sum(dim=2)
        return distance.masked_fill(self.sizes == 0, torch.inf).argmin(dim=1)

    @torch.no_grad()
    def reset_classifier(self, generator: torch.Generator) -> None:
        """Draws the classifier anew, in place: an optimiser and DistributedDataParallel hold its parameters."""
        weight = torch.empty(self.classifier.weight.shape).normal_(std=INITIAL_STD, generator=generator)
        self.classifier.weight.copy_(weight)
        self.classifier.bias.zero_()


class DeepClusterLoss(nn.Module):
    """Cross-entropy between the logits and the pseudo-labels, weighted by the inverse size of the cluster."""

    def forward(self, outputs: dict[str, torch.Tensor], batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Outputs of `DeepClusterPretext` -> "loss" and "accuracy", the share of clusters that are found; scalars."""
        logits, cluster = at_least_float32(outputs["logits"]), outputs["cluster"].flatten()
        cross_entropy = F.cross_entropy(logits, cluster, reduction="none")
        accuracy = (logits.argmax(dim=1) == cluster).to(logits.dtype).mean()
        return {"loss": (outputs["weight"].flatten() * cross_entropy).mean(), "accuracy": accuracy}


class ReassignClusters:
    """At the start of each epoch clusters the training volumes and draws the classifier of a `DeepClusterPretext` anew.

    The optimiser forgets the moments of the classifier, which belong to clusters that are gone; the parameters stay the
    same objects. One seed gives one run. Several processes share the passes of the encoder; the first one clusters for
    all. A run that resumes within an epoch keeps the clusters and the classifier of its checkpoint.

    Args:
        network: the pretext network. optimizer: of its parameters.
        volumes: training volumes, items with "image" (1, *spatial), by their place.
        patch_size: of the central crop, in voxels. seed: of the run.
        components: most to keep; 256 in the paper. volumes_per_component: fewest, see `fit_whitening`.
        min_cluster_size: volumes; clusters of fewer are treated like empty ones.

    Raises:
        ValueError: fewer volumes than two clusters need, or another number than the network is made for.
    """

    def __init__(
        self,
        network: DeepClusterPretext,
        optimizer: torch.optim.Optimizer,
        volumes: Dataset,
        patch_size: Sequence[int],
        seed: int,
        components: int = 256,
        volumes_per_component: int = 4,
        min_cluster_size: int = 2,
    ) -> None:
        if len(volumes) != len(network.assignments):
            raise ValueError(f"{len(volumes)} training volumes, but the network is made for {len(network.assignments)}")
        if min_cluster_size < 1 or len(volumes) < 2 * min_cluster_size:
            raise ValueError(
                f"{len(volumes)} training volumes and min_cluster_size {min_cluster_size}: expected 1 or more and "
                "volumes for two clusters"
            )
        self.network = network
        self.optimizer = optimizer
        self.volumes = volumes
        self.crop = CenterSpatialCrop(patch_size)
        self.seed = seed
        self.components = components
        self.volumes_per_component = volumes_per_component
        self.min_cluster_size = min_cluster_size

    def attach(self, trainer: Engine) -> None:
        """Registers on a trainer, after the handler that loads a checkpoint."""
        trainer.add_event_handler(Events.EPOCH_STARTED, self.reassign)

    def reassign(self, trainer: Engine) -> None:
        """New clusters, a new classifier."""
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
        """Pooled features of the central crops of all training volumes, (volumes, channels), in every process."""
        mean = self.network.mean
        features = mean.new_zeros(len(self.volumes), len(mean))
        with eval_mode(self.network):
            for place in range(idist.get_rank(), len(self.volumes), idist.get_world_size()):
                image = convert_to_tensor(self.crop(self.volumes[place]["image"]), track_meta=False)
                features[place] = self.network.pooled(image[None].to(features))[0]
        return idist.all_reduce(features) if idist.get_world_size() > 1 else features

    @torch.no_grad()
    def cluster(self, features: torch.Tensor, random: np.random.Generator, epoch: int) -> None:
        """Fills the network's buffers from features (volumes, channels)."""
        network = self.network
        before = None if not network.sizes.any() else network.assignments.cpu().numpy().copy()
        fitted = fit_whitening(features.double().cpu().numpy(), self.components, self.volumes_per_component)
        for buffer, value in zip((network.mean, network.whitening), fitted, strict=True):
            buffer.copy_(torch.from_numpy(value))
        if not network.whitening.any():
            logger.warning(f"epoch {epoch}: the features of all {len(features)} volumes are the same, they collapsed")
        points = network.whitened(features)
        assignments = balanced_k_means(points.double().cpu().numpy(), len(network.sizes), self.min_cluster_size, random)
        network.assignments.copy_(torch.from_numpy(assignments))
        network.sizes.copy_(network.assignments.bincount(minlength=len(network.sizes)))
        network.centroids.zero_().index_add_(0, network.assignments, points.to(network.centroids))
        network.centroids.div_(network.sizes.clamp_min(1)[:, None])
        sizes = sorted(network.sizes[network.sizes > 0].tolist(), reverse=True)
        kept = "none before" if before is None else f"{normalized_mutual_info_score(before, assignments):.2f}"
        differ = float((features - features.mean(dim=0)).norm() / features.norm())
        logger.info(
            f"epoch {epoch}: features of volumes differ by {differ:.2%}; {len(sizes)} of {len(network.sizes)} "
            f"clusters, of {sizes} volumes; normalised mutual information with the clusters before: {kept}"
        )


def inverse_size_weights(sizes: torch.Tensor) -> torch.Tensor:
    """Weights (clusters,) of the volumes of each cluster, from the sizes: 1 in the mean of all volumes, 0 if empty."""
    weights = sizes.sum() / ((sizes > 0).sum() * sizes.clamp_min(1).float())
    return weights * (sizes > 0)


def fit_whitening(features: np.ndarray, components: int, volumes_per_component: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean m and matrix A such that (x - m) A are the whitened principal components of features x.

    At most `components` are kept, and only so many that each has `volumes_per_component` volumes; for fewer than two A
    is the identity. Components without variance are left out. Where all features are alike A is zero.

    Args:
        features: (volumes, channels).

    Returns:
        (channels,) and (channels, channels); columns behind the last component are zero.
    """
    volumes, channels = features.shape
    mean = features.mean(axis=0)
    matrix = np.zeros((channels, channels))
    smallest = ALIKE * np.sqrt(np.square(features).sum() / volumes)  # standard deviation
    if np.sqrt(np.square(features - mean).sum() / volumes) <= smallest:
        return mean, matrix
    count = min(components, channels, volumes // volumes_per_component)
    if count < 2:
        return mean, np.eye(channels)
    with threadpool_limits(1):
        pca = PCA(count, svd_solver="full").fit(features)
    deviation = np.sqrt(pca.explained_variance_)
    kept = int((deviation > smallest).sum())
    matrix[:, :kept] = pca.components_[:kept].T / deviation[:kept]
    return mean, matrix


def balanced_k_means(
    points: np.ndarray, clusters: int, min_cluster_size: int, random: np.random.Generator
) -> np.ndarray:
    """Cluster (volumes,) of each of the points (volumes, components), none of fewer than `min_cluster_size` points.

    At most `clusters`, and no more than the points that differ can fill; some may be empty where none can be split.
    """
    different = len(np.unique(points.round(5), axis=0))
    clusters = max(min(clusters, different // min_cluster_size), 1)
    with threadpool_limits(1):  # sums in one order, so that one seed gives one result
        k_means = KMeans(clusters, n_init=10, random_state=int(random.integers(2**31))).fit(points)
    return without_tiny_clusters(points, k_means.labels_.astype(np.int64), clusters, min_cluster_size, random)


def without_tiny_clusters(
    points: np.ndarray, labels: np.ndarray, clusters: int, min_cluster_size: int, random: np.random.Generator
) -> np.ndarray:
    """Clusters of fewer than `min_cluster_size` points get new members, as empty clusters in the paper (section 3.3).

    Their points go to the nearest other centroid. Then each takes part of another cluster, drawn at random among those
    of twice that size or more: the points on one side of its centroid, in a random direction; that is what a second
    centroid beside the first one, by a small random perturbation, attracts.

    Args:
        points: (volumes, components). labels: (volumes,), below `clusters`; one cluster or more is large enough.
    """
    labels = labels.copy()
    sizes = np.bincount(labels, minlength=clusters)
    tiny, large = np.flatnonzero(sizes < min_cluster_size), np.flatnonzero(sizes >= min_cluster_size)
    centroids = np.stack([points[labels == cluster].mean(axis=0) for cluster in large])
    for point in np.flatnonzero(np.isin(labels, tiny)):
        labels[point] = large[np.square(centroids - points[point]).sum(axis=1).argmin()]
    for cluster in tiny:
        donors = np.flatnonzero(np.bincount(labels, minlength=clusters) >= 2 * min_cluster_size)
        if not len(donors):
            break
        members = np.flatnonzero(labels == random.choice(donors))
        along = (points[members] - points[members].mean(axis=0)) @ random.normal(size=points.shape[1])
        cut = np.clip((along < 0).sum(), min_cluster_size, len(members) - min_cluster_size)
        labels[members[np.argsort(along, kind="stable")[cut:]]] = cluster
    return labels
