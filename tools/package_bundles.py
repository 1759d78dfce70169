# SPDX-License-Identifier: Apache-2.0
"""Zips of the bundles in the form of the MONAI model zoo: python -m tools.package_bundles --output_dir dist

Each NAME_vVERSION.zip works without this repository. It has one top folder NAME with configs, docs, weights, licence,
a model card (README.md) and the part of custom/ that the bundle uses. That code is called `scripts` in the zip, and the
configs name it so, because MONAI Label unloads only a module of that name between bundles. The same sources give the
same bytes.
"""

from __future__ import annotations

import ast
import hashlib
import json
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path

from custom.files import atomic, read_json, sha256, write_bytes, write_json
from custom.running import run_tool
from custom.running.arguments import listed
from custom.weights import read_weights

from .model_card import model_card
from .reached_code import reached_code
from .zoo import pull_request

ROOT = Path(__file__).resolve().parents[1]

CODE, VENDORED = "custom", "scripts"  # name of the package here and in a zip
LARGEST = 25_000_000  # bytes; the zoo's limit for a file in a zip
EARLIEST = (1980, 1, 1, 0, 0, 0)  # the first date that a zip can hold
SNIPPET = re.compile(r"```python\n(.*?)```", re.DOTALL)


def package(output_dir: str = "dist", bundles: str = "", url: str = "", zoo: str = "") -> list[str]:
    """Writes the zips and model_info.json: SHA-1 as in MONAI's model zoo, SHA-256 and download address of each zip.

    Files over 25 MB are written beside the zip, and large_files.yml in the zip names them for
    `monai.bundle download_large_files`.

    Args:
        output_dir: folder to write to; made if missing.
        bundles: names below bundles/, separated by commas; all by default.
        url: address of the folder from which the zips and the large files will be downloaded.
        zoo: folder for the files of a pull request to MONAI's model zoo: models/NAME, in which large_files.yml stands
            for all weights, and ci/unit_tests/test_NAME.py. The weights are written to output_dir, and no zips.

    Returns:
        Paths of the zips, or of models/NAME in `zoo`.

    Raises:
        FileNotFoundError: weights without description.
        ValueError: a bundle without weights, with weights that its model.json does not describe, with a config that
            names code that does not exist, or with a file over 25 MB, or `zoo`, where no url is given. No file of that
            bundle is written.
    """
    names = listed(bundles) or all_bundles()
    folder = Path(output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    if zoo:
        return [write_pull_request(name, folder, url, Path(zoo)) for name in names]
    info_file = folder / "model_info.json"
    info = read_json(info_file) if info_file.is_file() else {}
    written = []
    for name in names:
        bundle = ROOT / "bundles" / name
        path = folder / f"{name}_v{version_of(name)}.zip"
        files, large_files = without_large_files(bundle_files(bundle), path.stem, url)
        for file_name, content in large_files.items():
            write_bytes(folder / file_name, content, f"a large file of {name}")
        write_zip(path, {f"{name}/{member}": content for member, content in files.items()})
        info[path.stem] = {
            "checksum": hashlib.sha1(path.read_bytes()).hexdigest(),
            "sha256": sha256(path),
            "source": f"{url.rstrip('/')}/{path.name}" if url else path.name,
        }
        written.append(str(path))
    write_json(info_file, dict(sorted(info.items())))
    return written


def all_bundles() -> list[str]:
    """The names of the bundles in the repository."""
    return sorted(path.parents[1].name for path in ROOT.glob("bundles/*/configs/metadata.json"))


def version_of(name: str) -> str:
    """The version in the metadata of a bundle."""
    return read_json(ROOT / "bundles" / name / "configs" / "metadata.json")["version"]


def write_pull_request(name: str, folder: Path, url: str, zoo: Path) -> str:
    """Writes a bundle as the zoo's repository has it, and its weights to the folder; returns the bundle's folder."""
    bundle = ROOT / "bundles" / name
    inside, weights = without_large_files(bundle_files(bundle), f"{name}_v{version_of(name)}", url, weights=True)
    for file_name, content in weights.items():
        write_bytes(folder / file_name, content, f"weights of {name}")
    for path, content in pull_request(name, inside).items():
        write_bytes(zoo / path, content, f"a file of {name}")
    return str(zoo / "models" / name)


def bundle_files(bundle: Path) -> dict[str, bytes]:
    """Files of a bundle that works without this repository: path below the top folder -> content."""
    check_weights(bundle)
    files = {"LICENSE": (bundle / "LICENSE").read_bytes()}
    for folder in ("configs", "docs", "models"):
        for path in sorted(path for path in (bundle / folder).rglob("*") if path.is_file()):
            files[path.relative_to(bundle).as_posix()] = standing_alone(path, bundle.name)
    metadata = read_json(bundle / "configs" / "metadata.json")
    weights = read_json(bundle / "models" / "model.json", "the description of the weights")
    files["README.md"] = model_card(bundle.name, metadata, weights, files["docs/README.md"].decode()).encode()
    code = reached_code(ROOT / CODE, used_names(bundle))
    return files | {f"{VENDORED}/{name}": source.encode() for name, source in code.items()}


def check_weights(bundle: Path) -> None:
    """Raises an error if models/model.pt is missing, or a .pt is not described or not what its description says."""
    models = bundle / "models"
    if not (models / "model.pt").is_file():
        raise ValueError(f"{models / 'model.pt'} does not exist: a bundle without weights is not packaged")
    for path in sorted(models.rglob("*.pt")):
        read_weights(path)


def used_names(bundle: Path) -> set[str]:
    """Names below custom/ in the configs, in the networks of the weights and in the imports of the docs' Python."""
    texts = [path.read_text(encoding="utf-8") for path in bundle.glob("configs/**/*.json")]
    for path in bundle.glob("models/**/*.json"):
        read = read_json(path)
        texts.append(json.dumps({name: value for name, value in read.items() if name not in ("config", "pretext")}))
    for path in bundle.glob("docs/*.md"):
        for snippet in SNIPPET.findall(path.read_text(encoding="utf-8")):
            imports = [node for node in ast.walk(ast.parse(snippet)) if isinstance(node, ast.ImportFrom)]
            texts += [f"{node.module}.{alias.name}" for node in imports for alias in node.names]
    return {name for text in texts for name in re.findall(rf"\b{CODE}\.(\w+(?:\.\w+)*)", text)}


def standing_alone(path: Path, name: str) -> bytes:
    """Content of a file without references to the repository.

    Code is named as in the zip, and paths start from the bundle's folder or its parent.
    """
    if path.suffix == ".json":
        text = re.sub(rf"\b{CODE}(?=\.\w)", VENDORED, path.read_text(encoding="utf-8"))
        return text.replace(f"'bundles/{name}'", f"'{name}'").encode()
    if path.suffix == ".md":
        text = path.read_text(encoding="utf-8").replace(f"bundles/{name}/", "")
        text = re.sub(r"\[([^\]]*)\]\((?:\.\./){3}[^)]*\)", r"\1", text)
        return re.sub(rf"\b{CODE}(?=[./]\w)", VENDORED, text).encode()
    return path.read_bytes()


def without_large_files(
    files: Mapping[str, bytes], stem: str, url: str, weights: bool = False
) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """Takes large files out of a zip.

    Args:
        files: path in the zip -> content.
        stem: name of the zip without suffix; names of the large files start with it.
        url: address of the folder from which they will be downloaded.
        weights: take all weights out, as the zoo's repository has none.

    Returns:
        Two dictionaries. Path in the zip -> content, with large_files.yml, which MONAI reads, if there are large files;
        name of a large file beside the zip -> content.
    """
    large = [path for path in files if len(files[path]) > LARGEST or (weights and path.endswith(".pt"))]
    if large and not url:
        raise ValueError(
            f"{stem}: {large} are over {LARGEST / 1e6:g} MB, the zoo's limit for a file in a zip, or weights for its "
            "repository; with --url, the address of your downloads, they are written beside the zip and named in its "
            "large_files.yml"
        )
    names = {path: f"{stem}_{path.replace('/', '_')}" for path in large}
    lines = ["large_files:"]
    for path in large:
        digest = hashlib.sha256(files[path]).hexdigest()
        lines += [f'- path: "{path}"', f'  url: "{url.rstrip("/")}/{names[path]}"']
        lines += [f'  hash_val: "{digest}"', '  hash_type: "sha256"']
    inside = {path: content for path, content in files.items() if path not in names}
    if large:
        inside["large_files.yml"] = ("\n".join(lines) + "\n").encode()
    return inside, {names[path]: files[path] for path in large}


def write_zip(path: Path, files: Mapping[str, bytes]) -> None:
    """Writes a zip that depends on names and contents alone."""
    with (
        atomic(path, "the zip of a bundle") as temporary,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive,
    ):
        for name, content in sorted(files.items()):
            entry = zipfile.ZipInfo(name, EARLIEST)
            entry.compress_type, entry.create_system, entry.external_attr = zipfile.ZIP_DEFLATED, 3, 0o644 << 16
            archive.writestr(entry, content)


if __name__ == "__main__":
    run_tool(package)
