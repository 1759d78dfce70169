# SPDX-License-Identifier: Apache-2.0
"""The network of gvsl_pretrain as a class that NVIDIA FLARE's server can build by its path."""

from __future__ import annotations

from typing import Any

import torch
from monai.bundle import ConfigParser

from custom.shipped import BUNDLES

BUNDLE = BUNDLES / "gvsl_pretrain"


class PretextNetwork(torch.nn.Module):
    """Backbone and heads; the state dict has the names that the sites use.

    Args:
        overrides: of train.json, such as {"channels": [8, 16, 32]}; the same as at the sites.
    """

    def __init__(self, overrides: dict[str, Any]) -> None:
        super().__init__()
        parser = ConfigParser()
        parser.read_config(BUNDLE / "configs" / "train.json")
        parser.update(overrides)
        for name, part in parser.get_parsed_content("pretext_network").named_children():
            self.add_module(name, part)
