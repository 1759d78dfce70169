# SPDX-License-Identifier: Apache-2.0
"""What several test modules need: one thread, smooth volumes with a formula, small pretext networks, shared data."""

from __future__ import annotations

from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
import torch

from custom.layers import AuthorsConventions, PhysicalConventions
from custom.networks import (
    AffineHead,
    DeformableHead,
    KeypointAffineHead,
    RestorationHead,
    UNet3D,
    ZMatchingHead,
)
from custom.pretext import GVSLPretext

HELPERS = ("downstream", "segmentation", "runs", "prepared", "small_runs", "zips", "server", "restoring", "views")
SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
LONGEST = ("benchmarks", "tools", "bundles")  # folders

pytest.register_assert_rewrite(*HELPERS)  # so that a failing check shows its values
torch.set_num_threads(1)  # exact repeats, and one core for each process of pytest-xdist


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest comes first, so that workers of pytest-xdist end together."""
    items.sort(key=lambda item: item.path.parent.name not in LONGEST)


@pytest.fixture
def shared_data() -> Path:
    """The folder ../shared/data beside the repository; the test is skipped where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip("../shared/data is absent")
    return SHARED_DATA


@pytest.fixture
def in_two_processes(tmp_path: Path) -> Callable[[Callable[[int, str], None]], list[int]]:
    """Function that calls another with (rank, tmp_path) in each process of a group of two, gives their exit codes."""

    def run(call: Callable[[int, str], None]) -> list[int]:
        def join(rank: int) -> None:
            store = f"file://{tmp_path}/store"
            torch.distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=2)
            call(rank, str(tmp_path))
            torch.distributed.destroy_process_group()

        processes = [get_context("fork").Process(target=join, args=(rank,)) for rank in (0, 1)]
        for process in processes:
            process.start()
        for process in processes:
            process.join(60)
            process.kill()  # where they wait for each other for ever
        return [process.exitcode for process in processes]

    return run


@pytest.fixture
def voxel_grid() -> Callable[..., np.ndarray]:
    """Function of the sides: positions (*sides, 3) in voxels relative to the centre."""

    def make(*sides: int) -> np.ndarray:
        return np.stack(np.meshgrid(*(np.arange(side) - (side - 1) / 2 for side in sides), indexing="ij"), axis=-1)

    return make


@pytest.fixture
def blobs() -> Callable[..., np.ndarray]:
    """Function of (points, seed): a sum of Gaussian blobs at any points (..., 3), a texture without symmetry.

    A formula, so that a moved volume is computed and not interpolated.
    """

    def make(points: np.ndarray, seed: int = 0, radius: float = 6.7, count: int = 40) -> np.ndarray:
        random = np.random.default_rng(seed)
        direction = random.normal(size=(count, 3))
        direction /= np.linalg.norm(direction, axis=1, keepdims=True)
        centres = direction * radius * random.uniform(size=(count, 1)) ** (1 / 3)
        widths, heights = random.uniform(1.5, 3, count), random.uniform(0.3, 1, count)
        squares = ((points[..., None, :] - centres) ** 2).sum(-1)
        return (heights * np.exp(-squares / (2 * widths**2))).sum(-1) / 3

    return make


@pytest.fixture
def make_pretext() -> Callable[..., GVSLPretext]:
    """Function that makes a seeded GVSL pretext network, narrow unless told; heads can be switched off."""

    def make(
        channels: tuple[int, ...] = (8, 16, 32),
        affine: int | None = 32,
        deformable: int | None = 8,
        restoration: int | None = 8,
        matching: bool = True,
        seed: int = 0,
        keypoints: bool = False,
        conventions: PhysicalConventions | AuthorsConventions | None = None,
    ) -> GVSLPretext:
        torch.manual_seed(seed)
        backbone = UNet3D(1, channels)
        if keypoints:
            affine_head = KeypointAffineHead(channels[-1], 2 ** (len(channels) - 1))
        else:
            affine_head = None if affine is None else AffineHead(channels[-1], affine)
        deformable_head = None if deformable is None else DeformableHead(channels[0], deformable)
        matching_head = ZMatchingHead(affine_head, deformable_head, conventions) if matching else None
        restoration_head = None if restoration is None else RestorationHead(channels[0], restoration)
        return GVSLPretext(backbone, matching_head, restoration_head)

    return make


@pytest.fixture
def random_pairs() -> Callable[..., dict[str, torch.Tensor]]:
    """Function of (pairs, spatial): a batch of noise in [0, 1], as `GVSLPretext` takes it."""

    def make(pairs: int = 2, spatial: tuple[int, ...] = (16, 16, 16), seed: int = 0, dtype=torch.float32) -> dict:
        generator = torch.Generator().manual_seed(seed)
        names = ("moving", "moving_transformed", "fixed")
        batch = {name: torch.rand(pairs, 1, *spatial, generator=generator, dtype=dtype) for name in names}
        return batch | {"index": torch.arange(pairs)}

    return make
