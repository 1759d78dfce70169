# SPDX-License-Identifier: Apache-2.0
"""The bundles of the repository, as the benchmarks run them."""

from __future__ import annotations

from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

from monai.bundle import ConfigWorkflow

from custom.files import read_json

BENCHMARKS = Path(__file__).resolve().parent
ROOT = BENCHMARKS.parent
BUNDLES = ROOT / "bundles"
PRETRAINING_CONFIGS = BUNDLES / "gvsl_pretrain" / "configs"
EARLIER_OVERLAYS = BENCHMARKS / "tasks" / "overlays"  # of gvsl_pretrain, for tables measured with them


def workflow(bundle: str, files: list[str], overrides: dict[str, Any], kind: str = "train") -> ConfigWorkflow:
    """An initialised MONAI workflow of a bundle.

    Args:
        bundle: folder in bundles/.
        files: names in its configs/ or in tasks/overlays/; later files override earlier ones.
        overrides: config keys and their values. They are copied, because MONAI changes nested ones in place.
        kind: "train", or "infer" for inference.
    """
    configs = BUNDLES / bundle / "configs"
    built = ConfigWorkflow(
        [str(config_path(bundle, name)) for name in files],
        str(configs / "metadata.json"),
        logging_file=False,
        workflow_type=kind,
        bundle_root=str(BUNDLES / bundle),
        **deepcopy(overrides),
    )
    built.initialize()
    return built


def config_path(bundle: str, name: str) -> Path:
    """A file in tasks/overlays/ or, where none has this name, in the configs of a bundle."""
    path = EARLIER_OVERLAYS / name
    return path if path.is_file() else BUNDLES / bundle / "configs" / name


def read_pretraining_config(name: str) -> dict[str, Any]:
    """The content of a config of gvsl_pretrain."""
    return read_json(config_path("gvsl_pretrain", name), "a config")


@cache
def pretext_overlays() -> dict[str, dict[str, Any]]:
    """Name and content of the files in configs/pretext of gvsl_pretrain, each of which sets another pretext task."""
    names = sorted(path.stem for path in (PRETRAINING_CONFIGS / "pretext").glob("*.json"))
    return {name: read_pretraining_config(f"pretext/{name}.json") for name in names}
