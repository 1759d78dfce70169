# SPDX-License-Identifier: Apache-2.0
"""A file that is published names no folder of the machine that made it."""

from custom.running.config import without_folders


def test_absolute_paths_lose_their_folders_and_nothing_else_changes() -> None:
    config = {
        "dataset_dir": "/home/anna/study 7/",
        "root": "$@bundle_root + '/data'",
        "relative": "bundles/gvsl_pretrain/output",
        "list": ["/mnt/a/ct.csv", 3, None, {"weights": "/scratch/b.pt", "clip": True}],
    }
    assert without_folders(config) == {
        "dataset_dir": "study 7",
        "root": "$@bundle_root + '/data'",
        "relative": "bundles/gvsl_pretrain/output",
        "list": ["ct.csv", 3, None, {"weights": "b.pt", "clip": True}],
    }
