# SPDX-License-Identifier: Apache-2.0
"""Run with the MONAI Deploy App SDK: python deploy_filter.py BUNDLES VOLUME

For every bundle the SDK's filter takes the loader out of inference.json. The others must give what all of them
give, from a volume in memory without channel axis, as the SDK's operator hands it over.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from monai.bundle import ConfigParser
from monai.deploy.operators.monai_bundle_inference_operator import DISALLOW_LOAD_SAVE, filter_compose

from custom.volumes import load_volume


def main(bundles: Path, volume: Path) -> None:
    """Prints the name of each bundle whose filtered transforms give the same volume."""
    for bundle in sorted(bundles.iterdir()):
        config = ConfigParser.load_config_file(bundle / "configs" / "inference.json") | {"bundle_root": str(bundle)}
        expected = preprocessing(config)({"image": str(volume)})["image"]
        in_memory = load_volume(volume)[0]
        in_memory.meta["original_channel_dim"] = "no_channel"
        found = filter_compose(preprocessing(config), DISALLOW_LOAD_SAVE)({"image": in_memory})["image"]
        assert torch.equal(found.as_tensor(), expected.as_tensor()), bundle
        assert torch.equal(found.affine, expected.affine), bundle
        print(bundle.name)


def preprocessing(config: dict):
    """The transforms of a config, built anew."""
    return ConfigParser(dict(config)).get_parsed_content("preprocessing")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
