# SPDX-License-Identifier: Apache-2.0
"""Zips of the bundles as the MONAI model zoo wants them: python -m tools.package_bundles --output_dir dist

Each NAME_vVERSION.zip stands alone: one top folder NAME with configs, docs, weights, licence and the code of custom/
as `scripts/` (MONAI Label unloads only a module of that name between bundles), to which the configs' targets point. Two
builds give the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import zipfile
from pathlib import Path

import fire

from custom.files import read_json, sha256, write_json
from custom.weights import read_weights

ROOT = Path(__file__).resolve().parents[1]

CODE, VENDORED = "custom", "scripts"
LARGEST = 25_000_000  # bytes of a file in the zoo
EARLIEST = (1980, 1, 1, 0, 0, 0)  # the first date that a zip can name


def package(output_dir: str = "dist", bundles: str = "", url: str = "") -> list[str]:
    """Writes the zips and model_info.json (SHA-1 as in MONAI's model zoo, SHA-256, download address).

    Args:
        output_dir: made if missing.
        bundles: names below bundles/, separated by commas; all by default.
        url: address of the folder that the zips will be downloaded from, for model_info.json.

    Raises:
        FileNotFoundError: weights without description.
        ValueError: a bundle without weights, whose weights are not those that model.json describes, or with a file over
            25 MB. Nothing of that bundle is written.
    """
    names = bundles.split(",") if isinstance(bundles, str) and bundles else list(bundles)
    names = names or sorted(path.parents[1].name for path in ROOT.glob("bundles/*/configs/metadata.json"))
    folder = Path(output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    info_file = folder / "model_info.json"
    info = json.loads(info_file.read_text(encoding="utf-8")) if info_file.is_file() else {}
    written = []
    for name in names:
        bundle = ROOT / "bundles" / name
        files = bundle_files(bundle)
        path = folder / f"{name}_v{read_json(bundle / 'configs' / 'metadata.json')['version']}.zip"
        write_zip(path, {f"{name}/{place}": content for place, content in files.items()})
        info[path.stem] = {
            "checksum": hashlib.sha1(path.read_bytes()).hexdigest(),
            "sha256": sha256(path),
            "source": f"{url.rstrip('/')}/{path.name}" if url else path.name,
        }
        written.append(str(path))
    write_json(info_file, dict(sorted(info.items())))
    return written


def bundle_files(bundle: Path) -> dict[str, bytes]:
    """What a zip holds: path below the top folder -> content."""
    check_weights(bundle)
    files = {"LICENSE": (bundle / "LICENSE").read_bytes()}
    for folder in ("configs", "docs", "models"):
        for path in sorted(path for path in (bundle / folder).rglob("*") if path.is_file()):
            files[path.relative_to(bundle).as_posix()] = standing_alone(path, bundle.name)
    for path in sorted((ROOT / CODE).rglob("*.py")):
        files[f"{VENDORED}/{path.relative_to(ROOT / CODE).as_posix()}"] = path.read_bytes()
    large = [name for name, content in files.items() if len(content) > LARGEST]
    if large:
        raise ValueError(f"{bundle.name}: {large} are over 25 MB, the zoo's limit for a file of a bundle")
    return files


def check_weights(bundle: Path) -> None:
    """models/model.pt is there, and every .pt is described and has the hash that its description names."""
    models = bundle / "models"
    if not (models / "model.pt").is_file():
        raise ValueError(f"{models / 'model.pt'} does not exist: a bundle without weights is not packaged")
    for path in sorted(models.glob("*.pt")):
        read_weights(path)


def standing_alone(path: Path, name: str) -> bytes:
    """A file's content without ties to the repository: targets in scripts/, paths from the bundle or its parent."""
    if path.suffix == ".json":
        text = path.read_text(encoding="utf-8").replace(f'"{CODE}.', f'"{VENDORED}.')
        return text.replace(f"'bundles/{name}'", f"'{name}'").encode()
    if path.suffix == ".md":
        text = path.read_text(encoding="utf-8").replace(f"bundles/{name}/", "")
        return re.sub(r"\[([^\]]*)\]\((?:\.\./){3}[^)]*\)", r"\1", text).encode()
    return path.read_bytes()


def write_zip(path: Path, files: dict[str, bytes]) -> None:
    """A zip that depends on names and contents alone, written under another name first."""
    temporary = path.with_name(f".{path.name}.tmp")
    with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, content in sorted(files.items()):
            entry = zipfile.ZipInfo(name, EARLIEST)
            entry.compress_type, entry.create_system, entry.external_attr = zipfile.ZIP_DEFLATED, 3, 0o644 << 16
            archive.writestr(entry, content)
    os.replace(temporary, path)


if __name__ == "__main__":
    fire.Fire(package)
