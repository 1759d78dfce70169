# SPDX-License-Identifier: Apache-2.0
"""The part of a package that dotted names use.

The part consists of whole modules: the modules that define the names, the modules that these import, and so on. The
__init__.py of a package imports more than that, so it is cut to the names that are used. Imports stay relative.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable
from pathlib import Path

LINE_LENGTH = 120
Reference = tuple[Path, tuple[str, ...]]  # folder of a package, and the parts of a dotted name below it


def reached_code(package: Path, names: Iterable[str]) -> dict[str, str]:
    """Source files that dotted names need.

    Args:
        package: folder of the package.
        names: names below the package, such as "networks.UNet3D" or "pretext.byol.BYOLLoss".

    Returns:
        Path relative to the folder -> source code, sorted by path.

    Raises:
        ValueError: the package has no module or imported name of that kind.
    """
    modules: set[Path] = set()
    exports: dict[Path, set[str]] = {package: set()}  # folder of a package -> names that its __init__.py imports
    waiting: list[Reference] = [(package, tuple(name.split("."))) for name in names]
    done: set[Reference] = set()
    while waiting:
        reference = waiting.pop()
        if reference in done:
            continue
        done.add(reference)
        folder, (first, *rest) = reference
        exported = relative_imports(folder / "__init__.py")
        if rest and (folder / first).is_dir():
            exports.setdefault(folder / first, set())
            waiting.append((folder / first, tuple(rest)))
        elif first in exported and not rest:
            exports[folder].add(first)
            waiting.append(exported[first])
        elif (folder / f"{first}.py").is_file():
            modules.add(folder / f"{first}.py")
            waiting += relative_imports(folder / f"{first}.py").values()
        else:
            raise ValueError(f"{folder} has no {first!r}, expected a module or a name that its __init__.py imports")
    sources = {module: module.read_text(encoding="utf-8") for module in modules}
    sources |= {folder / "__init__.py": cut(folder / "__init__.py", kept) for folder, kept in exports.items()}
    return {path.relative_to(package).as_posix(): sources[path] for path in sorted(sources)}


def relative_imports(path: Path) -> dict[str, Reference]:
    """Names that a file imports by relative imports, and what each refers to."""
    imports = {}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.ImportFrom) and node.level:
            module = node.module.split(".") if node.module else []
            for alias in node.names:
                imports[alias.asname or alias.name] = path.parents[node.level - 1], (*module, alias.name)
    return imports


def cut(path: Path, names: set[str]) -> str:
    """Source of an __init__.py that imports these names alone; its licence and docstring stay."""
    source = path.read_text(encoding="utf-8")
    docstring, *statements = ast.parse(source).body
    lines = []
    for node in statements:
        if isinstance(node, ast.ImportFrom):
            imported = [ast.unparse(alias) for alias in node.names if (alias.asname or alias.name) in names]
            lines += [imports(f"from {'.' * node.level}{node.module or ''} import ", imported)] if imported else []
    parts = ["\n".join(source.splitlines()[: docstring.end_lineno]), "\n".join(lines)]
    return "\n\n".join(part for part in parts if part) + "\n"


def imports(start: str, names: list[str]) -> str:
    """An import on one line or, where that is too long, with a name a line."""
    line = start + ", ".join(names)
    return line if len(line) <= LINE_LENGTH else "\n".join([f"{start}(", *(f"    {name}," for name in names), ")"])
