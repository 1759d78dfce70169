# SPDX-License-Identifier: Apache-2.0
"""Command lines: flags that a tool does not have, and overrides that are None."""

from __future__ import annotations

import pytest

from custom.running.arguments import listed, null_overrides
from custom.running.tool import check_arguments


def tool(source: str, output_dir: str = "", quick: bool = False) -> None: ...


def test_a_flag_that_a_tool_lacks_is_refused_with_the_nearest():
    with pytest.raises(ValueError, match="--output_dri is no argument of this command, expected 'output_dir'"):
        check_arguments(tool, ["--source", "a", "--output_dri=b"])
    with pytest.raises(ValueError, match="--sauce is no argument"):
        check_arguments({"go": tool}, ["go", "--sauce", "a"])


def test_a_command_that_a_tool_lacks_is_refused_with_the_nearest():
    with pytest.raises(ValueError, match="'goo' is no command, expected 'go'"):
        check_arguments({"go": tool}, ["goo"])


@pytest.mark.parametrize(
    "arguments",
    [
        ["a", "--output-dir", "b", "--quick"],
        ["--source=a", "--noquick"],
        ["-s", "a"],
        ["--help"],
        ["a", "--", "--trace"],
        ["--source", "-1"],
    ],
)
def test_flags_in_all_forms_of_fire_are_accepted(arguments):
    check_arguments(tool, arguments)
    check_arguments({"go": tool}, ["go", *arguments])
    check_arguments({"go": tool}, [])
    check_arguments(lambda **anything: None, ["--whatever", "1"])


def test_overrides_that_are_none_are_found():
    typed = ["run", "--pretrained_weights", "None", "--cache_dir=None", "--a", "--b", "0", "--c", "Nonesuch"]
    assert null_overrides(typed) == ["pretrained_weights", "cache_dir"]


@pytest.mark.parametrize(
    ("typed", "names"),
    [
        ("a,b", ["a", "b"]),
        (" a , b,", ["a", "b"]),
        (("a", " b"), ["a", "b"]),
        (["a,b", ""], ["a,b"]),  # a path with a comma
        ((0, 1), ["0", "1"]),
        (0, ["0"]),
        ("", []),
        ((), []),
    ],
)
def test_names_with_commas_in_all_forms_of_fire(typed, names):
    assert listed(typed) == names
