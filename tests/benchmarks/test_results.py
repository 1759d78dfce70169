# SPDX-License-Identifier: Apache-2.0
"""Results as JSON lines: nothing is lost, nothing is stored twice, and a killed run leaves a readable file."""

from __future__ import annotations

import json
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from benchmarks.transfer import results as results_module
from benchmarks.transfer.results import append_result, divided, joined, read_results


def result(seed: int, rate: float = 0.1, epochs: int = 2) -> dict:
    overrides = {"max_epochs": epochs, "learning_rate": rate}
    settings = {"method": "gvsl", "protocol": "linear", "seed": seed, "learning_rate": rate, "overrides": overrides}
    return {"settings": settings, "score": 0.5 + seed, "points": {"b": [[1, 2.0]], "a": []}}


def test_settings_are_stored_once_and_come_back(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "t.jsonl"
    cells = {f"linear_gvsl_rate{rate:g}_seed{seed}": result(seed, rate) for rate in (0.1, 1e-05) for seed in (0, 1)}
    for name, content in cells.items():
        append_result(path, name, content)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    shared = {"method": "gvsl", "protocol": "linear", "overrides": {"max_epochs": 2}}
    assert lines[0] == {"settings": "linear_gvsl", "shared": shared} and len(lines) == 5
    own = {"seed": 0, "learning_rate": 0.1, "overrides": {"learning_rate": 0.1}}
    assert lines[1]["own"] == own and lines[1]["settings"] == "linear_gvsl"
    assert read_results(path) == cells and list(read_results(path)) == sorted(cells)
    assert list(read_results(path)["linear_gvsl_rate0.1_seed0"]["points"]) == ["b", "a"]


def test_cells_of_one_name_may_have_other_shared_settings(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    cells = {f"linear_gvsl_seed{epochs}": result(0, epochs=epochs) for epochs in (2, 3, 4)}
    for name, content in cells.items():
        append_result(path, name, content)
    assert read_results(path) == cells
    assert [json.loads(line)["settings"] for line in path.read_text().splitlines()[::2]] == [
        "linear_gvsl", "linear_gvsl_changed", "linear_gvsl_changed_changed",
    ]  # fmt: skip


def test_settings_without_overrides_or_with_empty_ones_come_back() -> None:
    for settings in (
        {"seed": 1},
        {"method": "a", "overrides": {}},
        {"seed": 0, "overrides": {"seed": 3, "b": {"seed": 4}}},
    ):
        assert joined(*divided(settings)) == settings


def test_a_line_that_was_cut_off_is_left_out_and_said(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = tmp_path / "t.jsonl"
    append_result(path, "linear_gvsl_seed0", result(0))
    whole = path.read_bytes()
    append_result(path, "linear_gvsl_seed1", result(1))
    path.write_bytes(path.read_bytes()[:-9])  # killed while it wrote
    assert list(read_results(path)) == ["linear_gvsl_seed0"]
    assert "t.jsonl: line 3 was cut off and is left out" in capsys.readouterr().err
    append_result(path, "linear_gvsl_seed2", result(2))
    assert list(read_results(path)) == ["linear_gvsl_seed0", "linear_gvsl_seed2"]
    assert path.read_bytes().startswith(whole) and path.read_bytes().count(b"\n") == 3


def test_writers_side_by_side_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    with ProcessPoolExecutor(2) as pool:
        futures = [
            pool.submit(partial(append_result, path, f"linear_gvsl_seed{k % 20}", result(k % 20))) for k in range(40)
        ]
        [future.result() for future in futures]
    assert (
        read_results(path) == {f"linear_gvsl_seed{k}": result(k) for k in range(20)} and len(read_results(path)) == 20
    )
    assert path.read_bytes().count(b"\n") == 21


def test_a_full_disk_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "t.jsonl"
    append_result(path, "linear_gvsl_seed0", result(0))
    whole = path.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(results_module.os, "fsync", full)
    with pytest.raises(OSError, match=r"cell linear_gvsl_seed1 could not be written to .*t\.jsonl: .*No space"):
        append_result(path, "linear_gvsl_seed1", result(1))
    assert path.read_bytes() == whole


def test_what_is_no_cell_is_named(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    for line in ("{}", "no JSON", '{"cell": "a", "settings": "missing", "own": {}}'):
        path.write_text(line + "\n")
        with pytest.raises(ValueError, match=r"t\.jsonl, line 1: expected settings or a cell, got b.*"):
            read_results(path)
    assert read_results(tmp_path / "other.jsonl") == {}
