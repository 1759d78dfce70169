# SPDX-License-Identifier: Apache-2.0
"""Uploads to the Hugging Face hub, by huggingface_hub, and to GitHub releases, by their REST API."""

from __future__ import annotations

import base64
import json
import os
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from typing import Any

GITHUB = "https://github.com"
API = "https://api.github.com"  # GITHUB_API_URL names another, as in GitHub's own workflows
LATEST = "latest_version"  # the tag that MONAI prefers where no version is named


class PublishingError(RuntimeError):
    """A host refuses an upload."""


# --------------------------------------------------------------------------------------------------- Hugging Face


def upload_to_hub(repository: str, files: Mapping[str, bytes], version: str) -> None:
    """One commit that makes a repository hold these files alone, and two tags: the version and `latest_version`.

    The endpoint is HF_ENDPOINT, the token HF_TOKEN or that of a login.

    Args:
        repository: OWNER/NAME; made if missing.
        files: path -> content.
        version: refused if it is a tag already.

    Raises:
        PublishingError: the version is published, or the hub refuses.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
    from huggingface_hub.errors import HfHubHTTPError

    hub = HfApi(endpoint=os.environ.get("HF_ENDPOINT"))
    try:
        hub.create_repo(repository, exist_ok=True)
        tags = [tag.name for tag in hub.list_repo_refs(repository).tags]
        if version in tags:
            raise PublishingError(f"{repository} has the tag {version}: raise `version` in configs/metadata.json")
        old = set(hub.list_repo_files(repository)) - files.keys() - {".gitattributes"}
        changes: list[Any] = [CommitOperationDelete(path) for path in sorted(old)]
        changes += [CommitOperationAdd(path, content) for path, content in files.items()]
        hub.create_commit(repository, changes, commit_message=f"version {version}")
        if LATEST in tags:
            hub.delete_tag(repository, tag=LATEST)
        for tag in (version, LATEST):
            hub.create_tag(repository, tag=tag)
    except HfHubHTTPError as error:
        raise PublishingError(f"the hub refuses {repository}: {first_line(error)}") from error
    print(f"{repository}: version {version} is published")


# --------------------------------------------------------------------------------------------------------- GitHub


def upload_to_github(repository: str, tag: str, assets: Mapping[str, bytes], files: Mapping[str, bytes]) -> None:
    """Commits files to the default branch, and makes a release of that commit, visible once it is complete.

    The token is GITHUB_TOKEN; it needs the permission "contents: write".

    Args:
        repository: OWNER/REPOSITORY, which exists.
        tag: of the release; it does not exist.
        assets: name -> content of the files of the release.
        files: path -> content of the files of the repository.

    Raises:
        PublishingError: no token, the tag exists, or GitHub refuses. A release without all assets stays a draft.
    """
    token = os.environ.get("GITHUB_TOKEN")
    if not token:
        raise PublishingError("GITHUB_TOKEN is not set, expected a token with the permission contents: write")
    base = f"{os.environ.get('GITHUB_API_URL', API)}/repos/{repository}"
    if ask("GET", f"{base}/git/ref/tags/{tag}", token, missing=True) is not None:
        raise PublishingError(f"{repository} has the tag {tag}, expected a new one")
    commit = ""
    for path, content in files.items():
        commit = commit_file(f"{base}/contents/{path}", content, f"{path} of {tag}", token)
    body = {"tag_name": tag, "target_commitish": commit, "name": tag, "draft": True}
    release = ask("POST", f"{base}/releases", token, body)
    address = release["upload_url"].partition("{")[0]
    for name, content in assets.items():
        ask("POST", f"{address}?name={urllib.parse.quote(name)}", token, content)
    ask("PATCH", f"{base}/releases/{release['id']}", token, {"draft": False})
    print(f"{repository}: release {tag} is published")


def commit_file(address: str, content: bytes, message: str, token: str) -> str:
    """Writes a file to the default branch of a repository; returns the SHA of the commit."""
    present = ask("GET", address, token, missing=True)
    body = {"message": message, "content": base64.b64encode(content).decode()}
    body |= {"sha": present["sha"]} if present else {}
    return ask("PUT", address, token, body)["commit"]["sha"]


def ask(
    method: str, address: str, token: str, body: Mapping[str, Any] | bytes | None = None, missing: bool = False
) -> Any:
    """The JSON that GitHub answers.

    Args:
        method: of HTTP.
        address: URL.
        token: of the user.
        body: JSON, or the bytes of an asset.
        missing: whether the thing may be missing; the answer is None then.

    Raises:
        PublishingError: any other answer than success.
    """
    raw = isinstance(body, bytes)
    data = body if raw or body is None else json.dumps(body).encode()
    headers = {"Authorization": f"Bearer {token}", "Accept": "application/vnd.github+json"}
    headers["Content-Type"] = "application/octet-stream" if raw else "application/json"
    try:
        with urllib.request.urlopen(urllib.request.Request(address, data, headers, method=method)) as answer:
            return json.loads(answer.read() or b"null")
    except urllib.error.HTTPError as error:
        if missing and error.code == 404:
            return None
        raise PublishingError(f"{method} {address}: {error.code} {error.reason}") from error
    except urllib.error.URLError as error:
        raise PublishingError(f"{method} {address}: {error.reason}") from error


def first_line(error: Exception) -> str:
    """The first line of a message that is not empty."""
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
