# SPDX-License-Identifier: Apache-2.0
"""Checks bundles as the MONAI model zoo does, and more: python -m tools.verify_bundles [--bundle_dir D]

The checks are in file_checks.py and code_checks.py. Every failure is printed; the exit status is 1 if a check fails.
The checks of the code run configs and code of the bundles: check a stranger's zip with --no_run first.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from monai.bundle import ConfigParser

from custom.files import read_json, sha256
from custom.running import run_tool

from . import code_checks, file_checks

ROOT = Path(__file__).resolve().parents[1]
HASHES = (file_checks.hashes,)


def verify(
    bundle_dir: str = str(ROOT / "bundles"),
    schema: str = "",
    results: str = str(ROOT),
    data: str = "",
    no_run: bool = False,
) -> None:
    """Checks every bundle of a folder and exits with the status.

    Args:
        bundle_dir: a bundle, a folder of bundles, or a folder of zips with the model_info.json that
            `python -m tools.package_bundles` writes. Zips are unpacked into a temporary folder.
        schema: file with the schema of the metadata; by default it is downloaded from its address in metadata.json.
        results: folder to which the paths in the documentation's `<!-- figures: PATH -->` are relative.
        data: folder with a folder NAME of volumes for every bundle NAME; by default each bundle makes six phantoms.
        no_run: check hashes and files alone, and run no code of a bundle.
    """
    folder = Path(bundle_dir)
    with tempfile.TemporaryDirectory() as temporary:
        if (folder / "model_info.json").is_file():
            try:
                bundles = unpack_all(folder, Path(temporary))
            except (OSError, ValueError) as error:
                sys.exit(f"FAILED {error}")
        else:
            inside = sorted(path.parent for path in folder.glob("*/configs"))
            bundles = [folder] if (folder / "configs").is_dir() else inside
        if not bundles:
            sys.exit(f"FAILED {folder} holds no bundle, expected NAME/configs/metadata.json")
        changed = [bundle.name for bundle in bundles if code_checks.report("hashes", HASHES, bundle, results)]
        failures = [code_checks.report("files", file_checks.CHECKS, bundle, results) for bundle in bundles]
        if changed or no_run:
            reason = "--no_run is set" if no_run else f"files of {', '.join(changed)} are not those that were described"
            print(f"The code of the bundles is not run: {reason}.", flush=True)
            sys.exit(any(failures) or bool(changed))
        print(f"The code of {', '.join(bundle.name for bundle in bundles)} is run now (not with --no_run).", flush=True)
        command = [sys.executable, code_checks.__file__, *(bundle.resolve() for bundle in bundles)]
        for name, path in (("--schema", schema), ("--data", data)):
            command += [name, Path(path).resolve()] if path else []
        failures.append(subprocess.run(command).returncode)
    sys.exit(any(failures))


def unpack_all(folder: Path, target: Path) -> list[Path]:
    """Unpacks the zips that a folder's model_info.json names, with their large files.

    Returns:
        The folder of each bundle, target/NAME_vVERSION/NAME.
    """
    described, bundles = folder / "model_info.json", []
    for stem, info in read_json(described, "the hashes of the zips").items():
        if not isinstance(info, dict) or not isinstance(info.get("sha256"), str):
            raise ValueError(f"{described}: {stem}#sha256 is missing, expected the SHA-256 of {stem}.zip")
        bundles.append(unpack(folder / f"{stem}.zip", info["sha256"], target / stem))
    return bundles


def unpack(path: Path, digest: str, target: Path) -> Path:
    """Unpacks a zip, and copies the large files that lie beside it, after checks of hashes and paths.

    Args:
        path: the zip, NAME_vVERSION.zip.
        digest: its SHA-256.
        target: folder in which the folder NAME is made.

    Returns:
        The folder NAME.

    Raises:
        ValueError: a file is missing, has another hash, is no zip, or would be written outside of NAME.
    """
    check_hash(path, digest, "model_info.json")
    top = path.name.rpartition("_v")[0]
    try:
        with zipfile.ZipFile(path) as archive:
            check_inside(path, top, archive.namelist())
            archive.extractall(target)
    except (zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path} is not a readable zip ({error}), expected the zip of a bundle") from error
    for entry in large_files(target / top / "large_files.yml"):
        check_inside(path, top, [f"{top}/{entry['path']}"])
        source = path.with_name(entry["url"].rpartition("/")[2])
        check_hash(source, entry["hash_val"], f"large_files.yml of {path.name}")
        (target / top / entry["path"]).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target / top / entry["path"])
    return target / top


def large_files(path: Path) -> list[dict[str, str]]:
    """The entries of a large_files.yml; none if it does not exist."""
    if not path.is_file():
        return []
    try:
        entries = ConfigParser.load_config_file(path)["large_files"]
        return [{name: str(entry[name]) for name in ("path", "url", "hash_val")} for entry in entries]
    except Exception as error:  # of YAML, or an entry is missing
        problem = str(error).replace("\n", " ")
        raise ValueError(
            f"{path.name} cannot be read ({problem}), expected path, url and hash_val of each file"
        ) from error


def check_hash(path: Path, digest: str, source: str) -> None:
    """Raises ValueError unless a file exists and has the SHA-256 that the source names."""
    if not path.is_file():
        raise ValueError(f"{path} does not exist, but {source} names it")
    if (actual := sha256(path)) != digest:
        raise ValueError(f"{path} has SHA-256 {actual}, {source} names {digest}")


def check_inside(path: Path, top: str, members: list[str]) -> None:
    """Raises ValueError if a member of a zip is not below its top folder."""
    parts = {member: PurePosixPath(member).parts for member in members}
    outside = [name for name in members if parts[name][:1] != (top,) or ".." in parts[name] or "\\" in name]
    if outside:
        raise ValueError(f"{path} holds {outside[:3]}, expected members below {top}/ alone")


if __name__ == "__main__":
    run_tool(verify)
