# SPDX-License-Identifier: Apache-2.0
"""The Hugging Face hub and GitHub as loopback servers: what `tools.publish` sends and `monai.bundle download` asks."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import urllib.parse
import urllib.request
from http.client import HTTPResponse
from http.server import SimpleHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
import requests

COMMIT = "0123456789abcdef0123456789abcdef01234567"
TOKEN = "of-the-test"


def digest(path: Path) -> str:
    return hashlib.sha1(path.read_bytes()).hexdigest()


class Writable(SimpleHTTPRequestHandler):
    """A folder on which `answer_to` writes what is sent; a wrong token is refused."""

    def do_POST(self) -> None:
        content = self.content()
        address = urllib.parse.urlsplit(self.path)
        status, answer = 401, {}
        if self.headers.get("Authorization", f"Bearer {TOKEN}") == f"Bearer {TOKEN}":
            status, answer = self.answer_to(self.command, address.path, address.query, content)
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        SimpleHTTPRequestHandler.end_headers(self)
        self.wfile.write(body)

    def content(self) -> bytes:
        """The body, in one piece or in chunks."""
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        content = b""
        while size := int(self.rfile.readline(), 16):
            content += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return content

    do_PUT = do_PATCH = do_DELETE = do_POST

    def log_message(self, *arguments: Any) -> None:
        """Nothing on the screen."""

    def answer_to(self, method: str, path: str, query: str, content: bytes) -> tuple[int, Any]:
        """Status and JSON."""
        raise NotImplementedError

    def written(self, name: str, content: bytes) -> None:
        """Writes a file of the served folder."""
        path = Path(self.directory, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


class Hub(Writable):
    """Repositories OWNER/NAME of the hub; a .pt travels by git-lfs, other files in the commit."""

    def send_head(self) -> Any:
        parts = self.path.partition("?")[0].strip("/").split("/")
        if parts[:2] == ["api", "models"]:
            if not Path(self.directory, *parts[2:4]).is_dir():
                return self.send_error(404)
            verb = [*parts, "revision"][4]
            content = json.dumps(self.answer(Path(self.directory, *parts[2:4]), verb)).encode()
            (answer := Path(self.directory, "answer.json")).write_bytes(content)
            parts = [answer.name]
        else:  # OWNER/NAME/resolve/REVISION/path
            parts = parts[:2] + parts[4:]
        self.path = "/" + "/".join(parts)
        return super().send_head()

    def answer(self, repository: Path, verb: str) -> Any:
        """What the api says: of a revision, of the refs, or (tree) of the files."""
        if verb == "refs":
            main = {"name": "main", "ref": "refs/heads/main", "targetCommit": COMMIT}
            tags = sorted(path.name for path in self.tags(repository).glob("*"))
            named = [{"name": tag, "ref": f"refs/tags/{tag}", "targetCommit": COMMIT} for tag in tags]
            return {"branches": [main], "tags": named, "converts": []}
        paths = sorted(path for path in repository.rglob("*") if path.is_file())
        files = {path.relative_to(repository).as_posix(): path for path in paths}
        if verb == "revision":
            siblings = [{"rfilename": name} for name in files]
            return {"id": "/".join(repository.parts[-2:]), "sha": COMMIT, "siblings": siblings}
        return [
            {"type": "file", "path": name, "size": path.stat().st_size, "oid": digest(path)}
            for name, path in files.items()
        ]

    def tags(self, repository: Path) -> Path:
        """The folder with a file for each tag."""
        return Path(self.directory, "tags", *repository.parts[-2:])

    def end_headers(self) -> None:
        served = Path(self.translate_path(self.path))
        self.send_header("X-Repo-Commit", COMMIT)
        if served.is_file():
            self.send_header("ETag", f'"{digest(served)}"')
        super().end_headers()

    def answer_to(self, method: str, path: str, query: str, content: bytes) -> tuple[int, Any]:
        address = f"http://{self.headers['Host']}"
        if path.startswith("/lfs/"):
            self.written(path.strip("/"), content)
            return 200, {}
        if path.endswith("/commit/main"):
            return self.commit(address, path, content)
        body = json.loads(content or b"{}")
        if path == "/api/repos/create":
            Path(self.directory, body["organization"], body["name"]).mkdir(parents=True, exist_ok=True)
            return 200, {"url": f"{address}/{body['organization']}/{body['name']}"}
        if path == "/api/validate-yaml":
            return 200, {"errors": [], "warnings": []}
        if path.endswith("/preupload/main"):
            modes = {file["path"]: "lfs" if file["path"].endswith(".pt") else "regular" for file in body["files"]}
            files = [{"path": name, "uploadMode": mode, "shouldIgnore": False} for name, mode in modes.items()]
            return 200, {"files": files}
        if path.endswith(".git/info/lfs/objects/batch"):
            actions = [{"upload": {"href": f"{address}/lfs/{item['oid']}"}} for item in body["objects"]]
            objects = [item | {"actions": action} for item, action in zip(body["objects"], actions, strict=True)]
            return 200, {"transfer": "basic", "objects": objects}
        _, _, _, owner, name, verb, revision = path.split("/")
        assert verb == "tag", path
        if method == "DELETE":
            (self.tags(Path(owner, name)) / revision).unlink()
        else:
            self.written(f"tags/{owner}/{name}/{body['tag']}", b"")
        return 200, {}

    def commit(self, address: str, path: str, content: bytes) -> tuple[int, Any]:
        """Makes the changes of a commit, a line of JSON each."""
        repository = "/".join(path.split("/")[3:5])
        for line in map(json.loads, content.splitlines()):
            key, value = line["key"], line["value"]
            if key == "file":
                self.written(f"{repository}/{value['path']}", base64.b64decode(value["content"]))
            elif key == "lfsFile":
                self.written(f"{repository}/{value['path']}", Path(self.directory, "lfs", value["oid"]).read_bytes())
            elif key == "deletedFile":
                Path(self.directory, repository, value["path"]).unlink()
            else:
                assert key == "header", key
        return 200, {"commitUrl": f"{address}/{repository}/commit/{COMMIT}", "commitOid": COMMIT}


class GitHub(Writable):
    """The REST API below /api, and the paths from which releases and files of a tag are downloaded."""

    refused = ""  # name of an asset

    def do_GET(self) -> None:
        if not self.path.startswith("/api/"):
            super().do_GET()
        else:
            self.do_POST()

    def answer_to(self, method: str, path: str, query: str, content: bytes) -> tuple[int, Any]:
        _, _, _, owner, name, *rest = path.split("/")  # /api/repos/OWNER/NAME/...
        repository = f"{owner}/{name}"
        if rest[:3] == ["git", "ref", "tags"]:
            return (200 if Path(self.directory, repository, rest[3]).is_dir() else 404), {}
        if rest[0] == "contents":
            return self.contents(method, Path("main", repository, *rest[1:]), content)
        if rest == ["releases"]:
            tag = json.loads(content)["tag_name"]
            assert json.loads(content)["draft"] and json.loads(content)["target_commitish"] == COMMIT
            upload = f"http://{self.headers['Host']}/api/repos/{repository}/assets/{tag}{{?name,label}}"
            return 201, {"id": tag, "upload_url": upload}
        if rest[0] == "assets":
            asset = urllib.parse.parse_qs(query)["name"][0]
            self.written(f"drafts/{rest[1]}/{asset}", content)
            return (422 if asset == self.refused else 201), {}
        assert method == "PATCH" and rest[0] == "releases" and json.loads(content) == {"draft": False}
        root, tag = Path(self.directory), rest[1]
        shutil.copytree(root / "drafts" / tag, root / repository / "releases" / "download" / tag)
        shutil.copytree(root / "main" / repository, root / repository / tag)
        return 200, {}

    def contents(self, method: str, path: Path, content: bytes) -> tuple[int, Any]:
        """A file of the default branch: its SHA, or a commit that changes it and must name that SHA."""
        file = Path(self.directory, path)
        sha = digest(file) if file.is_file() else None
        if method == "GET":
            return (200, {"sha": sha}) if sha else (404, {})
        body = json.loads(content)
        if body.get("sha") != sha:
            return 409, {}
        self.written(str(path), base64.b64decode(body["content"]))
        return 201, {"commit": {"sha": COMMIT}}


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
