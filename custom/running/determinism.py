# SPDX-License-Identifier: Apache-2.0
"""Whether a run gives the same numbers each time, or computes faster on a GPU."""

from __future__ import annotations

import os

import torch
from monai.utils import set_determinism


def seed_run(seed: int, deterministic: bool) -> None:
    """Seed Python, NumPy and torch; choose between repeatable and fast algorithms of CUDA.

    The choice changes nothing on a CPU, where the same seed always gives the same numbers. Some operations of the
    networks and losses (the backward passes of max pooling, trilinear interpolation and `grid_sample`) have no
    deterministic implementation in CUDA: a repeatable run is then not exact, and torch warns of each such operation.

    Args:
        seed: of all generators.
        deterministic: use deterministic algorithms where torch has them. If not, cuDNN measures at the first batch
            which algorithm is fastest (`torch.backends.cudnn.benchmark`).
    """
    set_determinism(seed)
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = deterministic, not deterministic
    exact = deterministic and torch.cuda.is_available()
    if exact:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is deterministic only with it
    torch.use_deterministic_algorithms(exact, warn_only=True)
