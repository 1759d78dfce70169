# SPDX-License-Identifier: Apache-2.0
"""Checks bundles as the MONAI model zoo does, and more: python -m tools.verify_bundles [--bundle_dir D]

The zoo's checks: metadata against its schema, version and changelog, network input and output, TorchScript export.
Ours: needed files, hashes of the weights, complete properties of every workflow, overlay keys that exist, inference
that prepares its input as validation does, versions that are the pins, quoted figures that come from a result file.
The exit status is 1 if a check fails; every failure is printed.
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from typing import Any

import fire

ROOT = Path(__file__).resolve().parents[1]
FILES = ("LICENSE", "configs/inference.json", "configs/train.json", "configs/logging.conf", "docs/README.md",
         "docs/data_license.txt", "models/model.pt", "models/model.json")  # fmt: skip
# what an overlay may add, and what inference may have of its own under a name that training has too
NEW_KEYS = {
    "evaluate.json": {"model_dir", "invert", "accept_mismatch"},
    "multi_gpu_train.json": {"backend", "finalize"},
}
OWN_OF_INFERENCE = {"imports", "accept_mismatch", "output_dir", "data", "network_def", "network", "run", "initialize"}
QUOTES = re.compile(r"<!-- figures: (\S+) -->\n(.*?)<!-- end of figures -->", re.DOTALL)
NUMBER = re.compile(r"(?<![\w.])-?\d+\.\d+(?![\w.])")


def verify(bundle_dir: str = str(ROOT / "bundles"), schema: str = "", results: str = str(ROOT)) -> None:
    """Verifies every bundle of a folder.

    Args:
        bundle_dir: folder of bundles, a bundle, or a folder of zips with model_info.json as tools/package_bundles.py
            writes it (they are unpacked into a temporary folder).
        schema: the schema of the metadata as a file; downloaded by its address in metadata.json if not given.
        results: folder from which the paths in the docs' `<!-- figures: PATH -->` count.
    """
    folder = Path(bundle_dir)
    with tempfile.TemporaryDirectory() as temporary:
        if (folder / "model_info.json").is_file():
            try:
                unpack_all(folder, Path(temporary))
            except ValueError as error:
                sys.exit(f"FAILED {error}")
            folder = Path(temporary)
        bundles = [folder] if (folder / "configs").is_dir() else sorted(p.parent for p in folder.glob("*/configs"))
        if not bundles:
            sys.exit(f"FAILED {folder} holds no bundle, expected NAME/configs/metadata.json")
        arguments = ["--schema", str(Path(schema).resolve())] if schema else []
        # a process each: the code of two zips has one name, scripts
        done = [
            subprocess.run([sys.executable, __file__, "one", bundle.resolve(), *arguments, "--results", results])
            for bundle in bundles
        ]
    sys.exit(any(process.returncode for process in done))


def unpack_all(folder: Path, target: Path) -> None:
    """The zips of a folder, each with the hash that model_info.json names and no member outside of its top folder."""
    for stem, info in json.loads((folder / "model_info.json").read_text(encoding="utf-8")).items():
        unpack(folder / f"{stem}.zip", info["sha256"], target)


def unpack(path: Path, sha256: str, target: Path) -> None:
    """Unpacks a zip after looking at all of it.

    Raises:
        ValueError: missing, another hash, or a member that is not below the one top folder, the bundle's name.
    """
    if not path.is_file():
        raise ValueError(f"{path} does not exist, but model_info.json names it")
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != sha256:
        raise ValueError(f"{path} has SHA-256 {found}, model_info.json names {sha256}")
    top = path.name.rpartition("_v")[0]
    with zipfile.ZipFile(path) as archive:
        outside = [
            name
            for name in archive.namelist()
            if PurePosixPath(name).parts[:1] != (top,) or ".." in PurePosixPath(name).parts or "\\" in name
        ]
        if outside:
            raise ValueError(f"{path} holds {outside[:3]}, expected members below {top}/ alone")
        archive.extractall(target)


def verify_one(bundle: str, schema: str = "", results: str = str(ROOT)) -> None:
    """Verifies one bundle in this process."""
    root = Path(bundle)
    sys.path.insert(0, str(root if (root / "scripts").is_dir() else ROOT))
    failed = 0
    for check in CHECKS:
        try:
            for problem in check(root, schema, Path(results)):
                failed += 1
                print(f"FAILED {root.name}, {check.__name__}: {problem}", flush=True)
        except Exception as error:  # a crash of a check is a finding about the bundle, and the others still run
            failed += 1
            print(f"FAILED {root.name}, {check.__name__}: {type(error).__name__}: {error}", flush=True)
    print(f"{root.name}: {len(CHECKS)} checks, {failed} failures", flush=True)
    sys.exit(failed > 0)


def read(root: Path, name: str) -> dict[str, Any]:
    return json.loads((root / "configs" / name).read_text(encoding="utf-8"))


def files(root: Path, schema: str, results: Path) -> Iterator[str]:
    """What a bundle of the zoo holds."""
    yield from (f"{name} is missing" for name in FILES if not (root / name).is_file())


def metadata(root: Path, schema: str, results: Path) -> Iterator[str]:
    """The zoo's schema; the version has its line in the changelog."""
    from monai.bundle import verify_metadata

    with tempfile.TemporaryDirectory() as temporary:
        file = schema or str(Path(temporary) / "schema.json")
        verify_metadata(meta_file=str(root / "configs" / "metadata.json"), filepath=file)
    content = read(root, "metadata.json")
    if content["version"] not in content["changelog"]:
        yield f"version {content['version']} is not in the changelog, which has {sorted(content['changelog'])}"


def versions(root: Path, schema: str, results: Path) -> Iterator[str]:
    """The versions that the metadata name are those that are installed, which the tests ran with."""
    content = read(root, "metadata.json")
    named = content["required_packages_version"] | {
        package: content[key]
        for package, key in (("monai", "monai_version"), ("torch", "pytorch_version"), ("numpy", "numpy_version"))
    }
    for package, expected in named.items():
        found = version(package).partition("+")[0]
        if found != expected:
            yield f"{package} {expected} is named, {found} is installed"


def weights(root: Path, schema: str, results: Path) -> Iterator[str]:
    """Every .pt is described, has the hash that its description names, and holds tensors alone."""
    import torch

    own = import_module("scripts.weights" if (root / "scripts").is_dir() else "custom.weights")  # a zip stands alone
    for path in sorted((root / "models").glob("*.pt")):
        try:
            state, _ = own.read_weights(path)
        except (FileNotFoundError, ValueError) as error:
            yield str(error)
            continue
        if not all(isinstance(value, torch.Tensor) for value in state.values()):
            yield f"{path.name} holds more than tensors"


def properties(root: Path, schema: str, results: Path) -> Iterator[str]:
    """check_properties of training, evaluation and inference is empty."""
    from monai.bundle import ConfigWorkflow

    with tempfile.TemporaryDirectory() as temporary:
        for names, kind in (
            (["train.json"], "train"),
            (["train.json", "evaluate.json"], "train"),
            (["inference.json"], "infer"),
        ):
            workflow = ConfigWorkflow(
                [str(root / "configs" / name) for name in names],
                str(root / "configs" / "metadata.json"),
                logging_file=False,
                workflow_type=kind,
                bundle_root=str(root),
                output_dir=temporary,
                dataset_dir=f"{temporary}/cohort",
                **{"cohort#root": f"{temporary}/cohort", "cohort#subjects": 6},
            )
            workflow.initialize()
            missing = workflow.check_properties()
            if missing:
                yield f"{names} lacks {missing}"


def network(root: Path, schema: str, results: Path) -> Iterator[str]:
    """Input and output as the metadata say; the shipped weights go through TorchScript."""
    from monai.bundle import ckpt_export, verify_net_in_out

    common = {
        "net_id": "network_def",
        "meta_file": str(root / "configs" / "metadata.json"),
        "config_file": str(root / "configs" / "inference.json"),
        "bundle_root": str(root),
    }
    verify_net_in_out(**common, n=16, device="cpu")
    with tempfile.TemporaryDirectory() as temporary:
        ckpt_export(**common, filepath=f"{temporary}/model.ts", ckpt_file=str(root / "models" / "model.pt"))
    return iter(())


def overlays(root: Path, schema: str, results: Path) -> Iterator[str]:
    """A mistyped key of an overlay would silently become a new one."""
    base = read(root, "train.json")
    for path in sorted((root / "configs").glob("*.json")):
        overlay = json.loads(path.read_text(encoding="utf-8"))
        if "bundle_root" in overlay or path.name == "metadata.json":  # complete configs
            continue
        for key in overlay:
            place: Any = base
            for part in key.lstrip("+").split("#"):
                known = part in place if isinstance(place, dict) else part.isdigit() and int(part) < len(place)
                if not known:
                    break
                place = place[part] if isinstance(place, dict) else place[int(part)]
            if not known and key not in NEW_KEYS.get(path.name, ()):
                yield f"{path.name}: {key} is not in train.json"


def preprocessing(root: Path, schema: str, results: Path) -> Iterator[str]:
    """Inference prepares its input as validation does: the same components, in the same order."""
    train, inference = read(root, "train.json"), read(root, "inference.json")
    for name in train.keys() & inference.keys() - OWN_OF_INFERENCE:
        if train[name] != inference[name]:
            yield f"{name} is {train[name]} in train.json, {inference[name]} in inference.json"
    validation = steps(train, train["validate"]["preprocessing"])
    ours = steps(inference, inference["preprocessing"])
    names, our_names = ([step["_target_"] for step in side] for side in (validation, ours))
    if [name for name in names if name in our_names] != our_names:
        yield f"inference prepares by {our_names}, validation by {names}"
    for step in ours:
        for same in (other for other in validation if other["_target_"] == step["_target_"]):
            for argument in step.keys() & same.keys() - {"keys", "mode"}:  # one entry for each key, image and label
                if step[argument] != same[argument]:
                    place = f"{argument} of {step['_target_']}"
                    yield f"{place} is {same[argument]} in validation, {step[argument]} in inference"


def steps(config: dict[str, Any], compose: dict[str, Any]) -> list[dict[str, Any]]:
    """The transforms of a Compose, plain references resolved."""
    return [config[step[1:]] if isinstance(step, str) else step for step in compose["transforms"]]


def quoted_figures(root: Path, schema: str, results: Path) -> Iterator[str]:
    """Decimal numbers between `<!-- figures: PATH -->` and `<!-- end of figures -->` are numbers of that result file.

    They may be rounded, and be percents of it. Without the repository's result files, as in an unpacked zip, the
    figures of the weights' own model.json can still be checked.
    """
    blocks = QUOTES.findall((root / "docs" / "README.md").read_text(encoding="utf-8"))
    if not blocks:
        yield "docs/README.md quotes no figures from a result file"
    for place, text in blocks:
        file = next((base / place for base in (root, results) if (base / place).is_file()), None)
        if file is None:
            yield f"docs/README.md quotes {place}, which does not exist"
            continue
        known = list(numbers(json.loads(file.read_text(encoding="utf-8"))))
        for quoted in NUMBER.findall(text):
            digits = len(quoted.partition(".")[2])
            near = 0.5 * 10**-digits * (1 + 1e-9)
            if not any(abs(scale * value - float(quoted)) <= near for value in known for scale in (1, 100)):
                yield f"docs/README.md quotes {quoted}, which is not in {place}"


def numbers(content: Any) -> Iterator[float]:
    """All numbers of a JSON value."""
    if isinstance(content, dict):
        content = list(content.values())
    if isinstance(content, list):
        for entry in content:
            yield from numbers(entry)
    elif isinstance(content, (int, float)) and not isinstance(content, bool):
        yield float(content)


CHECKS: tuple[Callable[[Path, str, Path], Iterator[str]], ...] = (
    *(files, metadata, versions, weights, properties, network, overlays, preprocessing, quoted_figures),
)

if __name__ == "__main__":
    if sys.argv[1:2] == ["one"]:
        fire.Fire(verify_one, command=sys.argv[2:])
    else:
        fire.Fire(verify)
