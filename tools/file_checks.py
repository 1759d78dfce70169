# SPDX-License-Identifier: Apache-2.0
"""Checks of a bundle that read its files and run none of its code.

Needed files, installed versions, overlay keys that exist, the same preparation in inference and validation, and
figures in the documentation and the metadata that come from a result file.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from custom.files import read_json, sha256
from custom.weights import description_file

FILES = ("LICENSE", "configs/inference.json", "configs/train.json", "configs/logging.conf", "docs/README.md",
         "docs/data_license.txt", "models/model.pt", "models/model.json")  # fmt: skip
NEW_KEYS = {  # that an overlay may add to train.json
    "evaluate.json": {"model_dir", "invert", "accept_mismatch", "gray_scale"},
    "multi_gpu_train.json": {"backend", "finalize"},
    "propagate.json": {"atlas_dir", "atlases", "data"},
}
LAID_OVER = {"propagate.json": "register.json"}  # overlays of another config than train.json
# keys of inference.json that may differ from the same key of train.json
OWN_OF_INFERENCE = {"imports", "accept_mismatch", "output_dir", "data", "network_def", "network", "run", "initialize"}
QUOTES = re.compile(r"<!-- figures: (\S+) -->\n(.*?)<!-- end of figures -->", re.DOTALL)
LINE_LENGTH = 120
NUMBER = re.compile(r"(?<![\w.])-?\d+\.\d+(?![\w.])")


def formatted(root: Path, results: str) -> Iterator[str]:
    """Black with the zoo's line length changes nothing; not checked where black is not installed."""
    if find_spec("black") is None:
        print(f"{root.name}: not checked by black, which is not installed (extra `zoo` of setup.cfg)", flush=True)
        return
    code = [path for path in (root / "scripts",) if path.is_dir()]
    command = [sys.executable, "-m", "black", "--check", "--line-length", str(LINE_LENGTH), *map(str, code)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8") if code else None
    if done and done.returncode:
        yield from (line for line in done.stderr.splitlines() if line.startswith(("would reformat", "error")))


def hashes(root: Path, results: str) -> Iterator[str]:
    """Every .pt in models/ has the hash that its description, NAME.json or model.json, names."""
    for path in sorted((root / "models").rglob("*.pt")):
        described_by = description_file(path)
        described = read_json(described_by, "the description of the weights").get("files")
        entry = described.get(path.name) if isinstance(described, dict) else None
        expected = entry.get("sha256") if isinstance(entry, dict) else None
        if expected != (actual := sha256(path)):
            yield f"{path.relative_to(root / 'models')} has SHA-256 {actual}, {described_by.name} names {expected}"


def files(root: Path, results: str) -> Iterator[str]:
    """Files that every bundle of the zoo has."""
    yield from (f"{name} is missing" for name in FILES if not (root / name).is_file())


def versions(root: Path, results: str) -> Iterator[str]:
    """The installed versions, which the tests ran with, are the versions that the metadata name."""
    content = read_json(root / "configs" / "metadata.json")
    named = content["required_packages_version"] | {
        package: content[key]
        for package, key in (("monai", "monai_version"), ("torch", "pytorch_version"), ("numpy", "numpy_version"))
    }
    installed = {package: version(package).partition("+")[0] for package in named}
    if different := [f"{name} {named[name]} ({installed[name]})" for name in named if named[name] != installed[name]]:
        yield f"these are named (and installed): {', '.join(different)}"


def overlays(root: Path, results: str) -> Iterator[str]:
    """Keys of an overlay are in train.json, or in what it is laid over: MONAI adds a mistyped key without a word."""
    for path in sorted((root / "configs").glob("*.json")):
        overlay = read_json(path)
        if "bundle_root" in overlay or path.name == "metadata.json":  # complete configs
            continue
        under = LAID_OVER.get(path.name, "train.json")
        config = read_json(root / "configs" / under)
        for key in overlay:
            if not has_key(config, key.lstrip("+")) and key not in NEW_KEYS.get(path.name, ()):
                yield f"{path.name}: {key} is not in {under}"


def has_key(config: Any, key: str) -> bool:
    """Whether a config has a key such as `train#handlers#0`."""
    for part in key.split("#"):
        if not (part in config if isinstance(config, dict) else part.isdigit() and int(part) < len(config)):
            return False
        config = config[part] if isinstance(config, dict) else config[int(part)]
    return True


def preprocessing(root: Path, results: str) -> Iterator[str]:
    """Inference prepares its input as validation does: the same components, in the same order.

    `EnsureChannelFirstd` is for volumes that a program hands over in memory.
    """
    train, inference = (read_json(root / "configs" / name) for name in ("train.json", "inference.json"))
    for name in train.keys() & inference.keys() - OWN_OF_INFERENCE:
        trained = of_inference(name, train[name], inference[name])
        if trained != inference[name]:
            yield f"{name} is {trained} in train.json, {inference[name]} in inference.json"
    validation = steps(train, train["validate"]["preprocessing"])
    ours = [step for step in steps(inference, inference["preprocessing"]) if step["_target_"] != "EnsureChannelFirstd"]
    names, our_names = ([step["_target_"] for step in side] for side in (validation, ours))
    if [name for name in names if name in our_names] != our_names:
        yield f"inference prepares by {our_names}, validation by {names}"
    for step in ours:
        for same in (other for other in validation if other["_target_"] == step["_target_"]):
            for argument in step.keys() & same.keys() - {"keys", "mode"}:  # one entry for each key, image and label
                if step[argument] != same[argument]:
                    name = f"{argument} of {step['_target_']}"
                    yield f"{name} is {same[argument]} in validation, {step[argument]} in inference"


def of_inference(name: str, trained: Any, own: Any) -> Any:
    """What inference.json needs of a value of train.json: the shipped labels alone, and no heads of pre-training."""
    if name == "labels" and "_target_" in trained:
        return trained["default"]
    if name == "expects":
        components = {key: value for key, value in trained["components"].items() if key in own["components"]}
        return trained | {"components": components}
    return trained


def steps(config: dict[str, Any], compose: dict[str, Any]) -> list[dict[str, Any]]:
    """The transforms of a Compose, references to other keys resolved."""
    return [config[step[1:]] if isinstance(step, str) else step for step in compose["transforms"]]


def quoted_figures(root: Path, results: str) -> Iterator[str]:
    """Decimal numbers between `<!-- figures: PATH -->` and `<!-- end of figures -->` are in the result file PATH.

    They may be rounded, or in percent. PATH is relative to the bundle (such as models/model.json, which a zip has too)
    or to the folder of results.
    """
    blocks = QUOTES.findall((root / "docs" / "README.md").read_text(encoding="utf-8"))
    if not blocks:
        yield "docs/README.md quotes no figures from a result file"
    for path, text in blocks:
        file = next((Path(folder, path) for folder in (root, results) if Path(folder, path).is_file()), None)
        if file is None:
            yield f"docs/README.md quotes {path}, which does not exist"
            continue
        known = list(numbers(read_json(file)))
        for quoted in NUMBER.findall(text):
            digits = len(quoted.partition(".")[2])
            near = 0.5 * 10**-digits * (1 + 1e-9)
            if not any(abs(scale * value - float(quoted)) <= near for value in known for scale in (1, 100)):
                yield f"docs/README.md quotes {quoted}, which is not in {path}"


def eval_metrics(root: Path, results: str) -> Iterator[str]:
    """The `eval_metrics` of the metadata are among the figures that docs/README.md quotes from result files."""
    blocks = QUOTES.findall((root / "docs" / "README.md").read_text(encoding="utf-8"))
    quoted = {float(number) for _, text in blocks for number in NUMBER.findall(text)}
    metrics = read_json(root / "configs" / "metadata.json").get("eval_metrics")
    if not metrics:
        yield "metadata.json names no eval_metrics"
        return
    for name, value in metrics.items():
        if value not in quoted:
            yield f"metadata.json: {name} is {value}, which docs/README.md does not quote from a result file"


def numbers(content: Any) -> Iterator[float]:
    """All numbers in a JSON value."""
    if isinstance(content, dict):
        content = list(content.values())
    if isinstance(content, list):
        for entry in content:
            yield from numbers(entry)
    elif isinstance(content, (int, float)) and not isinstance(content, bool):
        yield float(content)


CHECKS = (files, formatted, versions, overlays, preprocessing, quoted_figures, eval_metrics)
