# SPDX-License-Identifier: Apache-2.0
"""The site is built without a warning: every link and anchor leads somewhere. It loads nothing from the network."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from pages import PAGES, ROOT

LOADED = re.compile(r'<(?:script|img|iframe|source|link)\b[^>]*\b(?:src|href)="?(?:https?:)?//[^>]*>')


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the site; the test fails if MkDocs warns of anything."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    return folder


def test_every_page_of_the_documentation_is_there(site: Path) -> None:
    for page in PAGES:
        name = page.relative_to(ROOT).with_suffix(".html").as_posix().replace("README.html", "index.html")
        assert (site / name).is_file(), name
    assert (site / "docs" / "tutorial.html").is_file()


def test_every_folder_of_the_code_has_its_page(site: Path) -> None:
    names = {path.stem for path in (ROOT / "custom").iterdir() if path.name[0] not in "_."} - {"cli"}
    assert len(names) > 15
    for name in names:
        text = (site / "custom" / name / "index.html").read_text(encoding="utf-8")
        assert f'id="custom.{name}.' in text, name


def test_nothing_is_loaded_from_the_network(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 40
    outside = {str(page): LOADED.findall(page.read_text(encoding="utf-8")) for page in pages}
    assert {page: found for page, found in outside.items() if found} == {}


def test_equations_are_drawn(site: Path) -> None:
    text = (site / "docs" / "method.html").read_text(encoding="utf-8")
    assert text.count('<div class="equation" role="img"') >= 7 and text.count("<svg") > 40
    assert "arithmatex" not in text and "\\(" not in re.sub(r'aria-label="[^"]*"', "", text)


def test_links_to_code_lead_to_its_page_and_links_to_files_to_the_file(site: Path) -> None:
    text = (site / "docs" / "extending.html").read_text(encoding="utf-8")
    assert '"../custom/networks/index.html"' in text
    assert '"../bundles/gvsl_pretrain/configs/train.json"' in text
    assert (site / "bundles" / "gvsl_pretrain" / "configs" / "train.json").is_file()
