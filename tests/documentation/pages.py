# SPDX-License-Identifier: Apache-2.0
"""The pages of the documentation, and the commands on them."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", *ROOT.glob("docs/**/*.md"), *ROOT.glob("bundles/*/docs/README.md")])
BLOCK = re.compile(r"^```bash\n(.*?)^```", re.DOTALL | re.MULTILINE)


def commands(page: Path) -> list[list[str]]:
    """The words of each command in the blocks of a page that are marked as bash."""
    text = "\n".join(BLOCK.findall(page.read_text(encoding="utf-8"))).replace("\\\n", " ")
    return [shlex.split(part) for line in text.splitlines() for part in line.split(" && ") if part.strip()]
