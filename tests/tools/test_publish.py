# SPDX-License-Identifier: Apache-2.0
"""`tools.publish` to loopback servers, then MONAI's download and load of what was published."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from hosts_on_loopback import TOKEN, GitHub, Hub, redirect_https
from monai.bundle import download
from zips import BUNDLES, clean_environment, served

from custom.files import read_json
from tools import hosts, publish

NAME = "gvsl_covid_cls"
DOWNLOAD_AND_LOAD = """
import sys, torch
from monai.bundle import download, load
name, repo = sys.argv[1:]
download(name=name, source="huggingface_hub", repo=repo, bundle_dir=".", progress=False)
sys.path.insert(0, name)
expected = torch.load(f"{name}/models/model.pt", weights_only=True)
state = load(name, bundle_dir=".", workflow_type="inference").state_dict()
assert state.keys() == expected.keys() and all(torch.equal(state[key], expected[key]) for key in expected)
print("equal", len(state))
"""


def printed_files(printed: str) -> dict[str, tuple[int, str]]:
    """`TARGET: NAME` -> size and SHA-256, of what `publish` prints."""
    lines = [line.split(maxsplit=2) for line in printed.splitlines()]
    return {words[2]: (int(words[0]), words[1]) for words in lines if words[0].isdigit() and len(words[1]) == 64}


def files_in(folder: Path, target: str) -> dict[str, tuple[int, str]]:
    """The same of a folder."""
    paths = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return {f"{target}: {name}": (len(data), hashlib.sha256(data).hexdigest()) for name, data in paths.items()}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes huggingface_hub of this process fit for a loopback server."""
    constants = pytest.importorskip("huggingface_hub").constants
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def test_to_hugging_face(
    hub: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """The dry run prints what arrives; MONAI downloads and loads it; a version cannot be published twice."""
    server = tmp_path / "server"
    stale = server / "owner" / NAME / "configs" / "stale.json"
    stale.parent.mkdir(parents=True)
    stale.write_text("{}")
    with served(server, Hub) as address:
        monkeypatch.setenv("HF_ENDPOINT", address)
        publish.publish("huggingface", "owner", NAME, dry_run=True)
        planned = printed_files(capsys.readouterr().out)
        assert stale.is_file()
        publish.publish("huggingface", "owner", NAME)
        assert files_in(server / "owner" / NAME, f"owner/{NAME}") == planned
        assert {f"owner/{NAME}: {name}" for name in ("README.md", "models/model.pt", "SHA256SUMS")} <= planned.keys()
        assert sorted(path.name for path in (server / "tags" / "owner" / NAME).iterdir()) == ["0.1.0", "latest_version"]
        with pytest.raises(hosts.PublishingError, match=rf"owner/{NAME} has the tag 0\.1\.0: raise `version`"):
            publish.publish("huggingface", "owner", NAME)
        environment = {"HF_ENDPOINT": address, "HF_HOME": str(tmp_path / "cache"), "HF_HUB_DISABLE_XET": "1"}
        command = [sys.executable, "-c", DOWNLOAD_AND_LOAD, NAME, f"owner/{NAME}"]
        (target := tmp_path / "target").mkdir()
        done = subprocess.run(
            command, cwd=target, env=clean_environment(**environment), capture_output=True, encoding="utf-8"
        )
    assert done.returncode == 0 and "equal" in done.stdout, done.stderr[-3000:]
    subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=target / NAME, check=True)


def test_a_refused_token_is_named(hub: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "wrong")
    with served(tmp_path, Hub) as address:
        monkeypatch.setenv("HF_ENDPOINT", address)
        with pytest.raises(hosts.PublishingError, match=f"the hub refuses owner/{NAME}: .*401"):
            publish.publish("huggingface", "owner", NAME)
    assert not (tmp_path / "owner").exists()


def test_to_github(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    """The dry run prints what arrives; MONAI finds the newest version and downloads it; a tag is published once."""
    server, target = tmp_path / "server", tmp_path / "target"
    server.mkdir()
    monkeypatch.setenv("GITHUB_TOKEN", TOKEN)
    monkeypatch.setattr(urllib.request, "_opener", urllib.request.build_opener(urllib.request.ProxyHandler({})))
    with served(server, GitHub) as address:
        monkeypatch.setenv("GITHUB_API_URL", f"{address}/api")
        publish.publish("github", "owner/repository", NAME, "v1", str(tmp_path / "dry"), dry_run=True)
        planned = printed_files(capsys.readouterr().out)
        assert not list(server.iterdir())
        publish.publish("github", "owner/repository", NAME, "v1", str(tmp_path / "dist"))
        released = server / "owner" / "repository" / "releases" / "download" / "v1"
        arrived = files_in(released, "owner/repository, release v1")
        arrived |= files_in(server / "owner" / "repository" / "v1", "owner/repository, file")
        assert arrived == planned and len(arrived) == 4
        info = read_json(released / "model_info.json")[f"{NAME}_v0.1.0"]
        assert info["source"] == f"{hosts.GITHUB}/owner/repository/releases/download/v1/{NAME}_v0.1.0.zip"
        with pytest.raises(hosts.PublishingError, match="has the tag v1, expected a new one"):
            hosts.upload_to_github("owner/repository", "v1", {}, {})
        hosts.upload_to_github("owner/repository", "v2", {"a": b"a"}, {"models/model_info.json": b"{}"})
        redirect_https(monkeypatch, address)
        download(name=NAME, bundle_dir=target, source="github", repo="owner/repository/v1", progress=False)
    subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=released, check=True)
    assert (target / NAME / "models" / "model.pt").read_bytes() == (
        publish.ROOT / "bundles" / NAME / "models" / "model.pt"
    ).read_bytes()


def test_an_incomplete_release_stays_a_draft(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_TOKEN", TOKEN)
    monkeypatch.setattr(urllib.request, "_opener", urllib.request.build_opener(urllib.request.ProxyHandler({})))
    monkeypatch.setattr(GitHub, "refused", "b")
    with served(tmp_path, GitHub) as address:
        monkeypatch.setenv("GITHUB_API_URL", f"{address}/api")
        with pytest.raises(hosts.PublishingError, match=r"POST .*\?name=b: 422"):
            hosts.upload_to_github("owner/repository", "v1", {"a": b"a", "b": b"b"}, {"models/model_info.json": b"{}"})
        assert not (tmp_path / "owner").exists()
        monkeypatch.setenv("GITHUB_TOKEN", "wrong")
        with pytest.raises(hosts.PublishingError, match=r"GET .*/git/ref/tags/v1: 401"):
            hosts.upload_to_github("owner/repository", "v1", {}, {})
    monkeypatch.delenv("GITHUB_TOKEN")
    with pytest.raises(hosts.PublishingError, match="GITHUB_TOKEN is not set"):
        hosts.upload_to_github("owner/repository", "v1", {}, {})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"to": "ftp", "repo": "a"}, r"to is 'ftp', expected of \['huggingface', 'github'\]"),
        ({"to": "huggingface", "repo": "a/b"}, "repo is 'a/b', expected OWNER for huggingface"),
        ({"to": "github", "repo": "a", "tag": "v1"}, "repo is 'a', expected OWNER/REPOSITORY for github"),
        ({"to": "github", "repo": "a/b"}, "tag is '', expected the tag of the release"),
        ({"to": "github", "repo": "a/b", "tag": 1.1}, "tag is 1.1, expected the tag of the release as text"),
        ({"to": "github", "repo": "a/b", "bundles": "liver"}, "bundles names 'liver', expected of"),
        ({"to": "github", "repo": "a/b", "tag": "v1"}, "is not empty, expected a new folder"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, str], message: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=message):
        publish.publish(**arguments, output_dir=str(tmp_path))


def test_all_bundles_are_the_default() -> None:
    assert tuple(publish.bundle_names("")) == BUNDLES
