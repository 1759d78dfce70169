# SPDX-License-Identifier: Apache-2.0
"""Files are complete or do not exist, and errors name the file and what it should hold."""

import errno
import math
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from custom.files import (
    TEMPORARY_NAME,
    atomic,
    finite,
    read_json,
    remove_leftovers,
    set_aside,
    write_csv,
    write_json,
    write_tensors,
    write_text,
)
from custom.volumes import write_volume

ROOT = Path(__file__).parents[1]


def draw(path):
    figure = Figure(figsize=(8, 8))
    figure.subplots().imshow(np.random.default_rng(0).random((200, 200)))
    with atomic(path, "the figure") as temporary:
        figure.savefig(temporary, dpi=80)


WRITERS = {
    "a.json": lambda path: write_json(path, {"numbers": list(range(20_000))}),
    "a.txt": lambda path: write_text(path, "text" * 20_000),
    "a.csv": lambda path: write_csv(path, [{"subject": number, "dice": 0.5} for number in range(20_000)]),
    "a.pt": lambda path: write_tensors(path, {"weight": torch.ones(20_000)}),
    "a.png": draw,
    "a.nii.gz": lambda path: write_volume(path, np.random.default_rng(0).random((40, 40, 40)), np.eye(4)),
}


@pytest.mark.parametrize("name", WRITERS)
def test_writes_in_a_new_folder_and_leaves_no_other_file(name, tmp_path):
    path = tmp_path / "new" / "folder" / name
    WRITERS[name](path)
    WRITERS[name](path)  # replaces the first file
    assert [file.name for file in path.parent.iterdir()] == [name]
    assert path.stat().st_size > 0


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_number_that_json_does_not_have_is_refused(value, tmp_path):
    path = tmp_path / "metrics.json"
    with pytest.raises(ValueError, match=r"metrics.json: NaN or infinity in the metrics, expected numbers"):
        write_json(path, {"dice": {"aorta": value}}, "the metrics")
    assert not path.exists() and finite(value) is None and finite(torch.tensor(0.5)) == 0.5


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_full_disk_leaves_the_earlier_file_and_no_other(name, step, tmp_path, monkeypatch):
    (tmp_path / name).write_text("earlier")

    def full(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, step, full)
    with pytest.raises(OSError) as caught:
        WRITERS[name](tmp_path / name)
    assert caught.value.errno == errno.ENOSPC
    last_line = str(caught.value).splitlines()[-1]
    assert str(tmp_path / name) in last_line
    assert "cannot be written (No space left on device), expected a folder with" in last_line
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {name: "earlier"}


@pytest.mark.parametrize("name", WRITERS)
def test_a_disk_that_fills_up_while_a_file_is_written(name, tmp_path):
    """The largest size of a file stands for the end of the disk: it is the call of write that fails."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
    try:
        with pytest.raises(OSError, match=rf"{name}: .* cannot be written \(File too large\)") as caught:
            WRITERS[name](tmp_path / name)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.errno == errno.EFBIG
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", WRITERS)
def test_a_folder_that_cannot_be_made(name, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(
        OSError, match=rf"file/{name}: .* cannot be written .*, expected a folder with write permission"
    ):
        WRITERS[name](tmp_path / "file" / name)
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("name", WRITERS)
def test_a_read_only_folder(name, tmp_path, monkeypatch):
    """Mocked, because the administrator, who may run the tests, writes to every folder."""

    def refuse(*arguments, **options):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), arguments[0])

    monkeypatch.setattr("builtins.open", refuse)
    monkeypatch.setattr("io.open", refuse)
    with pytest.raises(PermissionError, match=rf"{name}: .* cannot be written \(Permission denied\)"):
        WRITERS[name](tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_an_error_that_is_not_of_the_disk_is_not_changed(tmp_path):
    with pytest.raises(KeyError, match="own"), atomic(tmp_path / "a.txt") as temporary:
        temporary.write_text("half")
        raise KeyError("own")
    with pytest.raises(ValueError, match="'dice'"):
        write_csv(tmp_path / "a.csv", [{"subject": "a"}, {"subject": "b", "dice": 1}])
    assert not list(tmp_path.iterdir())


def test_the_temporary_file_has_the_ending_and_the_folder_of_the_file(tmp_path):
    with atomic(tmp_path / "a.nii.gz") as temporary:
        assert temporary.parent == tmp_path and temporary.name.startswith(".") and temporary.name.endswith("a.nii.gz")
        temporary.write_bytes(b"volume")
        assert not (tmp_path / "a.nii.gz").exists()


@pytest.mark.parametrize("name", ["a" * 236 + ".nii.gz", "ä" * 124 + ".nii.gz"])
def test_the_longest_names_can_be_written(name, tmp_path):
    with atomic(tmp_path / name) as temporary:
        assert TEMPORARY_NAME.fullmatch(temporary.name) and temporary.name.endswith(".nii.gz")
        temporary.write_bytes(b"volume")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_columns_of_a_table(tmp_path):
    path = tmp_path / "a.csv"
    write_csv(path, [{"dice": 0.5, "subject": "a,b"}])
    assert path.read_bytes() == b'dice,subject\n0.5,"a,b"\n'
    write_csv(path, [])
    assert path.read_bytes() == b"subject\n"
    write_csv(path, [], ["file", "reason"])
    assert path.read_bytes() == b"file,reason\n"


def test_one_state_dict_gives_one_file(tmp_path):
    for name in ("a.pt", "b.pt"):
        write_tensors(tmp_path / name, {"weight": torch.ones(3)})
    assert (tmp_path / "a.pt").read_bytes() == (tmp_path / "b.pt").read_bytes()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"training": [', r"a\.json is not valid JSON \(.*\), expected the description of the weights"),
        (b'{"name": "\xff"}', r"a\.json is not valid JSON \(.*\), expected the description of the weights"),
        (b"[1, 2]", r"a\.json holds a JSON list, expected an object: the description of the weights"),
    ],
)
def test_json_that_cannot_be_used(content, message, tmp_path):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_json(tmp_path / "a.json", "the description of the weights")


def test_json_that_does_not_exist(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"a\.json does not exist, expected the description of the weights"):
        read_json(tmp_path / "a.json", "the description of the weights")


KILLED_WHILE_IT_WROTE = """
import os, signal, sys
from custom.files import atomic

with atomic(sys.argv[1]) as temporary:
    temporary.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_next_run_removes_what_a_killed_one_left(tmp_path):
    path = tmp_path / "below" / "a.nii.gz"
    subprocess.run([sys.executable, "-c", KILLED_WHILE_IT_WROTE, str(path)], cwd=ROOT)
    (left,) = path.parent.iterdir()
    assert left.name.startswith(".tmp.")
    (tmp_path / ".tmp.notes").touch()  # no name of ours
    with atomic(tmp_path / "b.txt") as temporary:  # a process that runs
        temporary.touch()
        assert remove_leftovers(tmp_path) == [] and left.exists()
        assert remove_leftovers(tmp_path, left.parent) == [left]
        assert temporary.exists()
    assert (tmp_path / ".tmp.notes").exists() and not left.exists()


def test_a_file_of_another_computer_is_a_leftover_after_a_day(tmp_path):
    ours, theirs = tmp_path / ".tmp.elsewhere.1.1.new.pt", tmp_path / ".tmp.elsewhere.1.1.old.pt"
    for path in (ours, theirs):
        path.touch()
    two_days_ago = time.time() - 2 * 24 * 3600
    os.utime(theirs, (two_days_ago, two_days_ago))
    assert remove_leftovers(tmp_path) == [theirs]
    assert remove_leftovers(tmp_path / "missing") == []


def test_the_temporary_files_of_an_earlier_run_are_not_moved_with_it(tmp_path):
    for folder in ("", "sub", "checkpoints"):
        (tmp_path / folder).mkdir(exist_ok=True)
        left = tmp_path / folder / ".tmp.elsewhere.1.1.a.pt"
        left.touch()
        os.utime(left, (0, 0))
    (tmp_path / "checkpoints" / "a.pt").touch()
    set_aside(tmp_path, ["sub/a.txt", "checkpoints"])
    files = [path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()]
    assert files == [Path("earlier/1/checkpoints/a.pt")]


def test_earlier_files_are_moved_with_their_folders(tmp_path):
    for number, content in ((1, "first"), (2, "second")):
        (tmp_path / "sub").mkdir(exist_ok=True)
        for name in ("sub/a.txt", "b.txt", "notes.txt"):
            (tmp_path / name).write_text(content)
        assert set_aside(tmp_path, ["sub/a.txt", "b.txt", "missing.txt"]) == tmp_path / "earlier" / str(number)
        for name in ("sub/a.txt", "b.txt"):
            assert (tmp_path / "earlier" / str(number) / name).read_text() == content
            assert not (tmp_path / name).exists()
    assert (tmp_path / "notes.txt").exists()
    assert set_aside(tmp_path, ["b.txt"]) is None and set_aside(tmp_path / "missing", ["b.txt"]) is None
