# SPDX-License-Identifier: Apache-2.0
"""Imports of custom/ go downwards: no module imports a room of a higher floor, and no imports form a circle."""

import ast
import re
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLOORS = [  # the lowest first; a room may import rooms of its own floor and of those before it
    ["files", "labels", "shipped"],
    ["layers", "running", "volumes"],
    ["figures", "losses", "metrics", "networks", "transforms"],
    ["pretext"],
    ["data", "weights"],
    ["engines", "phantoms", "preparation", "registration"],
    ["handlers"],
    ["cli", "load"],
]
FLOOR_OF = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}


def imports_of(package: Path) -> dict[str, set[str]]:
    """Module -> the modules of the same package that it imports, anywhere in its code.

    An import from another room also counts as an import of that room's __init__.py, which Python runs first.
    """
    paths = {module_name(path, package): path for path in sorted(package.rglob("*.py"))}
    imports: dict[str, set[str]] = {}
    for module, path in paths.items():
        names = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                source = imported_from(node, path, package)
                names |= {source} | {f"{source}.{alias.name}" for alias in node.names}
        names |= {".".join(name.split(".")[:2]) for name in names if room_of(name) != room_of(module)}
        if path.name != "__init__.py":  # `from .read import x` needs no more of its own room than read.py
            names.discard(f"{package.name}.{room_of(module)}")
        imports[module] = (names & paths.keys()) - {module, package.name}
    return imports


def module_name(path: Path, package: Path) -> str:
    parts = path.relative_to(package.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_from(node: ast.ImportFrom, path: Path, package: Path) -> str:
    """The absolute name of the module in `from ..module import name`."""
    if not node.level:
        return node.module or ""
    folder = path.parents[node.level - 1].relative_to(package.parent).parts
    return ".".join([*folder, *([node.module] if node.module else [])])


def room_of(module: str) -> str:
    """The folder, or the loose module, of `custom` that holds a module."""
    return (module.split(".") + [""])[1]


def problems(imports: dict[str, set[str]]) -> list[str]:
    """One line for each upward import, each room that is on no floor, and the first circle."""
    rooms = sorted({room_of(module) for module in imports} - {""} - FLOOR_OF.keys())
    lines = [f"custom.{room} is on no floor" for room in rooms]
    for module, targets in imports.items():
        for target in sorted(targets):
            if FLOOR_OF.get(room_of(target), -1) > FLOOR_OF.get(room_of(module), len(FLOORS)):
                lines.append(f"{module} imports {target} of a higher floor")
    try:
        TopologicalSorter({module: sorted(targets) for module, targets in imports.items()}).prepare()
    except CycleError as error:
        lines.append(f"circle: {' imports '.join(reversed(error.args[1]))}")
    return lines


def test_no_upward_import_and_no_circle():
    imports = imports_of(ROOT / "custom")
    assert len(imports) > 100 and "custom.volumes" in imports["custom.data.datalist"]
    assert problems(imports) == []


@pytest.mark.parametrize(
    ("path", "line", "problem"),
    [
        ("files.py", "from .handlers import CsvTable", "custom.files imports custom.handlers of a higher floor"),
        ("files.py", "def f():\n    import custom.data.a", "custom.files imports custom.data.a of a higher floor"),
        ("data/a.py", "from ..engines.a import Trainer", "custom.data.a imports custom.engines.a of a higher floor"),
        ("data/a.py", "from . import b", "circle: custom.data.b imports custom.data.a imports custom.data.b"),
        ("engines/a.py", "from .. import handlers", "custom.engines.a imports custom.handlers of a higher floor"),
        ("volumes/a.py", "from ..layers import b", "circle: custom.layers.b imports custom.volumes"),
        ("cellar/a.py", "", "custom.cellar is on no floor"),
    ],
)
def test_a_planted_import_is_refused(path, line, problem, tmp_path):
    files = {
        "files.py": "",
        "data/a.py": "",
        "data/b.py": "from .a import x",
        "data/__init__.py": "from .b import x",
        "engines/a.py": "from ..data import x\nfrom ..files import y",
        "handlers/__init__.py": "from ..engines.a import z",
        "layers/b.py": "from ..volumes.a import x",
        "volumes/__init__.py": "from .a import x",
        "volumes/a.py": "import numpy",
    }
    write(tmp_path, files)
    assert problems(imports_of(tmp_path / "custom")) == []
    write(tmp_path, {path: line})
    lines = problems(imports_of(tmp_path / "custom"))
    assert any(problem in entry for entry in lines), lines


def write(folder, files):
    for name, text in files.items():
        path = folder / "custom" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_contributing_lists_the_floors():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d) \| `(\w+)(?:/|\.py)` \|", text, flags=re.MULTILINE)
    assert {room: int(floor) - 1 for floor, room in rows} == FLOOR_OF


def test_no_module_has_the_name_of_what_its_package_exports() -> None:
    """From Python 3.12 on MONAI finds the module, where a config names the function: it asks `pydoc.locate`."""
    packages = [path.parent for path in (ROOT / "custom").rglob("__init__.py") if path.parent.name != "cli"]
    imports = {
        f"{package.relative_to(ROOT)}: {alias.asname or alias.name}"
        for package in packages
        for node in ast.walk(ast.parse((package / "__init__.py").read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
        if (package / f"{alias.asname or alias.name}.py").is_file()
    }
    assert imports == set()
