# SPDX-License-Identifier: Apache-2.0
"""Checks of a bundle that run its code. `python -m tools.verify_bundles` starts this file.

The zoo's checks: metadata against its schema, version and changelog, network input and output, TorchScript export.
Ours: hashes of the weights, complete properties of every workflow, the shipped weights in evaluation and inference.

This file imports nothing of the repository and is started by its path, not by `-m`: Python then has the folder tools/
on its path instead of the repository, so that a zip is checked with its own code alone, as its users have it.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from multiprocessing import get_all_start_methods, get_context
from pathlib import Path
from typing import Any

import fire

ROOT = Path(__file__).resolve().parents[1]


def main(*bundles: str, schema: str = "", data: str = "") -> None:
    """Checks bundles, each in a process of its own, because the code of all zips has the name `scripts`.

    Args:
        bundles: folders.
        schema: file with the schema of the metadata; by default it is downloaded.
        data: folder with a folder NAME of volumes for every bundle NAME; by default each bundle makes phantoms.
    """
    import_module("monai.bundle")  # once, for all processes where they can be forked
    context = get_context("fork" if "fork" in get_all_start_methods() else "spawn")
    exit_codes = []
    for bundle in bundles:
        process = context.Process(target=check, args=(Path(bundle), schema, data))
        process.start()
        process.join()
        exit_codes.append(process.exitcode)
    sys.exit(any(exit_codes))


def check(root: Path, schema: str, data: str) -> None:
    """Runs the checks of this file on a bundle with its own code; exits with status 1 if one fails."""
    sys.path.insert(0, str(root if (root / "scripts").is_dir() else ROOT))
    sys.exit(report("code", CHECKS, root, schema, data) > 0)


def report(kind: str, checks: Sequence[Callable[..., Iterator[str]]], root: Path, *arguments: str) -> int:
    """Prints the problems that checks find in a bundle, and their number, which it returns."""
    failed = 0
    for one in checks:
        try:
            for problem in one(root, *arguments):
                failed += 1
                print(f"FAILED {root.name}, {one.__name__}: {problem}", flush=True)
        except Exception as error:  # a crash of a check is a finding about the bundle, and the others still run
            failed += 1
            print(f"FAILED {root.name}, {one.__name__}: {type(error).__name__}: {error}", flush=True)
    print(f"{root.name}: {len(checks)} checks of its {kind}, {failed} failures", flush=True)
    return failed


def metadata(root: Path, schema: str, data: str) -> Iterator[str]:
    """The metadata fit the zoo's schema, and the changelog has the version."""
    from monai.bundle import verify_metadata

    with tempfile.TemporaryDirectory() as temporary:
        file = schema or str(Path(temporary) / "schema.json")
        verify_metadata(meta_file=str(root / "configs" / "metadata.json"), filepath=file)
    content = json.loads((root / "configs" / "metadata.json").read_text(encoding="utf-8"))
    if content["version"] not in content["changelog"]:
        yield f"version {content['version']} is not in the changelog, which has {sorted(content['changelog'])}"


def weights(root: Path, schema: str, data: str) -> Iterator[str]:
    """Every .pt has a description, the hash that the description names, and only tensors."""
    package = "scripts" if (root / "scripts").is_dir() else "custom"
    code = import_module(f"{package}.weights.state")  # the package may not export read_weights in a zip
    for path in sorted((root / "models").rglob("*.pt")):
        try:
            code.read_weights(path)
        except (FileNotFoundError, ValueError) as error:
            yield str(error)


def properties(root: Path, schema: str, data: str) -> Iterator[str]:
    """MONAI's check_properties finds nothing missing in training, evaluation and inference.

    The network of evaluation and inference has the shipped weights afterwards: the check builds the trainer too, which
    must not load other weights into it.
    """
    from monai.bundle import ConfigWorkflow

    shipped = str(root / "models")
    with tempfile.TemporaryDirectory() as temporary:
        for names, kind, evaluator in (
            (["train.json"], "train", None),
            (["train.json", "evaluate.json"], "train", "validate#evaluator"),
            (["inference.json"], "infer", "evaluator"),
        ):
            workflow = ConfigWorkflow(
                [str(root / "configs" / name) for name in names],
                str(root / "configs" / "metadata.json"),
                logging_file=False,
                workflow_type=kind,
                bundle_root=str(root),
                output_dir=temporary,
                dataset_dir=f"{data}/{root.name}" if data else f"{temporary}/cohort",
                **{"cohort#root": f"{temporary}/cohort", "cohort#subjects": 6},
                **({"model_dir": shipped} if evaluator else {}),
            )
            workflow.initialize()
            missing = workflow.check_properties()
            if missing:
                yield f"{names} lacks {missing}"
            if evaluator and (other := changed(workflow.parser.get_parsed_content(evaluator).network, root)):
                yield f"{names} has {len(other)} tensors that are not those of model.pt, such as {other[0]}"


def changed(network: Any, root: Path) -> list[str]:
    """Names of the tensors of models/model.pt that a network does not have, or has with other values."""
    import torch

    shipped = torch.load(root / "models" / "model.pt", weights_only=True, map_location="cpu")
    state = {name.removeprefix("module."): value.cpu() for name, value in network.state_dict().items()}
    state |= {name.removeprefix("backbone."): value for name, value in state.items()}  # of a pretext network
    return [name for name, value in shipped.items() if name not in state or not torch.equal(state[name], value)]


def network(root: Path, schema: str, data: str) -> Iterator[str]:
    """Input and output are as in the metadata, and TorchScript can hold the network with the shipped weights."""
    from monai.bundle import ckpt_export, verify_net_in_out

    common = {
        "net_id": "network_def",
        "meta_file": str(root / "configs" / "metadata.json"),
        "config_file": str(root / "configs" / "inference.json"),
        "bundle_root": str(root),
    }
    verify_net_in_out(**common, n=1, device="cpu")
    with tempfile.TemporaryDirectory() as temporary:
        ckpt_export(**common, filepath=f"{temporary}/model.ts", ckpt_file=str(root / "models" / "model.pt"))
    return iter(())


CHECKS = (metadata, weights, properties, network)

if __name__ == "__main__":
    fire.Fire(main)
