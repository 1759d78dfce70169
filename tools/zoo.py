# SPDX-License-Identifier: Apache-2.0
"""Bundles as files of a pull request to MONAI's model zoo: `python -m tools.package_bundles --zoo FOLDER`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from pprint import pformat
from typing import Any

TEMPLATE = Path(__file__).with_name("zoo_unit_test.py")
OF_HUGGING_FACE = "README.md"  # the model card; the zoo shows docs/README.md
LINE_LENGTH = 120

# one epoch of one iteration on the fewest phantoms that can be split
SHORT = {"max_epochs": 1, "iterations_per_epoch": 1, "val_interval": 1, "num_workers": 0}
SHORT |= {"patch_size": [32, 32, 32], "warmup_iterations": 1}
SEGMENTATION = {"cohort#subjects": 3, "validation_share": 1, "test_share": 1, "validate#inferer#overlap": 0.0}
OVERRIDES: dict[str, dict[str, Any]] = {
    "gvsl_covid_cls": SHORT | {"cohort#subjects": 6},
    "gvsl_pretrain": SHORT | {"cohort#subjects": 4, "validation_pairs": 2},
}


def pull_request(name: str, files: Mapping[str, bytes]) -> dict[str, bytes]:
    """Path in the zoo -> content.

    Args:
        name: name of the bundle.
        files: path in the zip -> content, with large_files.yml instead of weights.
    """
    inside = {f"models/{name}/{path}": content for path, content in files.items() if path != OF_HUGGING_FACE}
    return inside | {f"ci/unit_tests/test_{name}.py": unit_test(name).encode()}


def unit_test(name: str) -> str:
    """The unit test of a bundle, from the template."""
    words = "".join(part.capitalize() for part in name.split("_"))
    overrides = pformat(OVERRIDES.get(name, SHORT | SEGMENTATION), width=LINE_LENGTH, sort_dicts=False)
    inner = "\n".join(f"    {line.strip()}" for line in overrides.strip("{}").splitlines())
    text = TEMPLATE.read_text(encoding="utf-8")
    text = text.replace("OVERRIDES: dict = {}\n", f"OVERRIDES = {{\n{inner},\n}}\n".replace("'", '"'))
    return text.replace("TestBundle", f"Test{words}").replace("NAME", name)
