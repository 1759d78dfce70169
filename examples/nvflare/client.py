# SPDX-License-Identifier: Apache-2.0
"""A site: measures the averaged weights on its held-out pairs, then trains an epoch on its own volumes."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

import nvflare.client as flare
import torch
from monai.fl.client import MonaiAlgo
from monai.fl.utils.constants import ExtraItems
from monai.fl.utils.exchange_object import ExchangeObject

from custom.shipped import BUNDLES


def make_client(site: str, overrides: dict[str, Any]) -> MonaiAlgo:
    """MONAI's client of gvsl_pretrain.

    Args:
        site: name of the site.
        overrides: of train.json: at least dataset_dir, output_dir and max_epochs (the number of rounds).
    """
    train = "configs/train.json"  # also for evaluation: evaluate.json would load the weights of the bundle
    evaluate = overrides | {"validate#handlers": [{"_target_": "custom.handlers.MeanOutputs"}]}  # writes no files
    bundle = str(BUNDLES / "gvsl_pretrain")
    client = MonaiAlgo(bundle, 1, False, train, overrides, config_evaluate_filename=train, eval_kwargs=evaluate)
    client.initialize({ExtraItems.CLIENT_NAME: site})
    return client


def main(data: str, output: str) -> None:
    """Takes part in the rounds of the server.

    Args:
        data: folder with the folders of the sites.
        output: folder for those of the results.
    """
    flare.init()
    site = flare.get_site_name()
    overrides = json.loads(Path(__file__).with_name("overrides.json").read_text())  # job.py puts it there
    client = make_client(site, overrides | {"dataset_dir": f"{data}/{site}", "output_dir": f"{output}/{site}"})
    while flare.is_running():
        average = flare.receive()
        weights = ExchangeObject(weights=average.params)
        loss = float(client.evaluate(weights).metrics["loss"])
        print(f"{site}, round {average.current_round}: loss of the average on held-out pairs {loss:.4f}", flush=True)
        client.train(weights)
        trained = client.get_weights().weights  # on a CPU in channels-last order, which FLARE does not send
        params = {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in trained.items()}
        flare.send(flare.FLModel(params=params, metrics={"loss": loss}))


if __name__ == "__main__":
    parser = ArgumentParser()
    parser.add_argument("--data")
    parser.add_argument("--output")
    main(**vars(parser.parse_args()))
