# SPDX-License-Identifier: Apache-2.0
"""Federated pre-training by MonaiAlgo with the code of docs/federated.md, and fine-tuning."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.fl.client import MonaiAlgo
from monai.fl.utils.constants import ExtraItems
from monai.fl.utils.exchange_object import ExchangeObject
from runs import ROOT, rows

from custom.phantoms import CardiacPhantomCohort
from custom.weights import load_pretext, read_weights

ROUNDS, ITERATIONS = 2, 6
BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "federated.md").read_text(), re.DOTALL)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six phantoms: two for each of two sites, two held out."""
    root = tmp_path_factory.mktemp("cohort")
    CardiacPhantomCohort(str(root), subjects=6, seed=3, workers=0).make()
    return root


def overrides_of(site: int, cohort: Path, output: Path) -> dict[str, Any]:
    """A small network on coarse crops; the sites take turns in the training volumes, and none has the other's."""
    return {
        "dataset_dir": str(cohort),
        "output_dir": str(output),
        "train#dataset#data": f"$@data['training'][{site}::2]",
        "validation_share": 2,
        "validation_pairs": 2,
        "spacing": [8.0, 8.0, 8.0],
        "patch_size": [24, 24, 24],
        "channels": [8, 16, 32],
        "max_epochs": ROUNDS,
        "iterations_per_epoch": ITERATIONS,
        "warmup_iterations": 2,
        "num_workers": 0,
    }


def test_two_sites_lower_the_validation_loss(cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    code: dict[str, Any] = {}
    exec(BLOCKS[0], code)
    outputs = [tmp_path / f"site_{site}" for site in range(2)]
    clients = [
        code["make_client"](output.name, overrides_of(site, cohort, output)) for site, output in enumerate(outputs)
    ]
    data = [{item["image"] for item in client.train_workflow.train_dataset_data} for client in clients]
    assert all(len(images) == 2 for images in data) and not data[0] & data[1]
    weights = code["initial_weights"](clients[0])
    losses = [code["validation_loss"](clients, weights)]
    for done in range(1, ROUNDS + 1):
        before = {name: tensor.clone() for name, tensor in weights.items()}
        weights = code["train_round"](clients, weights)
        local = [client.trainer.network.state_dict() for client in clients]
        for name, tensor in weights.items():
            assert torch.allclose(tensor, (local[0][name] + local[1][name]) / 2), name
        assert any(not torch.equal(local[0][name], local[1][name]) for name in weights)
        assert any(not torch.equal(before[name], weights[name]) for name in weights)
        losses.append(code["validation_loss"](clients, weights))
        for client, output in zip(clients, outputs, strict=True):  # the rounds go on, nothing is set aside
            assert client.trainer.state.epoch == done and len(rows(output / "training.csv")) == ITERATIONS * done
            assert not (output / "earlier").exists()
    print("validation losses", losses)
    assert losses[-1] < losses[0] - 0.1
    check_saving(clients, weights, tmp_path, monkeypatch)


def check_saving(clients: list, weights: dict, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The end of the second block of the page, run where site_a has written its files."""
    shutil.copytree(folder / "site_0", folder / "site_a" / "output")
    monkeypatch.chdir(folder)
    imports, last = BLOCKS[1].split("\n\n")[0], BLOCKS[1].split("\n\n")[-1]
    exec(f"{imports}\n{last}", {"clients": clients, "weights": weights})
    network = clients[1].trainer.network
    assert load_pretext(network, folder / "federated")["pretext_task"] == "gvsl"
    assert all(torch.equal(tensor, weights[name]) for name, tensor in network.state_dict().items())


def test_weights_of_a_round_are_not_replaced_by_weights_of_the_bundle(
    cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engines of a downstream bundle, which loads weights of its own, run with the weights of the server."""
    monkeypatch.chdir(ROOT)
    bundle = "bundles/gvsl_seg_heart"
    chosen = {"dataset_dir": str(cohort), "output_dir": str(tmp_path), "spacing": [8.0] * 3, "patch_size": [24] * 3}
    chosen |= {"accept_mismatch": ["spacing"], "figures": False, "num_workers": 0, "learning_rate": 0.0}
    chosen |= {"iterations_per_epoch": 1, "max_epochs": 1, "val_interval": 2, "test_share": 1}
    client = MonaiAlgo(bundle, 1, False, train_kwargs=chosen, eval_kwargs=chosen)
    client.initialize({ExtraItems.CLIENT_NAME: "site"})
    start, shipped = (read_weights(ROOT / bundle / "models" / name)[0] for name in ("backbone.pt", "model.pt"))
    initial = client.trainer.network.state_dict()
    assert all(torch.equal(initial[f"backbone.{name}"], start[name]) for name in start if name.startswith("encoder"))
    evaluated = client.evaluator.network.state_dict()
    assert all(torch.equal(tensor, shipped[name]) for name, tensor in evaluated.items())
    weights = {name: torch.full_like(tensor, 0.01) for name, tensor in shipped.items()}
    client.train(ExchangeObject(weights=weights))
    client.evaluate(ExchangeObject(weights=weights))
    for network in (client.trainer.network, client.evaluator.network):
        assert all(torch.equal(tensor, weights[name]) for name, tensor in network.state_dict().items())
