# SPDX-License-Identifier: Apache-2.0
"""The part of a package that names use, on a package made for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tools.reached_code import reached_code

NAMES = [f"long_name_of_a_function_{number}" for number in range(6)]
HEAD = '# licence\n"""Layers,\nin two lines."""\n'
SOURCES = {
    "__init__.py": '"""All."""\n',
    "files.py": "",
    "layers/__init__.py": f"{HEAD}from .other import Other as Another, Spare\nfrom .warp import warp\n",
    "layers/other.py": "from ..files import read\n",
    "layers/warp.py": "import os\n",
    "nets/__init__.py": f'"""Nets."""\nfrom .long import {", ".join(NAMES)}, last\nfrom .net import Net\n',
    "nets/net.py": "def later():\n    from ..layers import warp\n",
    "nets/long.py": "from . import net\n",
}


@pytest.fixture
def reached(tmp_path: Path) -> Callable[..., dict[str, str]]:
    """Function from names to the code that they reach."""
    for name, source in SOURCES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(source)
    return lambda *names: reached_code(tmp_path, names)


def test_a_name_takes_its_module_and_what_that_imports(reached: Callable[..., dict[str, str]]) -> None:
    """A function is imported by a function; its name is that of its module too."""
    code = reached("nets.Net")
    assert list(code) == ["__init__.py", "layers/__init__.py", "layers/warp.py", "nets/__init__.py", "nets/net.py"]
    assert code["nets/net.py"] == SOURCES["nets/net.py"]
    assert code["nets/__init__.py"] == '"""Nets."""\n\nfrom .net import Net\n'
    assert code["layers/__init__.py"] == f"{HEAD}\nfrom .warp import warp\n"


def test_a_module_by_its_path_leaves_the_package_empty(reached: Callable[..., dict[str, str]]) -> None:
    code = reached("layers.other.Other")
    assert list(code) == ["__init__.py", "files.py", "layers/__init__.py", "layers/other.py"]
    assert code["layers/__init__.py"] == HEAD


def test_another_name_of_an_import_stays(reached: Callable[..., dict[str, str]]) -> None:
    code = reached("layers.Another")
    assert code["layers/__init__.py"] == f"{HEAD}\nfrom .other import Other as Another\n"


def test_long_lists_are_broken(reached: Callable[..., dict[str, str]]) -> None:
    code = reached(*(f"nets.{name}" for name in NAMES))
    assert list(code)[-3:] == ["nets/__init__.py", "nets/long.py", "nets/net.py"]
    lines = "".join(f"    {name},\n" for name in NAMES)
    assert code["nets/__init__.py"].endswith(f"from .long import (\n{lines})\n")
    assert "last" not in code["nets/__init__.py"] and max(map(len, code["nets/__init__.py"].splitlines())) <= 120


@pytest.mark.parametrize("name", ["nets.Lost", "lost.Net", "nets", "layers.lost.warp"])
def test_a_name_that_does_not_exist_is_refused(name: str, reached: Callable[..., dict[str, str]]) -> None:
    with pytest.raises(ValueError, match="expected a module or a name that its __init__.py imports"):
        reached(name)
