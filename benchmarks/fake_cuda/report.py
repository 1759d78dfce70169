# SPDX-License-Identifier: Apache-2.0
"""The traced steps and their table."""

from __future__ import annotations

import torch

from benchmarks.bundles import BENCHMARKS
from custom.files import write_json

from .trace import Step, trace

RESULT = BENCHMARKS / "results" / "fake_cuda.json"
PRETEXTS = ("denoising", "in_painting", "models_genesis", "rotation", "simclr", "simsiam", "byol", "deep_cluster")
CONVOLVED = {
    "deformable_head": {"_target_": "custom.networks.DeformableHead", "in_channels": "$@channels[0]"},
    "places": 0,
    "contrast_weight": 0.0,
}
BUNDLES = ("heart", "coronary", "brain", "covid")
FOLDERS = {"gvsl": "gvsl_pretrain", "covid": "gvsl_covid_cls", **{name: f"gvsl_seg_{name}" for name in BUNDLES[:3]}}


def config_steps(name: str) -> dict[str, Step]:
    """The steps of a bundle's train.json and paper.json, each in float32 and in mixed precision."""
    overrides = {"loss::weight": None} if name == "brain" else {}  # it is made of the data
    steps = {}
    for overlay, label in (((), ""), (("paper.json",), ", paper.json")):
        for amp in (False, True):
            steps[name + label + ", amp" * amp] = Step(FOLDERS[name], overlay, overrides, amp)
    return steps


STEPS = {
    **config_steps("gvsl"),
    "gvsl, convolved head": Step(overrides=CONVOLVED),
    **{name: Step(overlays=(f"pretext/{name}.json",)) for name in PRETEXTS},
    **{name: step for bundle in BUNDLES for name, step in config_steps(bundle).items()},
}


def report(output: str = str(RESULT)) -> None:
    """Traces every step, prints a line for each and writes the result.

    Args:
        output: the JSON file.
    """
    traced = {}
    for name, step in STEPS.items():
        traced[name] = trace(step)
        print(f"{name}: {traced[name]['peak_gib']} GiB, {sum(traced[name]['syncs'].values())} syncs", flush=True)
    content = {"command": "python -m benchmarks.fake_cuda", "torch": torch.__version__, "steps": traced}
    write_json(output, content, "the traced steps")
