# SPDX-License-Identifier: Apache-2.0
"""Publishes bundles: python -m tools.publish --to huggingface --repo OWNER --dry_run True

What `--dry_run True` prints is what is sent without it. Tokens are read from the environment: HF_TOKEN (or a login by
`hf auth login`) and GITHUB_TOKEN.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

from custom.running import run_tool
from custom.running.arguments import listed

from . import hosts
from .package_bundles import ROOT, all_bundles, bundle_files, package, version_of

SUMS = "SHA256SUMS"
INFO = "model_info.json"
REPOSITORIES = {  # value of `to` -> form of `repo`, in words and as a pattern
    "huggingface": ("OWNER", r"[\w.-]+"),
    "github": ("OWNER/REPOSITORY", r"[\w.-]+/[\w.-]+"),
}


def publish(
    to: str, repo: str, bundles: str = "", tag: str = "", output_dir: str = "dist", dry_run: bool = False
) -> None:
    """Prints every file with size, SHA-256 and target, then uploads the files.

    Args:
        to: `huggingface`: each bundle becomes the repository OWNER/NAME with the content of the zip, large files
            included, and a tag of its version. `github`: the zips become a release.
        repo: OWNER on Hugging Face, OWNER/REPOSITORY on GitHub.
        bundles: names below bundles/, separated by commas; all by default.
        tag: of the release on GitHub.
        output_dir: folder of the zips for GitHub; it is made, or empty.
        dry_run: print alone, and send nothing.

    Raises:
        ValueError: an argument is not as described, or a bundle cannot be packaged; nothing is sent.
        PublishingError: the host refuses. On GitHub a draft of the release may be left, on Hugging Face files without
            the tag of their version, which publishing again adds.
    """
    names = bundle_names(bundles)
    check_arguments(to, repo, tag)
    if to == "huggingface":
        plan = {f"{repo}/{name}": with_sums(bundle_files(ROOT / "bundles" / name)) for name in names}
        versions = {f"{repo}/{name}": version_of(name) for name in names}
        show(plan)
        if not dry_run:
            for target, files in plan.items():
                hosts.upload_to_hub(target, files, versions[target])
        return
    files = release_files(names, f"{hosts.GITHUB}/{repo}/releases/download/{tag}", Path(output_dir))
    show({f"{repo}, release {tag}": files, f"{repo}, file": {f"models/{INFO}": files[INFO]}})
    if not dry_run:
        hosts.upload_to_github(repo, tag, files, {f"models/{INFO}": files[INFO]})


def bundle_names(bundles: str | tuple[str, ...]) -> list[str]:
    """The names that `bundles` of `publish` means; ValueError if one is no folder below bundles/."""
    known, names = all_bundles(), listed(bundles)
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"bundles names {unknown[0]!r}, expected of {known}")
    return names or known


def check_arguments(to: str, repo: str, tag: str) -> None:
    """Raises ValueError if a target is not complete."""
    if to not in REPOSITORIES:
        raise ValueError(f"to is {to!r}, expected of {[*REPOSITORIES]}")
    words, pattern = REPOSITORIES[to]
    if not re.fullmatch(pattern, str(repo)):
        raise ValueError(f"repo is {repo!r}, expected {words} for {to}")
    if to == "github" and not (isinstance(tag, str) and re.fullmatch(r"[\w.-]+", tag)):
        raise ValueError(f"tag is {tag!r}, expected the tag of the release as text, such as v0.1.0")  # 1.10 is 1.1


def release_files(names: list[str], url: str, folder: Path) -> dict[str, bytes]:
    """Name -> content of the zips, their large files, model_info.json and checksums; the folder then has the files."""
    if folder.is_dir() and any(folder.iterdir()):
        raise ValueError(f"{folder} is not empty, expected a new folder: all of its files would be published")
    package(str(folder), ",".join(names), url)
    return with_sums({path.name: path.read_bytes() for path in sorted(folder.iterdir())})


def with_sums(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """Files with SHA256SUMS, which `sha256sum --check` reads."""
    lines = [f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in files.items()]
    return {**files, SUMS: "".join(lines).encode()}


def show(plan: Mapping[str, Mapping[str, bytes]]) -> None:
    """Prints size in bytes, SHA-256, target and name of each file, and the sum."""
    for target, files in plan.items():
        for name, content in files.items():
            print(f"{len(content):>10} {hashlib.sha256(content).hexdigest()} {target}: {name}")
        size = sum(map(len, files.values())) / 1e6
        print(f"{target}: {len(files)} files, {size:.1f} MB", flush=True)


if __name__ == "__main__":
    run_tool(publish)
