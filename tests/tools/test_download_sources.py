# SPDX-License-Identifier: Apache-2.0
"""`monai.bundle download` from GitHub releases and from the Hugging Face hub, both played by a loopback server."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from hosts_on_loopback import Hub, redirect_https
from monai.bundle import download
from zips import BUNDLES, bundle_command, clean_environment, served, unpacked, version_of, zip_of

GITHUB = "owner/repository/tag"  # as `--repo` takes it


def check_complete(folder: Path, dist: Path, name: str) -> None:
    """The folder has every file of the zip, with its bytes."""
    with zipfile.ZipFile(zip_of(dist, name)) as archive:
        for member in archive.namelist():
            assert (folder / member).read_bytes() == archive.read(member), member


# ------------------------------------------------------------------------------------------------- GitHub releases


@pytest.fixture
def releases(dist: Path, tmp_path: Path) -> Path:
    """The paths that a repository has on GitHub: the zips of a release, and models/model_info.json at its tag."""
    owner, repository, tag = GITHUB.split("/")
    files = tmp_path / "server" / owner / repository
    shutil.copytree(dist, files / "releases" / "download" / tag, ignore=shutil.ignore_patterns("*.json"))
    (files / tag / "models").mkdir(parents=True)
    shutil.copy(dist / "model_info.json", files / tag / "models")
    return tmp_path / "server"


@pytest.mark.parametrize("latest", [False, True])
def test_from_a_github_release(
    latest: bool, releases: Path, dist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a named version, or of the latest that models/model_info.json names at the tag."""
    target = tmp_path / "target"
    with served(releases) as address:
        redirect_https(monkeypatch, address)
        for name in BUNDLES:
            version = None if latest else version_of(dist, name)
            download(name=name, version=version, bundle_dir=target, source="github", repo=GITHUB, progress=False)
            check_complete(target, dist, name)


def test_a_release_with_members_outside_is_refused(
    releases: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner, repository, tag = GITHUB.split("/")
    with zipfile.ZipFile(releases / owner / repository / "releases" / "download" / tag / "bad_v1.zip", "w") as archive:
        archive.writestr(zipfile.ZipInfo("bad/../../outside.txt"), "harm")
    target = tmp_path / "deep" / "target"
    with served(releases) as address:
        redirect_https(monkeypatch, address)
        with pytest.raises(ValueError, match="Unsafe path"):
            download(name="bad", version="1", bundle_dir=target, source="github", repo=GITHUB, progress=False)
    assert sorted(path.name for path in (tmp_path / "deep").rglob("*")) == ["bad_v1.zip", "target"]


# -------------------------------------------------------------------------------------------------- Hugging Face


def test_from_the_hub_s_owner_of_the_zoo(dist: Path, tmp_path: Path) -> None:
    """`monaihosting` is the hub's owner MONAI and wants a version. test_publish.py downloads from another owner."""
    pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed: pip install huggingface_hub")
    name, server, target = "gvsl_covid_cls", tmp_path / "server", tmp_path / "target"
    asked = {"name": name, "source": "monaihosting", "version": version_of(dist, name)}
    unpacked(dist, name, server / "MONAI")
    target.mkdir()
    command = bundle_command("download", bundle_dir=".", progress=False, **asked)
    with served(server, Hub) as address:
        environment = {"HF_ENDPOINT": address, "HF_HOME": str(tmp_path / "cache"), "HF_HUB_DISABLE_XET": "1"}
        subprocess.run([sys.executable, *command], cwd=target, env=clean_environment(**environment), check=True)
    check_complete(target, dist, name)
