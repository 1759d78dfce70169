# SPDX-License-Identifier: Apache-2.0
"""Hook of MkDocs: a page for each folder and loose module of custom/, whose docstrings mkdocstrings reads."""

from __future__ import annotations

import pkgutil
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

CODE = Path(__file__).resolve().parents[2] / "custom"
COMMAND = "cli"  # docs/command_line.md describes it; its docstrings are help texts
NAMES = sorted({module.name for module in pkgutil.iter_modules([str(CODE)])} - {COMMAND})


def on_config(config: MkDocsConfig) -> None:
    """Lists the pages in the navigation."""
    entry = next(entry for entry in config.nav if "API" in entry)
    entry["API"] = [{name: f"custom/{name}/README.md"} for name in NAMES]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages."""
    for name in NAMES:
        content = f"# custom.{name}\n\n::: custom.{name}\n"
        files.append(File.generated(config, f"custom/{name}/README.md", content=content))
    return files
