# SPDX-License-Identifier: Apache-2.0
"""`tools.package_bundles --zoo`: the files of a pull request, and the unit tests in it as the model zoo runs them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from zips import BUNDLES, bundle_command, clean_environment, run_alone, served

from custom.files import sha256
from tools import package_bundles


def test_a_pull_request_has_no_weights(tmp_path: Path) -> None:
    """They lie beside it, under the addresses and hashes of large_files.yml."""
    name, weights, zoo = "gvsl_covid_cls", tmp_path / "weights", tmp_path / "zoo"
    with pytest.raises(ValueError, match="or weights for its repository; with --url"):
        package_bundles.package(str(weights), name, zoo=str(zoo))
    assert not zoo.exists()
    url = "https://example.org/weights"
    assert package_bundles.package(str(weights), name, url, str(zoo)) == [str(zoo / "models" / name)]
    paths = {path.relative_to(zoo / "models" / name).as_posix() for path in zoo.glob("models/*/**/*") if path.is_file()}
    assert {"LICENSE", "docs/README.md", "large_files.yml", "scripts/__init__.py", "models/model.json"} <= paths
    assert not [path for path in paths if path.endswith(".pt") or path == "README.md"]
    entries = yaml.safe_load((zoo / "models" / name / "large_files.yml").read_text())["large_files"]
    assert {entry["path"] for entry in entries} == {"models/backbone.pt", "models/model.pt"}
    for entry in entries:
        address, file = entry["url"].rsplit("/", 1)
        assert address == url and sha256(weights / file) == entry["hash_val"] and entry["hash_type"] == "sha256"
    assert len(list(weights.iterdir())) == 2
    compile((zoo / "ci" / "unit_tests" / f"test_{name}.py").read_text(), name, "exec")


@pytest.mark.slow
@pytest.mark.parametrize("name", BUNDLES)
def test_the_unit_test_passes_in_the_zoo(name: str, tmp_path: Path) -> None:
    """MONAI downloads the weights from a loopback server, then the test trains, evaluates and infers."""
    weights, zoo = tmp_path / "weights", tmp_path / "zoo"
    weights.mkdir()
    with served(weights) as address:
        package_bundles.package(str(weights), name, address, str(zoo))
        run_alone(bundle_command("download_large_files", bundle_path=f"models/{name}"), zoo)
    command = [sys.executable, "-m", "unittest", f"ci/unit_tests/test_{name}.py"]
    done = subprocess.run(command, cwd=zoo, env=clean_environment(), capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Ran 3 tests" in done.stderr
