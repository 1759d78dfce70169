# SPDX-License-Identifier: Apache-2.0
"""Hook of MkDocs: docs/tutorial.ipynb as a page, with the outputs that it holds."""

from __future__ import annotations

from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from nbconvert import MarkdownExporter

NOTEBOOK = Path(__file__).resolve().parents[2] / "docs" / "tutorial.ipynb"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds docs/tutorial.md and the pictures of its outputs."""
    markdown, resources = MarkdownExporter().from_filename(str(NOTEBOOK))
    for name, content in {"tutorial.md": markdown, **resources["outputs"]}.items():
        files.append(File.generated(config, f"docs/{name}", content=content))
    return files
