# SPDX-License-Identifier: Apache-2.0
"""DeepCluster: clusters by a naive judge, none empty, weights, resuming, several processes, collapse."""

from __future__ import annotations

import itertools
import logging
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from ignite.engine import Events
from torch import nn
from torch.utils.data import DataLoader

from custom.data import GlobalSampler
from custom.engines import PretextTrainer
from custom.handlers import CsvTable, TrainingState
from custom.networks import UNet3D
from custom.pretext.deep_cluster import (
    DeepClusterLoss,
    DeepClusterPretext,
    ReassignClusters,
    block_size,
    block_starts,
    cut_blocks,
    fit_whitening,
    inverse_size_weights,
    k_means,
)
from custom.weights import load_pretext, save_pretext

CHANNELS = (8, 16, 32)
PATCH, BLOCK = (16, 16, 16), (16, 12, 8)  # four blocks
CORNERS = ((0, 0, 0), (0, 0, 8), (0, 4, 0), (0, 4, 8))


def volumes(count: int = 8, shape: tuple[int, ...] = (18, 16, 17), seed: int = 0) -> list[dict[str, torch.Tensor]]:
    """Noise of two kinds, fine and coarse by turns, larger than the patch."""
    generator = torch.Generator().manual_seed(seed)
    fine = torch.rand(count, 1, *shape, generator=generator)
    coarse = nn.functional.avg_pool3d(fine, 5, stride=1, padding=2)
    return [{"image": (fine, coarse)[index % 2][index]} for index in range(count)]


def network(count: int = 8, clusters: int = 3, seed: int = 0, block: tuple[int, ...] = BLOCK) -> DeepClusterPretext:
    torch.manual_seed(seed)
    return DeepClusterPretext(UNet3D(1, CHANNELS), CHANNELS[-1], clusters, count, PATCH, block)


def patches(items: list[dict[str, torch.Tensor]], moving: list[int], fixed: list[int], indices: bool = True) -> dict:
    """A batch of the central patches of these volumes."""
    centre = torch.stack([item["image"][:, 1:17, :, :16] for item in items])
    batch = {"moving": centre[moving], "fixed": centre[fixed], "index": torch.arange(len(moving))}
    there = {"moving_index": torch.tensor(moving), "fixed_index": torch.tensor(fixed)}
    return batch | (there if indices else {})


class Pairs(torch.utils.data.Dataset):
    """All patches of volumes in pairs, by index."""

    def __init__(self, items: list[dict[str, torch.Tensor]]) -> None:
        self.items = items

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        moving, fixed = index % len(self.items), (index // 3 + index + 1) % len(self.items)
        return {name: value[0] for name, value in patches(self.items, [moving], [fixed]).items()}


class Run:
    """A process: everything is made anew; the weights before the first checkpoint are the seed's."""

    def __init__(self, folder: Path, epochs: int = 3, seed: int = 0, resume: bool = False) -> None:
        self.network, items = network(seed=seed), volumes()
        self.optimizer = torch.optim.Adam(self.network.parameters(), 3e-3)
        objects = {"network": self.network, "optimizer": self.optimizer}
        self.state = TrainingState(str(folder / "checkpoints"), objects, resume)
        self.reassign = ReassignClusters(self.network, self.optimizer, items, seed=5)
        handlers = [self.state, CsvTable(str(folder / "training.csv")), self.reassign]
        self.trainer = PretextTrainer(
            device=torch.device("cpu"),
            max_epochs=epochs,
            train_data_loader=DataLoader(Pairs(items), batch_size=2, sampler=GlobalSampler(8)),
            network=self.network,
            optimizer=self.optimizer,
            loss_function=DeepClusterLoss(),
            prepare_batch=lambda batch, *_, **__: batch,
            train_handlers=handlers,
        )


def clustered(model: DeepClusterPretext, items: list[dict[str, torch.Tensor]], **arguments) -> ReassignClusters:
    """The network after the first clustering, as at the start of epoch 1."""
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    handler = ReassignClusters(model, optimizer, items, seed=0, **arguments)
    handler.cluster(handler.features(), np.random.default_rng(0), epoch=1)
    return handler


def blobs_of_points(sizes: tuple[int, ...], dimensions: int = 4, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Points in groups far apart, and the group of each."""
    random = np.random.default_rng(seed)
    centres = 10 * np.eye(len(sizes), dimensions)
    groups = np.repeat(np.arange(len(sizes)), sizes)
    return centres[groups] + 0.1 * random.normal(size=(len(groups), dimensions)), groups


def same_partition(first: np.ndarray, second: np.ndarray) -> bool:
    return np.array_equal(first[:, None] == first, second[:, None] == second)


# clustering


def test_k_means_finds_the_best_partition_of_few_points():
    """The judge tries all assignments."""
    points = np.random.default_rng(3).normal(size=(8, 2))
    labels = k_means(points, 3, np.random.default_rng(0))

    def cost(assignment) -> float:
        groups = [points[np.array(assignment) == cluster] for cluster in set(assignment)]
        return sum(float(((group - group.mean(axis=0)) ** 2).sum()) for group in groups)

    best = min((a for a in itertools.product(range(3), repeat=8) if len(set(a)) == 3), key=cost)
    assert cost(labels.tolist()) == pytest.approx(cost(best))


def test_k_means_is_fixed_by_its_generator():
    points = np.random.default_rng(1).normal(size=(40, 5))
    runs = [k_means(points, 12, np.random.default_rng([7, epoch])) for epoch in (1, 1, 2)]
    assert np.array_equal(runs[0], runs[1]) and not np.array_equal(runs[0], runs[2])


@pytest.mark.parametrize("clusters", [4, 9, 18])
def test_no_cluster_is_empty(clusters: int):
    for seed in range(8):
        random = np.random.default_rng(seed)
        points = random.normal(size=(18, 3)) * random.exponential(size=(18, 1)) ** 3  # outliers, alone in k-means
        assert np.bincount(k_means(points, clusters, random), minlength=clusters).min() >= 1


def test_duplicates_make_fewer_clusters():
    points = np.repeat(np.eye(3), 6, axis=0)
    assert same_partition(k_means(points, 5, np.random.default_rng(0)), np.repeat(np.arange(3), 6))
    assert not k_means(np.zeros((18, 3)), 5, np.random.default_rng(0)).any()


# whitening


def test_whitening_makes_unit_covariance_of_the_largest_components():
    random = np.random.default_rng(0)
    features = random.normal(size=(80, 6)) @ np.diag([5, 3, 1, 0.5, 0.1, 0]) @ random.normal(size=(6, 6)) + 7
    mean, matrix = fit_whitening(features, components=4, blocks_per_component=10)
    whitened = (features - mean) @ matrix
    assert np.allclose(np.cov(whitened.T), np.diag([1, 1, 1, 1, 0, 0]), atol=1e-9)
    basis = np.linalg.svd(features - mean)[2][:4]
    assert np.allclose(matrix.T @ (basis.T @ basis), matrix.T)  # of the space of the four largest
    fewer = fit_whitening(features, 256, 40)[1]
    assert (np.abs(fewer).sum(axis=0) > 0).tolist() == [True, True] + [False] * 4
    without_variance = fit_whitening(features, 256, 10)[1]
    assert (np.abs(without_variance).sum(axis=0) > 0).tolist() == [True] * 5 + [False]


def test_few_blocks_keep_few_components_and_why():
    """Whitened in all their components any blocks are equally far from each other, so that clusters mean nothing."""
    features, groups = blobs_of_points((4, 3), dimensions=30)
    mean, matrix = fit_whitening(features, 256, 4)
    assert np.count_nonzero(matrix.any(axis=0)) == 1
    assert same_partition(k_means((features - mean) @ matrix, 2, np.random.default_rng(0)), groups)
    everything = (features - mean) @ fit_whitening(features, 6, 1)[1]
    distances = np.square(everything[:, None] - everything).sum(axis=2)[~np.eye(7, dtype=bool)]
    assert np.allclose(distances, distances[0])


@pytest.mark.parametrize("count", [3, 40])  # of one component and of more
def test_features_that_differ_by_rounding_are_not_blown_up(count: int):
    features = 0.7 + 1e-7 * np.random.default_rng(0).normal(size=(count, 5))
    assert not fit_whitening(features, 256, 4)[1].any()
    assert fit_whitening(1e4 * (features - 0.7), 256, 4)[1].any()  # small alone is no collapse


# blocks


def test_blocks_cover_the_patch_from_face_to_face():
    assert tuple(block_starts(PATCH, BLOCK)) == CORNERS
    assert block_starts((7, 5, 4), (3, 5, 4)) == [(0, 0, 0), (2, 0, 0), (4, 0, 0)]
    counts = torch.zeros(2, 1, 33, 48, 40)
    starts = block_starts(counts.shape[2:], (16, 32, 32))
    assert len(starts) == 12
    for start in starts:
        counts[(..., *(slice(first, first + side) for first, side in zip(start, (16, 32, 32), strict=True)))] += 1
    assert counts.min() == 1
    assert block_size((48, 40, 17), parts=2, multiple=16) == [32, 32, 16]
    for size in ((17, 16, 16), (0, 16, 16)):
        with pytest.raises(ValueError, match=r"expected 1 or more and at most \[16, 16, 16\]"):
            block_starts(PATCH, size)


def test_blocks_are_slices():
    volumes = torch.rand(2, 1, *PATCH, generator=torch.Generator().manual_seed(0))
    blocks = cut_blocks(volumes, CORNERS, BLOCK)
    assert blocks.shape == (2, 4, 1, *BLOCK)
    for index, (_, y, z) in enumerate(CORNERS):
        assert torch.equal(blocks[:, index], volumes[..., y : y + 12, z : z + 8])


# network


def pooled_of(model: DeepClusterPretext, item: dict[str, torch.Tensor], block: int) -> torch.Tensor:
    """Features (1, channels) of one block of the central patch, one at a time."""
    _, y, z = CORNERS[block]
    centre = item["image"][None, :, 1:17, :, :16]
    return model.backbone.forward_bottleneck(centre[..., y : y + 12, z : z + 8]).mean(dim=(2, 3, 4))


def test_outputs_in_training_and_evaluation():
    model, items = network(), volumes()
    clustered(model, items)
    batch = patches(items, [0, 3, 5], [1, 2, 6])
    outputs = model.train()(batch)
    shapes = {name: tuple(value.shape) for name, value in outputs.items()}
    assert shapes == {"logits": (24, 3), "cluster": (6, 4), "weight": (6, 4)}
    assert torch.equal(outputs["cluster"], model.assignments[[0, 3, 5, 1, 2, 6]])
    held_out = model.eval()(batch)
    bottleneck, local = model.backbone.forward_features(torch.cat((batch["moving"], batch["fixed"])))
    torch.testing.assert_close(held_out["bottleneck"], bottleneck)
    torch.testing.assert_close(held_out["local"], local)
    torch.testing.assert_close(held_out["logits"], outputs["logits"])


def test_the_label_of_held_out_blocks_is_the_nearest_centroid():
    model, items = network(clusters=6), volumes()
    clustered(model, items)
    batch = patches(volumes(40, seed=9), list(range(20)), list(range(20, 40)), indices=False)
    found = model.eval()(batch)["cluster"]
    assert found.shape == (40, 4) and len(found.unique()) > 1
    pooled = model.pooled(torch.cat((batch["moving"], batch["fixed"]))).detach().flatten(0, 1).double().numpy()
    mean, matrix = (buffer.double().numpy() for buffer in (model.mean, model.whitening))
    for row, label in enumerate(found.flatten().tolist()):
        point = (pooled[row] - mean) @ matrix
        point /= np.linalg.norm(point)
        distances = [np.linalg.norm(point - centroid) for centroid in model.centroids.double().numpy()]
        assert label == int(np.argmin(distances))


def test_clusters_that_stay_empty_are_out_of_the_softmax():
    model, items = network(count=2, clusters=6, block=PATCH), volumes(2)
    clustered(model, items)
    assert model.sizes.tolist() == [1, 1, 0, 0, 0, 0]
    outputs = model.train()(patches(items, [0], [1]))
    assert outputs["logits"].isinf().any(dim=0).tolist() == [False] * 2 + [True] * 4
    assert DeepClusterLoss()(outputs, {})["loss"].isfinite()


def test_an_empty_cluster_is_nobodys_nearest():
    model, along = network(), torch.eye(32)[:1]
    model.whitening, model.centroids, model.sizes = torch.eye(32), torch.zeros(3, 32), torch.tensor([4, 0, 4])
    model.centroids[0], model.centroids[2] = along, along + torch.eye(32)[1]
    assert model.nearest(torch.cat((along, -along))).tolist() == [0, 0]


def test_buffers_describe_the_clusters():
    model, items = network(), volumes()
    handler = clustered(model, items)
    points, clusters = model.whitened(handler.features()), model.assignments.flatten()
    torch.testing.assert_close(points.norm(dim=1), torch.ones(32))
    assert model.sizes.tolist() == [int((clusters == cluster).sum()) for cluster in range(3)]
    for cluster in range(3):
        torch.testing.assert_close(model.centroids[cluster], points[clusters == cluster].mean(dim=0))
    fine_and_coarse = network(clusters=2)
    clustered(fine_and_coarse, items, components=1)
    assert same_partition(fine_and_coarse.assignments.flatten().numpy(), np.arange(8).repeat(4) % 2)


def test_features_are_of_the_blocks_of_the_central_crop_without_a_trace_in_the_network():
    model, items = network().train(), volumes()
    handler = ReassignClusters(model, torch.optim.Adam(model.parameters()), items, seed=0)
    features = handler.features()
    torch.testing.assert_close(
        features, torch.cat([pooled_of(model, item, block) for item in items for block in range(4)])
    )
    assert model.training and not features.requires_grad


def test_without_clusters_or_with_other_volumes_an_error_says_so():
    model, items = network(), volumes()
    with pytest.raises(RuntimeError, match="no clusters yet"):
        model(patches(items, [0], [1]))
    with pytest.raises(ValueError, match="7 training volumes, but the network is made for 8"):
        ReassignClusters(model, torch.optim.Adam(model.parameters()), items[:7], seed=0)


# loss


def test_loss_is_that_of_a_loop_and_each_cluster_weighs_the_same():
    model, items = network(clusters=5), volumes(8)
    model.assignments = torch.tensor([0, 2, 4, 0] * 8).view(8, 4)  # two clusters are empty
    model.assignments[3] = 2
    model.sizes = torch.tensor([14, 0, 11, 0, 7])
    nn.init.normal_(model.classifier.weight)
    batch = patches(items, [0, 7, 6], [1, 3, 2])
    outputs = model.train()(batch)
    expected, hits = 0.0, 0
    for index, block in itertools.product((0, 7, 6, 1, 3, 2), range(4)):
        cluster = int(model.assignments[index, block])
        features = pooled_of(model, items[index], block)
        logits = (features @ model.classifier.weight.T + model.classifier.bias).detach().double()[0]
        full = [logits[other] for other in (0, 2, 4)]  # empty clusters take no part
        share = math.exp(logits[cluster]) / sum(math.exp(logit) for logit in full)
        expected -= 32 / (3 * int(model.sizes[cluster])) * math.log(share) / 24
        hits += logits[cluster] == max(full)
    terms = DeepClusterLoss()(outputs, batch)
    assert terms["loss"].item() == pytest.approx(expected, abs=1e-5)
    assert terms["accuracy"].item() == pytest.approx(int(hits) / 24)
    weights = inverse_size_weights(model.sizes)
    assert (weights * model.sizes).tolist() == pytest.approx([32 / 3, 0, 32 / 3, 0, 32 / 3])


def test_a_batch_of_one_cluster_keeps_its_weight():
    """Weights that were normalised within the batch would vanish here."""
    outputs = {"logits": torch.zeros(2, 4), "cluster": torch.ones(2, 1, dtype=torch.long)}
    terms = DeepClusterLoss()(outputs | {"weight": torch.full((2, 1), 2.5)}, {})
    assert terms["loss"].item() == pytest.approx(2.5 * math.log(4))


def test_loss_in_float32():
    outputs = {"logits": torch.zeros(2, 4, dtype=torch.bfloat16), "cluster": torch.ones(2, 1, dtype=torch.long)}
    assert DeepClusterLoss()(outputs | {"weight": torch.ones(2, 1)}, {})["loss"].dtype == torch.float32


def test_gradient_reaches_encoder_and_classifier_only():
    model, items = network(), volumes()
    clustered(model, items)
    batch = patches(items, [0, 2], [1, 3])
    DeepClusterLoss()(model.train()(batch), batch)["loss"].backward()
    for name, parameter in model.named_parameters():
        has_gradient = parameter.grad is not None and bool(parameter.grad.abs().sum() > 0)
        assert has_gradient != name.startswith("backbone.decoder."), name
    for name in ("moving", "fixed"):  # each of the two volumes counts
        alone = {**batch, name: batch[name].clone().requires_grad_()}
        DeepClusterLoss()(model(alone), alone)["loss"].backward()
        assert alone[name].grad.abs().sum() > 0


def test_a_few_steps_reduce_the_loss():
    model, items = network(4, clusters=2), volumes(4)
    handler = clustered(model, items)
    model.reset_classifier(torch.Generator().manual_seed(0))
    batch, losses = patches(items, [0, 2], [1, 3]), []
    for _ in range(25):
        terms = DeepClusterLoss()(model.train()(batch), batch)
        handler.optimizer.zero_grad()
        terms["loss"].backward()
        handler.optimizer.step()
        losses.append(terms["loss"].item())
    assert losses[-1] < 0.3 * losses[0]


# handler


def test_each_epoch_begins_with_new_clusters_and_a_new_classifier_in_place(tmp_path, caplog):
    run = Run(tmp_path)
    before, seen = list(run.network.classifier.parameters()), []

    def note(engine) -> None:
        states = [len(run.optimizer.state[parameter]) for parameter in before]
        others = sum(len(state) > 0 for state in run.optimizer.state.values())
        seen.append((run.network.classifier.weight.detach().clone(), states, others))

    run.trainer.add_event_handler(Events.EPOCH_STARTED, note)
    with caplog.at_level(logging.INFO, logger="custom.pretext.deep_cluster"):
        run.trainer.run()
    encoder = len(list(run.network.backbone.encoder.parameters()))
    assert [(states, others) for _, states, others in seen] == [([0, 0], 0)] + [([0, 0], encoder)] * 2
    for weight, *_ in seen:
        assert 0.005 < float(weight.std()) < 0.02 and abs(float(weight.mean())) < 0.005
    assert not torch.equal(seen[0][0], seen[1][0])
    after = list(run.network.classifier.parameters())
    assert all(parameter is other for parameter, other in zip(before, after, strict=True))
    assert [text for text in caplog.messages if "clusters, of" in text][0].endswith("before: none before")
    assert len([text for text in caplog.messages if text.startswith(("epoch 1", "epoch 2", "epoch 3"))]) == 3


@pytest.mark.parametrize("stop", [4, 6, 8])  # at the end of an epoch, in the middle of one and at an end again
def test_a_stopped_run_resumes_to_the_same_numbers(tmp_path, stop: int):
    whole = Run(tmp_path / "whole")
    whole.trainer.run()
    part = Run(tmp_path / "part")
    part.trainer.add_event_handler(Events.ITERATION_COMPLETED(once=stop), lambda engine: part.state._save(engine))
    part.trainer.add_event_handler(Events.ITERATION_COMPLETED(once=stop), lambda engine: engine.terminate())
    part.trainer.run()
    resumed = Run(tmp_path / "part", seed=1, resume=True)
    resumed.trainer.run()
    tables = [(tmp_path / name / "training.csv").read_bytes() for name in ("whole", "part")]
    assert tables[0] == tables[1] and tables[0].count(b"\n") == 13
    for name, value in whole.network.state_dict().items():
        assert torch.equal(value, resumed.network.state_dict()[name]), name


def test_clusters_survive_the_round_trip_of_weights(tmp_path):
    model, other, items = network(), network(seed=1), volumes()
    clustered(model, items)
    save_pretext(model, tmp_path, {"pretext_task": "deep_cluster"})
    load_pretext(other, tmp_path)
    batch = patches(items, [0, 2], [1, 3], indices=False)
    for name, value in model.eval()(batch).items():
        assert torch.equal(value, other.eval()(batch)[name]), name
    with pytest.raises(ValueError, match=r"assignments has shape \(8, 4\), the network \(6, 4\)"):
        load_pretext(network(count=6), tmp_path)


def test_features_that_collapse_are_reported(caplog):
    model, items = network(), volumes()
    with torch.no_grad():
        model.backbone.encoder[-1][4].weight.zero_()  # the last norm: constant, but not zero
        model.backbone.encoder[-1][4].bias.fill_(0.7)
    clustered(model, items)
    assert "the features of all 32 blocks are the same, they collapsed" in caplog.text
    assert model.sizes.tolist() == [32, 0, 0]
    batch = patches(items, [0, 2], [1, 3])
    assert DeepClusterLoss()(model(batch), batch)["loss"].item() == 0  # the trivial solution


def in_process(rank: int, folder: str) -> None:
    """One epoch of one of two processes; the second one begins with other random numbers."""
    torch.set_num_threads(1)
    run = Run(Path(folder) / str(rank), epochs=1)
    np.random.seed(rank), torch.manual_seed(rank)
    run.trainer.state.epoch, run.trainer.state.iteration, run.trainer.state.epoch_length = 1, 0, 4
    run.reassign.reassign(run.trainer)
    torch.save(run.network.state_dict(), Path(folder) / f"{rank}.pt")


def test_two_processes_agree_with_one(in_two_processes, tmp_path):
    assert in_two_processes(in_process) == [0, 0]
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    assert first["sizes"].sum() == 32
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    alone = Run(tmp_path / "alone")
    alone.trainer.state.epoch, alone.trainer.state.iteration, alone.trainer.state.epoch_length = 1, 0, 4
    alone.reassign.reassign(alone.trainer)
    for name, value in alone.network.state_dict().items():
        torch.testing.assert_close(value, first[name])
