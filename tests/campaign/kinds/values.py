# SPDX-License-Identifier: Apache-2.0
"""Values of configs and command lines: typos, wrong kinds, numbers that make no sense."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .kind import Kind, inference, kind, registration, training
from .volumes import volumes

PRETRAIN, HEART, CORONARY, BRAIN, COVID = (
    "gvsl_pretrain", "gvsl_seg_heart", "gvsl_seg_coronary", "gvsl_seg_brain", "gvsl_covid_cls")  # fmt: skip


def wrong(
    bundle: str, key: str, value: Any, *words: str, config: str = "train", name: str = "", data: bool = False
) -> Kind:
    """
    A kind of wrong value.

    Args:
        bundle: bundle that gets it.
        key: overridden key, `__` for `#`.
        value: its value.
        words: see `Kind`; the key is always among them.
        config: "train", "evaluate", "inference" or "register".
        name: of the kind; by default key, value and bundle.
        data: whether the value is only seen after the data were read.
    """

    def make(folder: Path) -> list[str]:
        if data:
            volumes(folder / "data", labelled=bundle != PRETRAIN or config == "evaluate")
        if config == "register":
            return registration(folder, **{key: value})
        if config == "inference":
            return inference(bundle, folder, **{key: value})
        return training(bundle, folder, "train" if config == "train" else "train evaluate", **{key: value})

    last = key.rpartition("__")[2]
    return kind(name or f"{key} {value!r}, {bundle} {config}", make, last, *words)


def config_file(content: str) -> Any:
    """A run with an overlay of this content."""

    def make(folder: Path) -> list[str]:
        volumes(folder / "data")
        (folder / "overlay.json").write_text(content)
        return training(PRETRAIN, folder, f"train {folder / 'overlay.json'}")

    return make


def absent_class(folder: Path) -> list[str]:
    volumes(folder / "data")
    return training(PRETRAIN, folder, loss___target_="custom.pretext.NoLoss")


def word_as_label(folder: Path) -> list[str]:
    volumes(folder / "data", labelled=True)
    return training(BRAIN, folder, labels={"a": "x"})


WHOLE, NUMBER, BOOL, LIST = "whole number", "a number", "True or False", "three"
KINDS: list[Kind] = [
    wrong(PRETRAIN, "learnin_rate", 0.1, "learning_rate"),
    wrong(HEART, "learnin_rate", 0.1, "learning_rate"),
    wrong(CORONARY, "pretrained_weigths", "x", "pretrained_weights"),
    wrong(BRAIN, "patchsize", [16, 16, 16], "patch_size"),
    wrong(COVID, "max_epoch", 3, "max_epochs"),
    wrong(PRETRAIN, "datset_dir", "x", "dataset_dir", config="inference"),
    wrong(HEART, "model_dirr", "x", "model_dir", config="inference"),
    wrong(CORONARY, "modeldir", "x", "model_dir", config="inference"),
    wrong(BRAIN, "output", "x", "output_dir", config="inference"),
    wrong(COVID, "accept_mismatches", ["spacing"], "accept_mismatch", config="inference"),
    wrong(PRETRAIN, "movng", "x", "moving", config="register"),
    wrong(PRETRAIN, "moving_lable", "x", "moving_label", config="register"),
    wrong(PRETRAIN, "model_dri", "x", "model_dir", config="evaluate"),
    wrong(HEART, "model_dirr", "x", "model_dir", config="evaluate"),
    wrong(PRETRAIN, "resume", "maybe", BOOL),
    wrong(HEART, "resume", 2, BOOL),
    wrong(CORONARY, "figures", "flase", BOOL),
    wrong(PRETRAIN, "figures", "no", BOOL, config="evaluate"),
    wrong(BRAIN, "amp", "half", BOOL),
    wrong(COVID, "amp", "on", BOOL, config="inference"),
    wrong(PRETRAIN, "max_epochs", 1.5, WHOLE),
    wrong(HEART, "max_epochs", 0, WHOLE),
    wrong(CORONARY, "max_epochs", -3, WHOLE),
    wrong(BRAIN, "max_epochs", "many", WHOLE),
    wrong(PRETRAIN, "iterations_per_epoch", 0, WHOLE),
    wrong(COVID, "iterations_per_epoch", 2.5, WHOLE),
    wrong(PRETRAIN, "batch_size", 0, WHOLE),
    wrong(HEART, "batch_size", -1, WHOLE),
    wrong(CORONARY, "batch_size", "two", WHOLE),
    wrong(BRAIN, "val_interval", 0, WHOLE),
    wrong(PRETRAIN, "num_workers", -1, WHOLE),
    wrong(COVID, "num_workers", 1.5, WHOLE),
    wrong(PRETRAIN, "seed", -1, WHOLE),
    wrong(HEART, "seed", "today", WHOLE),
    wrong(PRETRAIN, "validation_pairs", 0, WHOLE),
    wrong(PRETRAIN, "validation_share", 1.5, "between 0 and 1|share", data=True, name="share of validation above 1"),
    wrong(PRETRAIN, "validation_share", "half", "number|share", data=True, name="share of validation as word"),
    wrong(HEART, "validation_share", -1, "number|share", data=True, name="negative share of validation"),
    wrong(CORONARY, "test_share", 1.0, "number|share", data=True, name="share of test of 1"),
    wrong(HEART, "learning_rate", -0.1, NUMBER),
    wrong(BRAIN, "learning_rate", "fast", NUMBER),
    wrong(COVID, "learning_rate", "$float('nan')", NUMBER, name="learning rate of NaN"),
    wrong(PRETRAIN, "warmup_iterations", -1, WHOLE),
    wrong(PRETRAIN, "spacing", 3.5, LIST),
    wrong(HEART, "spacing", [1, 1], LIST),
    wrong(CORONARY, "spacing", [0, 1, 1], LIST),
    wrong(BRAIN, "spacing", [-1, 1, 1], LIST),
    wrong(COVID, "spacing", "fine", LIST, config="inference"),
    wrong(PRETRAIN, "spacing", ["1", "1", "1"], LIST, config="register"),
    wrong(PRETRAIN, "patch_size", 48, LIST),
    wrong(HEART, "patch_size", [16, 16], LIST),
    wrong(CORONARY, "patch_size", [0, 16, 16], LIST),
    wrong(BRAIN, "patch_size", [16.5, 16, 16], LIST, config="inference"),
    wrong(COVID, "patch_size", [-16, 16, 16], LIST),
    wrong(PRETRAIN, "patch_size", [16, 16, 16, 16], LIST, config="inference"),
    wrong(PRETRAIN, "channels", [], "two"),
    wrong(HEART, "channels", [16], "two"),
    wrong(CORONARY, "channels", [0, 16], "two"),
    wrong(BRAIN, "channels", 16, "two"),
    wrong(PRETRAIN, "device", "cuda:3", "CUDA"),
    wrong(HEART, "device", "cuda", "CUDA", config="inference"),
    wrong(CORONARY, "device", "tpu", "cpu"),
    wrong(PRETRAIN, "device", "", "cpu|empty", config="register", name="device without a name"),
    wrong(PRETRAIN, "refine", -1, WHOLE, config="register"),
    wrong(PRETRAIN, "refine", "many", WHOLE, config="register"),
    wrong(PRETRAIN, "max_size", 0, "above 0|at least|positive", config="register", data=True),
    wrong(PRETRAIN, "background", "air", "number", config="register", data=True),
    wrong(PRETRAIN, "intensity__a_max", -2000, "a_min", data=True, name="upper end of the window below the lower"),
    wrong(HEART, "intensity__a_max", -1024, "a_min", data=True, name="window of no width"),
    wrong(PRETRAIN, "cohort__subjects", 0, "subjects", name="cohort of 0 subjects"),
    wrong(BRAIN, "cohort__seed", -1, "seed", name="negative seed of a cohort"),
    wrong(HEART, "labels", {}, "structure|labels|class", data=True, name="no structures"),
    wrong(CORONARY, "labels", {"a": 1, "b": 1}, "different values", data=True, name="two structures of one value"),
    wrong(HEART, "inferer__overlap", 1.5, "overlap", config="inference", name="overlap above 1"),
    wrong(
        HEART,
        "accept_mismatch",
        ["spacin"],
        "spacing",
        config="inference",
        data=True,
        name="mistyped word of accept_mismatch",
    ),
    wrong(PRETRAIN, "accept_mismatch", ["network"], "network", config="register", name="network in accept_mismatch"),
    wrong(PRETRAIN, "train__trainer__max_epoch", 3, "max_epoch", data=True, name="mistyped key inside of a component"),
    wrong(PRETRAIN, "loss__smooth_field", "velocity", "velocity", data=True, name="field that does not exist"),
    kind(
        "expression that fails", lambda folder: training(PRETRAIN, folder, learning_rate="$1/0"), "division", r"\$1/0"
    ),
    kind("structure with a word as value", word_as_label, r"label.*'x'"),
    kind("reference to nothing", lambda folder: training(PRETRAIN, folder, learning_rate="@no_such"), "no_such"),
    kind("overlay with a mistyped key", config_file('{"learnin_rate": 1}'), "learnin_rate", "learning_rate"),
]
