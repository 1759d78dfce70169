# SPDX-License-Identifier: Apache-2.0
"""Zips of the bundles: the same bytes twice, complete, standing alone, and refused when somebody changed them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from zips import BUNDLES, ROOT, bundle_command, run_alone, served, unpacked, zip_of

from tools import package_bundles, verify_bundles


def copy_of(name: str, folder: Path) -> Path:
    """A bundle's tracked part."""
    ignored = shutil.ignore_patterns("output*", "data", "release", "evaluation", "predictions", "features")
    return Path(shutil.copytree(ROOT / "bundles" / name, folder / name, ignore=ignored))


def test_two_builds_give_the_same_bytes(dist: Path, tmp_path: Path) -> None:
    package_bundles.package(str(tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(path.name for path in dist.iterdir())
    for path in dist.iterdir():
        assert path.read_bytes() == (tmp_path / path.name).read_bytes(), path.name


@pytest.mark.parametrize("name", BUNDLES)
def test_a_zip_is_one_complete_bundle(name: str, dist: Path) -> None:
    with zipfile.ZipFile(zip_of(dist, name)) as archive:
        members = archive.namelist()
        texts = {member: archive.read(member).decode() for member in members if member.endswith((".json", ".md"))}
    assert all(member.startswith(f"{name}/") for member in members)
    assert {f"{name}/{file}" for file in (*verify_bundles.FILES, "scripts/__init__.py")} <= set(members)
    assert not [
        member for member in members if "__pycache__" in member or member.startswith((f"{name}/output", f"{name}/data"))
    ]
    for member, text in texts.items():
        assert '"custom.' not in text and f"'bundles/{name}'" not in text, member
        assert "](../../../" not in text and f"bundles/{name}" not in text, member


# one epoch of one iteration on the fewest phantoms that can be split
TINY: dict[str, Any] = {"max_epochs": 1, "iterations_per_epoch": 1, "val_interval": 1, "num_workers": 0}
TINY |= {"patch_size": [32, 32, 32], "warmup_iterations": 1}
SEGMENTATION = {"cohort#subjects": 3, "validation_share": 1, "test_share": 1, "validate#inferer#overlap": 0.0}
OWN = {
    "gvsl_covid_cls": {"cohort#subjects": 6},
    "gvsl_pretrain": {"cohort#subjects": 4, "validation_pairs": 2},
    "gvsl_seg_brain": SEGMENTATION,
    "gvsl_seg_coronary": SEGMENTATION,
    "gvsl_seg_heart": SEGMENTATION,
}


@pytest.mark.parametrize("name", BUNDLES)
def test_a_zip_trains_from_the_parent_of_its_folder_and_evaluates_inside(name: str, dist: Path, tmp_path: Path) -> None:
    """Nothing of this repository on the path; its own phantoms, weights and code; outputs inside its folder."""
    folder, tiny = unpacked(dist, name, tmp_path), TINY | OWN[name]
    run_alone(bundle_command("run", config_file=f"{name}/configs/train.json", **tiny), folder)
    description = json.loads((folder / name / "output" / "model.json").read_text())
    assert description["network"]["_target_"].startswith("scripts.networks.") and description["iterations"] == 1
    files = "['configs/train.json','configs/evaluate.json']"
    run_alone(bundle_command("run", config_file=files, model_dir="output", **tiny), folder / name)
    assert (folder / name / "evaluation" / "metrics.json").is_file()
    assert sorted(path.name for path in folder.iterdir()) == [name]
    made = {path.name for path in (folder / name).iterdir()}
    shipped = {"LICENSE", "configs", "docs", "models", "scripts"}
    assert made == shipped | {"data", "output", "evaluation"}


LOAD = """
import importlib.util, sys, torch
from monai.bundle import download, load
name, url = sys.argv[1:]
assert importlib.util.find_spec("custom") is None
download(name=name, url=url, bundle_dir=".", progress=False)
sys.path.insert(0, name)
expected = torch.load(f"{name}/models/model.pt", weights_only=True)
for workflow_type in ("inference", "train"):
    state = load(name, bundle_dir=".", workflow_type=workflow_type).state_dict()
    assert state.keys() == expected.keys() and all(torch.equal(state[key], expected[key]) for key in expected)
    print(workflow_type, "equal", len(state))
"""


@pytest.mark.parametrize("name", BUNDLES)
def test_download_and_load_give_every_tensor(name: str, dist: Path, tmp_path: Path) -> None:
    """From a loopback server into an empty folder, as a user who has packages alone."""
    with served(dist) as address:
        printed = run_alone(["-c", LOAD, name, f"{address}/{zip_of(dist, name).name}"], tmp_path)
    assert "inference equal" in printed and "train equal" in printed


def test_a_bundle_without_weights_is_not_packaged(tmp_path: Path) -> None:
    bundle = copy_of("gvsl_seg_heart", tmp_path)
    (bundle / "models" / "model.pt").unlink()
    with pytest.raises(ValueError, match=r"model\.pt does not exist: a bundle without weights is not packaged"):
        package_bundles.bundle_files(bundle)


def test_weights_of_another_hash_are_not_packaged(tmp_path: Path) -> None:
    bundle = copy_of("gvsl_seg_heart", tmp_path)
    torch.save({"x": torch.zeros(1)}, bundle / "models" / "backbone.pt")
    with pytest.raises(ValueError, match=r"backbone\.pt has SHA-256 .* but .*backbone\.json names"):
        package_bundles.bundle_files(bundle)


class TestVerify:
    """tools/verify_bundles.py, whole on zips and check by check on a copy that is spoiled."""

    def test_the_zips_pass(self, dist: Path, shared_data: Path) -> None:
        schema = shared_data / "meta_schema_20240725.json"
        command = [sys.executable, ROOT / "tools" / "verify_bundles.py", "--bundle_dir", dist, "--schema", schema]
        done = subprocess.run(list(map(str, command)), cwd=ROOT, capture_output=True, encoding="utf-8")
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
        assert done.stdout.count("9 checks, 0 failures") == len(BUNDLES)

    def test_a_changed_zip_is_refused(self, dist: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
        folder = Path(shutil.copytree(dist, tmp_path / "dist"))
        content = bytearray(zip_of(folder, "gvsl_pretrain").read_bytes())
        content[5000] ^= 1
        zip_of(folder, "gvsl_pretrain").write_bytes(content)
        with pytest.raises(SystemExit, match=r"FAILED .*gvsl_pretrain_v.*\.zip has SHA-256 .*, model_info\.json names"):
            verify_bundles.verify(str(folder))

    @pytest.mark.parametrize("member", ["gvsl/../../outside.txt", "/absolute.txt", "other/file.txt", "gvsl\\..\\x"])
    def test_members_outside_of_the_top_folder_are_refused(self, member: str, tmp_path: Path) -> None:
        path = tmp_path / "in" / "gvsl_v1.zip"
        path.parent.mkdir()
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("gvsl/LICENSE", "text")
            archive.writestr(zipfile.ZipInfo(member), "harm")
        target = tmp_path / "deep" / "target"
        target.mkdir(parents=True)
        digest = verify_bundles.hashlib.sha256(path.read_bytes()).hexdigest()
        with pytest.raises(ValueError, match="expected members below gvsl/ alone"):
            verify_bundles.unpack(path, digest, target)
        assert sorted(file.name for file in tmp_path.rglob("*")) == ["deep", "gvsl_v1.zip", "in", "target"]

    @staticmethod
    def problems(check, bundle: Path, **arguments) -> list[str]:
        return list(check(bundle, arguments.get("schema", ""), arguments.get("results", ROOT)))

    def test_each_check_finds_what_it_is_for(self, tmp_path: Path) -> None:
        bundle = copy_of("gvsl_seg_heart", tmp_path)

        def edit(name: str, change) -> None:
            content = json.loads((bundle / "configs" / name).read_text())
            change(content)
            (bundle / "configs" / name).write_text(json.dumps(content))

        quick = ("files", "versions", "weights", "overlays", "preprocessing", "quoted_figures")
        for name in quick:
            assert self.problems(getattr(verify_bundles, name), bundle) == [], name
        (bundle / "docs" / "data_license.txt").unlink()
        assert self.problems(verify_bundles.files, bundle) == ["docs/data_license.txt is missing"]
        edit("metadata.json", lambda content: content["required_packages_version"].update(nibabel="1.0.0"))
        assert "nibabel 1.0.0 is named" in self.problems(verify_bundles.versions, bundle)[0]
        edit("linear.json", lambda content: content.update({"train#trainer#max_epoch": 1}))
        assert self.problems(verify_bundles.overlays, bundle) == [
            "linear.json: train#trainer#max_epoch is not in train.json"
        ]
        edit("inference.json", lambda content: content["preprocessing"]["transforms"].reverse())
        edit("inference.json", lambda content: content.update(spacing=[1.0, 1.0, 1.0]))
        found = self.problems(verify_bundles.preprocessing, bundle)
        assert "spacing is [3.5, 3.5, 3.5] in train.json, [1.0, 1.0, 1.0]" in found[0]
        assert found[1].startswith("inference prepares by")
        edit("inference.json", lambda content: content["preprocessing"]["transforms"].reverse())
        edit("inference.json", lambda content: content["preprocessing"]["transforms"][1].update(axcodes="LPS"))
        found = self.problems(verify_bundles.preprocessing, bundle)
        assert found[1:] == ["axcodes of Orientationd is RAS in validation, LPS in inference"]
        torch.save({"x": torch.zeros(1)}, bundle / "models" / "model.pt")
        assert "model.pt has SHA-256" in self.problems(verify_bundles.weights, bundle)[0]
        readme = bundle / "docs" / "README.md"
        text = readme.read_text()
        readme.write_text(text.replace("<!-- end of figures -->", "0.12345\n<!-- end of figures -->", 1))
        assert "quotes 0.12345, which is not in" in self.problems(verify_bundles.quoted_figures, bundle)[0]
        readme.write_text("nothing")
        assert self.problems(verify_bundles.quoted_figures, bundle) == [
            "docs/README.md quotes no figures from a result file"
        ]

    def test_metadata_without_a_key_the_schema_wants(self, tmp_path: Path, shared_data: Path) -> None:
        bundle = copy_of("gvsl_seg_heart", tmp_path)
        schema = str(shared_data / "meta_schema_20240725.json")
        assert self.problems(verify_bundles.metadata, bundle, schema=schema) == []
        content = json.loads((bundle / "configs" / "metadata.json").read_text())
        del content["copyright"]
        (bundle / "configs" / "metadata.json").write_text(json.dumps(content))
        with pytest.raises(Exception, match="'copyright' is a required property"):
            self.problems(verify_bundles.metadata, bundle, schema=schema)
