# SPDX-License-Identifier: Apache-2.0
"""`monai.bundle download` from GitHub releases and from the Hugging Face hub, both played by a loopback server."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import urllib.request
import zipfile
from http.client import HTTPResponse
from http.server import SimpleHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
import requests
from monai.bundle import download
from zips import BUNDLES, bundle_command, clean_environment, served, unpacked, version_of, zip_of

GITHUB = "owner/repository/tag"  # as `--repo` takes it
COMMIT = "0123456789abcdef0123456789abcdef01234567"


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


def redirect_https(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    """Sends what urllib (the zip) and requests (the version) ask of any https host to another address."""

    class Redirected(urllib.request.HTTPSHandler):
        def https_open(self, request: urllib.request.Request) -> HTTPResponse:
            return self.parent.open(address + request.selector)

    request = requests.Session.request

    def redirected(self: requests.Session, method: str, url: str, **arguments: Any) -> requests.Response:
        return request(self, method, address + urllib.request.urlparse(url).path, **arguments)

    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), Redirected())
    monkeypatch.setattr(urllib.request, "_opener", opener)  # what install_opener sets
    monkeypatch.setattr(requests.Session, "request", redirected)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


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


class Hub(SimpleHTTPRequestHandler):
    """The answers of the hub that a snapshot needs; the folder that it serves has OWNER/NAME/files."""

    def send_head(self) -> Any:
        parts = self.path.partition("?")[0].strip("/").split("/")
        if parts[:2] == ["api", "models"]:
            content = json.dumps(self.answer(Path(self.directory, *parts[2:4]), parts[4])).encode()
            (answer := Path(self.directory, "answer.json")).write_bytes(content)
            parts = [answer.name]
        else:  # OWNER/NAME/resolve/REVISION/path
            parts = parts[:2] + parts[4:]
        self.path = "/" + "/".join(parts)
        return super().send_head()

    def answer(self, repository: Path, verb: str) -> Any:
        """What the api says: of a revision, of the refs, or (tree) of the files."""
        if verb == "refs":
            references = [{"name": "main", "ref": "refs/heads/main", "targetCommit": COMMIT}]
            return {"branches": references, "tags": [], "converts": []}
        paths = sorted(path for path in repository.rglob("*") if path.is_file())
        files = {path.relative_to(repository).as_posix(): path for path in paths}
        if verb == "revision":
            siblings = [{"rfilename": name} for name in files]
            return {"id": "/".join(repository.parts[-2:]), "sha": COMMIT, "siblings": siblings}
        return [
            {"type": "file", "path": name, "size": path.stat().st_size, "oid": digest(path)}
            for name, path in files.items()
        ]

    def end_headers(self) -> None:
        served = Path(self.translate_path(self.path))
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{digest(served)}"')
        super().end_headers()


def digest(path: Path) -> str:
    return hashlib.sha1(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("source", ["huggingface_hub", "monaihosting"])
def test_from_the_hugging_face_hub(source: str, dist: Path, tmp_path: Path) -> None:
    """The commands of a user; `monaihosting` is the hub's owner MONAI and wants a version."""
    pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed: pip install huggingface_hub")
    name, server, target = "gvsl_covid_cls", tmp_path / "server", tmp_path / "target"
    owner, asked = "MONAI", {"version": version_of(dist, name)}
    if source == "huggingface_hub":
        owner, asked = "owner", {"repo": f"owner/{name}"}
    unpacked(dist, name, server / owner)
    target.mkdir()
    command = bundle_command("download", name=name, source=source, bundle_dir=".", progress=False, **asked)
    with served(server, Hub) as address:
        environment = {"HF_ENDPOINT": address, "HF_HOME": str(tmp_path / "cache"), "HF_HUB_DISABLE_XET": "1"}
        subprocess.run([sys.executable, *command], cwd=target, env=clean_environment(**environment), check=True)
    check_complete(target, dist, name)
