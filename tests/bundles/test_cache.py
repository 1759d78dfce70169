# SPDX-License-Identifier: Apache-2.0
"""The cache on disk of one process is that of the next: the preprocessing of every bundle has one hash."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from runs import ROOT

BUNDLES = sorted(path.name for path in (ROOT / "bundles").iterdir() if (path / "configs" / "train.json").is_file())
HASH = """
import json, sys, tempfile
from monai.bundle import ConfigParser
from custom.data.cache import _DiskCache
hashes = {}
for name in sys.argv[1:]:
    parser = ConfigParser()
    parser.read_config(f"bundles/{name}/configs/train.json")
    if name != "gvsl_pretrain":
        parser["labels"] = {"a": 3, "b": 7}
    parser["pretrained_weights"] = None
    transform = parser.get_parsed_content("train#preprocessing")
    hashes[name] = _DiskCache([], transform, tempfile.mkdtemp()).transform_hash
print(json.dumps(hashes))
"""


@pytest.fixture(scope="module")
def hashes() -> list[dict[str, str]]:
    """Of the preprocessing of each bundle, in two processes."""
    outputs = [subprocess.check_output([sys.executable, "-c", HASH, *BUNDLES], cwd=ROOT) for _ in range(2)]
    return [json.loads(output.splitlines()[-1]) for output in outputs]


@pytest.mark.parametrize("bundle", BUNDLES)
def test_the_preprocessing_has_the_same_hash_in_every_process(bundle: str, hashes: list[dict[str, str]]) -> None:
    assert hashes[0][bundle] == hashes[1][bundle]


@pytest.mark.parametrize("bundle", BUNDLES)
def test_an_evaluation_reads_one_volume_at_a_time(bundle: str) -> None:
    """Otherwise one bad volume stops it before the first case."""
    content = json.loads((ROOT / "bundles" / bundle / "configs" / "evaluate.json").read_text())
    assert content["validate#dataset#cache_rate"] == 0.0
