# SPDX-License-Identifier: Apache-2.0
"""Weights: files, comparison of network and input with a config, the authors' checkpoint."""

from .compatibility import check_compatible, check_objects, describe
from .configure import configure_by_weights
from .loading import load_backbone, load_network, load_pretext_network
from .network import network_from
from .origin import WeightsOrigin, origin_of, trained_or_shipped
from .state import (
    BACKBONE_PREFIX,
    description_file,
    load_pretext,
    load_strictly,
    read_state,
    read_weights,
    save_pretext,
    save_weights,
    unwrapped,
    weights_file,
)
