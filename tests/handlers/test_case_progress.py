# SPDX-License-Identifier: Apache-2.0
"""The bar of inference counts windows as parts of cases, and short runs show none."""

from __future__ import annotations

import pytest
import torch
from monai.data import Dataset
from monai.inferers import SimpleInferer, SlidingWindowInferer

from custom.data import CaseLoader
from custom.engines import CaseEvaluator
from custom.handlers import CaseProgress
from custom.handlers.case_progress import window_count


class Counted(torch.nn.Module):
    """The identity; `windows` counts."""

    windows = 0

    def forward(self, volumes: torch.Tensor) -> torch.Tensor:
        self.windows += len(volumes)
        return volumes


@pytest.mark.parametrize("shape", [(8, 8, 8), (3, 9, 21), (17, 16, 13), (40, 8, 4)])
@pytest.mark.parametrize("overlap", [0.5, 0.25, 0.0])
def test_windows_are_counted_as_monai_cuts_them(shape: tuple[int, ...], overlap: float) -> None:
    network, inferer = Counted(), SlidingWindowInferer((8, 8, 8), 2, overlap)
    inferer(torch.zeros(1, 1, *shape), network)
    assert window_count(inferer, shape) == network.windows
    assert window_count(SimpleInferer(), shape) == 1


def run(inferer: SlidingWindowInferer) -> tuple[CaseProgress, list[float]]:
    seen: list[float] = []
    progress, network = CaseProgress(), Counted()
    loader = CaseLoader(Dataset([{"image": torch.zeros(1, 8, 8, 12)}] * 3), batch_size=1, num_workers=0)
    evaluator = CaseEvaluator("cpu", loader, network=network, inferer=inferer, val_handlers=[progress])
    network.register_forward_hook(lambda *_: seen.append(round(progress._bar.n, 3)))
    evaluator.run()
    return progress, seen


def test_windows_are_parts_of_a_case(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    inferer = SlidingWindowInferer((8, 8, 8), 1, 0.5)
    progress, _ = run(inferer)
    assert progress._bar.n == pytest.approx(3) and capsys.readouterr().err == ""  # short
    monkeypatch.setattr("custom.handlers.case_progress.DELAY", 0)
    run(inferer)
    assert "3.00/3" in capsys.readouterr().err
