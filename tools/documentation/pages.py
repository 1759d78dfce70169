# SPDX-License-Identifier: Apache-2.0
"""Hook of MkDocs: the pages are the Markdown files of the repository, at the same paths, so that their links hold.

A file to which a page links becomes part of the site. A link to code in custom/ leads to its page of the API. A link to
a folder leads to the README.md in it; where there is none, only the text of the link remains.
"""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePosixPath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
PAGES = (
    "*.md",
    "docs/**/*.md",
    "bundles/*/docs/README.md",
    "benchmarks/*.md",
    "benchmarks/results/transfer/RESULTS.md",
)
STYLE = "docs/site.css"
LINK = re.compile(r"\[([^]]*)\]\((?![a-z]+:|#)([^)#\s]+)(#[^)\s]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Puts the files of the site, named as in the repository, in place of those of docs_dir."""
    for file in list(files):
        if file.src_dir == config.docs_dir:
            files.remove(file)
    pages = [path for pattern in PAGES for path in sorted(ROOT.glob(pattern))]
    for path in {*pages, ROOT / STYLE, *(target for page in pages for target in linked_files(page))}:
        files.append(File.generated(config, path.relative_to(ROOT).as_posix(), abs_src_path=str(path)))
    return files


def linked_files(page: Path) -> list[Path]:
    """The files to which a page links, but for other pages and for code, which has pages of the API."""
    folder = page.parent.relative_to(ROOT)
    links = LINK.findall(page.read_text(encoding="utf-8"))
    targets = [PurePosixPath(os.path.normpath(folder / target)) for _, target, _ in links]
    files = [path for path in targets if page_of(path) == path and path.suffix != ".md"]
    return [ROOT / path for path in files if (ROOT / path).is_file()]


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Changes the links to code, to notebooks and to folders."""

    def changed(link: re.Match[str]) -> str:
        text, target, anchor = link.groups(default="")
        source = PurePosixPath(page.file.src_uri).parent
        path = PurePosixPath(os.path.normpath(source / target))
        destination = page_of(path)
        if destination == path:
            return link[0]
        if files.get_file_from_path(str(destination)) is None:
            return text
        return f"[{text}]({os.path.relpath(destination, source)}{anchor})"

    return LINK.sub(changed, markdown)


def page_of(path: PurePosixPath) -> PurePosixPath:
    """The file of the site that shows a file or a folder of the repository."""
    if path.parts[:1] == ("custom",):
        return PurePosixPath("custom", *[PurePosixPath(name).stem for name in path.parts[1:2]], "README.md")
    if path.suffix == ".ipynb":
        return path.with_suffix(".md")
    return path / "README.md" if (ROOT / path).is_dir() else path
