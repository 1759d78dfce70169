# SPDX-License-Identifier: Apache-2.0
"""The bundles that come with this package: configs, docs and weights."""

from __future__ import annotations

import re
from pathlib import Path

INSTALLED = Path(__file__).parent / "bundles"  # setup.cfg puts them there
BUNDLES = INSTALLED if INSTALLED.is_dir() else Path(__file__).parents[1] / "bundles"
NAME = re.compile(r"gvsl_(?:seg_)?(\w+?)(?:_cls)?")


def short_name(name: str) -> str:
    """The part of a bundle's name that the command line uses: heart of gvsl_seg_heart, covid of gvsl_covid_cls."""
    match = NAME.fullmatch(name)
    return match[1] if match else name


def shipped_bundles() -> dict[str, Path]:
    """Short name -> folder of each bundle, in the order of the short names."""
    folders = [path.parents[1] for path in BUNDLES.glob("*/configs/metadata.json")]
    return dict(sorted((short_name(folder.name), folder) for folder in folders))


def shipped_weights() -> dict[str, Path]:
    """Name -> folder with model.pt and model.json: pretrain for those in models/, pretrain/brain for models/brain."""
    found = {}
    for short, bundle in shipped_bundles().items():
        for described in sorted(bundle.glob("models/**/model.json"), key=lambda path: (len(path.parts), path)):
            below = described.parent.relative_to(bundle / "models")
            found["/".join((short, *below.parts))] = described.parent
    return found


def find_weights(name: str) -> Path | None:
    """The folder of shipped weights by their name, whose bundle may have its full name, or None.

    Raises:
        ValueError: a folder of this name in the working directory holds weights, too.
    """
    bundle, *below = name.split("/")
    found = shipped_weights().get("/".join((short_name(bundle), *below)))
    if found is not None:
        for own in described_folders(Path(name)):
            if not own.samefile(found):
                raise ValueError(
                    f"{name} is the name of shipped weights and of the folder {own}, expected ./{own} for the folder, "
                    f"or {found} for the shipped weights"
                )
    return found


def described_folders(path: Path) -> list[Path]:
    """Those of `path` and `path`/models that hold a model.json."""
    return [folder for folder in (path, path / "models") if (folder / "model.json").is_file()]


def find_bundle(name: str) -> Path | None:
    """The folder of a bundle by its short or full name, or None."""
    return shipped_bundles().get(short_name(name))
