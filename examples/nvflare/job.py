# SPDX-License-Identifier: Apache-2.0
"""Federated pre-training in NVIDIA FLARE's simulator: sites train, the server averages their weights (FedAvg).

The last average is saved as a folder of weights, which all bundles read. docs/federated.md explains it.
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

import fire
import torch
from network import PretextNetwork
from nvflare.app_opt.pt.recipes.fedavg import FedAvgRecipe
from nvflare.client.config import ExchangeFormat
from nvflare.recipe import SimEnv

from custom.files import read_json, write_json
from custom.weights import save_pretext

HERE = Path(__file__).resolve().parent


def main(data: str, output: str, rounds: int = 2, overrides: dict[str, Any] | None = None) -> None:
    """Pre-trains over the sites of a folder; saves the average of their weights in OUTPUT/federated.

    Args:
        data: folder with a folder of volumes for each site, whose name is that of the site.
        output: folder for the results of the sites and for FLARE's workspace.
        rounds: in each of which every site trains one epoch.
        overrides: of train.json, the same for all sites, such as "{'spacing': [2.0, 2.0, 2.0]}".

    Raises:
        ValueError: there are fewer than two sites.
    """
    source, folder = Path(data).resolve(), Path(output).resolve()
    chosen = {"num_workers": 0} | (overrides or {}) | {"max_epochs": rounds}
    sites = sorted(path.name for path in source.iterdir() if path.is_dir())
    if len(sites) < 2:
        raise ValueError(f"{data} has the folders {sites}, expected one for each of at least two sites")
    recipe = FedAvgRecipe(
        name="gvsl_pretrain",
        model={"class_path": "network.PretextNetwork", "args": {"overrides": chosen}},
        min_clients=len(sites),
        num_rounds=rounds,
        train_script=str(HERE / "client.py"),
        train_args=shlex.join(["--data", str(source), "--output", str(folder)]),
        launch_external_process=True,
        command=f"{sys.executable} -u",
        server_expected_format=ExchangeFormat.PYTORCH,
        key_metric="loss",
        key_metric_mode="min",
    )
    write_json(folder / "overrides.json", chosen)
    recipe.add_client_file(str(folder / "overrides.json"))
    recipe.add_server_file(str(HERE / "network.py"))
    recipe.execute(SimEnv(clients=sites, workspace_root=str(folder / "workspace")))
    (average,) = (folder / "workspace").rglob("FL_global_model.pt")
    save_average(average, chosen, folder / sites[0] / "model.json", folder / "federated")


def save_average(weights: Path, overrides: dict[str, Any], described: Path, folder: Path) -> None:
    """Saves the server's weights as a folder of weights.

    Args:
        weights: file of the server.
        overrides: of train.json.
        described: model.json of a site; data and measures in it are those of the site.
        folder: for the files.
    """
    network = PretextNetwork(overrides)
    network.load_state_dict(torch.load(weights, weights_only=True)["model"])
    description = read_json(described)
    del description["files"]
    save_pretext(network, folder, description)
    print(f"wrote the average to {folder}")


if __name__ == "__main__":
    fire.Fire(main)
