# SPDX-License-Identifier: Apache-2.0
"""Zips of the bundles: the same bytes twice, complete, standing alone, and refused when somebody changed them."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from zips import BUNDLES, ROOT, TINY, bundle_command, run_alone, served, unpacked, zip_of

from custom.files import sha256
from tools import code_checks, file_checks, package_bundles, verify_bundles
from tools.export import weighted_network

ALIKE = ("gvsl_seg_brain", "gvsl_seg_coronary")  # as gvsl_seg_heart
OTHER_VERSIONS = list(file_checks.versions(ROOT / "bundles" / "gvsl_pretrain", ""))
named_versions = pytest.mark.skipif(bool(OTHER_VERSIONS), reason=f"in metadata.json {''.join(OTHER_VERSIONS)}")
OF_EACH_KIND = [pytest.param(name, marks=[pytest.mark.slow] if name in ALIKE else []) for name in BUNDLES]


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
    assert {f"{name}/{file}" for file in (*file_checks.FILES, "scripts/__init__.py")} <= set(members)
    assert not [
        member for member in members if "__pycache__" in member or member.startswith((f"{name}/output", f"{name}/data"))
    ]
    for member, text in texts.items():
        assert '"custom.' not in text and f"'bundles/{name}'" not in text, member
        assert "](../../../" not in text and f"bundles/{name}" not in text, member


@pytest.mark.parametrize("name", OF_EACH_KIND)
def test_a_zip_trains_from_the_parent_of_its_folder_and_evaluates_inside(
    name: str, trained: Callable[[str], Path]
) -> None:
    """Nothing of this repository on the path; its own phantoms, weights and code; outputs inside its folder."""
    folder = trained(name)
    description = json.loads((folder / name / "output" / "model.json").read_text())
    assert description["network"]["_target_"].startswith("scripts.networks.") and description["iterations"] == 1
    files = "['configs/train.json','configs/evaluate.json']"
    run_alone(bundle_command("run", config_file=files, model_dir="output", **TINY[name]), folder / name)
    assert (folder / name / "evaluation" / "metrics.json").is_file()
    assert sorted(path.name for path in folder.iterdir()) == [name]
    made = {path.name for path in (folder / name).iterdir()}
    shipped = {"LICENSE", "README.md", "configs", "docs", "models", "scripts"}
    assert made == shipped | {"data", "output", "evaluation"}


RESOLVE = """
import importlib, json, pathlib, pydoc, re, sys
sys.path.insert(0, sys.argv[1])
folder = pathlib.Path(sys.argv[1])
texts = [path.read_text() for path in folder.glob("configs/**/*.json")]
texts += [json.dumps(json.loads(path.read_text())["network"]) for path in folder.glob("models/*.json")]
names = {name for text in texts for name in re.findall(r'"_target_": "(scripts[.][^"]+)"', text)}
assert names and not [name for name in names if pydoc.locate(name) is None]
modules = [path.relative_to(folder).with_suffix("") for path in folder.glob("scripts/**/*.py")]
for module in modules:
    importlib.import_module(".".join(module.parts).removesuffix(".__init__"))
assert importlib.util.find_spec("custom") is None
print(sorted(names))
"""


@pytest.mark.parametrize("name", BUNDLES)
def test_a_zip_has_the_code_that_its_configs_name(name: str, dist: Path, tmp_path: Path) -> None:
    """Every name in a config exists, and every module can be imported."""
    assert "scripts.networks.UNet3D" in run_alone(["-c", RESOLVE, name], unpacked(dist, name, tmp_path))


def test_a_zip_has_no_code_for_other_tasks(dist: Path) -> None:
    code = {}
    for name in BUNDLES:
        with zipfile.ZipFile(zip_of(dist, name)) as archive:
            start = f"{name}/scripts/"
            code[name] = {member.removeprefix(start) for member in archive.namelist() if member.startswith(start)}
    assert {path.name for path in (ROOT / "custom" / "pretext").iterdir() if path.suffix == ".py"} == {
        member.partition("/")[2] for member in code["gvsl_pretrain"] if member.startswith("pretext/")
    }
    foreign = {
        "gvsl_seg_heart": ("pretext/", "preparation/", "registration/", "phantoms/brain", "phantoms/chest"),
        "gvsl_seg_brain": ("pretext/", "preparation/", "registration/", "phantoms/cardiac", "phantoms/chest"),
        "gvsl_covid_cls": ("pretext/", "preparation/", "registration/", "phantoms/brain", "phantoms/cardiac"),
        "gvsl_pretrain": ("preparation/", "phantoms/chest", "networks/downstream"),
    }
    for name, starts in foreign.items():
        assert not [member for member in code[name] if member.startswith(starts)], name


def test_the_code_of_a_zip_is_formatted(dist: Path, tmp_path: Path) -> None:
    folder = unpacked(dist, "gvsl_pretrain", tmp_path) / "gvsl_pretrain" / "scripts"
    check = ["check", "--select", "E,F,I", "--per-file-ignores", "__init__.py:F401"]  # as in pyproject.toml
    for command in (check, ["format", "--check"]):
        options = ["--isolated", "--no-cache", "--line-length", "120"]
        subprocess.run([sys.executable, "-m", "ruff", *command, *options, str(folder)], check=True)


def test_python_in_the_documentation_finds_its_code(tmp_path: Path) -> None:
    bundle = copy_of("gvsl_seg_heart", tmp_path)
    with (bundle / "docs" / "README.md").open("a") as readme:
        readme.write("```python\nfrom custom.losses import (\n    SmoothnessLoss,\n)\n```\n")
    files = package_bundles.bundle_files(bundle)
    assert "scripts/losses/smoothness.py" in files and "scripts/losses/local_ncc.py" not in files
    assert b"from scripts.losses import (\n    SmoothnessLoss,\n)" in files["docs/README.md"]


def test_a_config_that_names_missing_code_is_not_packaged(tmp_path: Path) -> None:
    bundle = copy_of("gvsl_seg_heart", tmp_path)
    (bundle / "configs" / "wrong.json").write_text('{"loss": {"_target_": "custom.losses.Lost"}}')
    with pytest.raises(ValueError, match=r"losses has no 'Lost', expected a module or a name that its __init__\.py"):
        package_bundles.bundle_files(bundle)


LOAD = """
import importlib.util, sys, torch
from monai.bundle import download, download_large_files, load
name, url, *large = sys.argv[1:]
assert importlib.util.find_spec("custom") is None
download(name=name, url=url, bundle_dir=".", progress=False)
if large:
    download_large_files(name)
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


def test_large_files_are_downloaded_from_beside_the_zip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the zoo does it: large_files.yml has path, url, hash_val, hash_type; MONAI's command fills the bundle."""
    name, dist, user = "gvsl_seg_heart", tmp_path / "dist", tmp_path / "user"
    monkeypatch.setattr(package_bundles, "LARGEST", 1_000_000)
    with pytest.raises(ValueError, match=r"'models/backbone\.pt', 'models/model\.pt'\] are over 1 MB.* with --url"):
        package_bundles.package(str(dist), name)
    assert not list(dist.iterdir())
    user.mkdir()
    with served(dist) as address:
        (path,) = map(Path, package_bundles.package(str(dist), name, f"{address}/"))
        beside = [f"{path.stem}_models_{file}.pt" for file in ("backbone", "model")]
        assert sorted(file.name for file in dist.iterdir()) == sorted(["model_info.json", path.name, *beside])
        run_alone(["-c", LOAD, name, f"{address}/{path.name}", "large"], user)
    for file in ("backbone.pt", "model.pt"):
        assert (user / name / "models" / file).read_bytes() == (ROOT / "bundles" / name / "models" / file).read_bytes()
    (folder,) = verify_bundles.unpack_all(dist, tmp_path / "unpacked")
    assert folder.name == name and (folder / "models" / "model.pt").is_file()
    (dist / beside[1]).write_bytes(b"changed")
    with pytest.raises(ValueError, match=r"_models_model\.pt has SHA-256 .*, large_files\.yml of .* names"):
        verify_bundles.unpack_all(dist, tmp_path / "again")
    (dist / beside[1]).unlink()
    with pytest.raises(ValueError, match=r"_models_model\.pt does not exist, but large_files\.yml of .* names it"):
        verify_bundles.unpack_all(dist, tmp_path / "again")


def test_each_version_of_a_bundle_is_unpacked_by_itself(tmp_path: Path) -> None:
    info = {}
    for version in ("0.9.0", "0.10.0"):
        path = tmp_path / f"gvsl_v{version}.zip"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("gvsl/version.txt", version)
        info[path.stem] = {"sha256": sha256(path)}
    (tmp_path / "model_info.json").write_text(json.dumps(info))
    folders = verify_bundles.unpack_all(tmp_path, tmp_path / "unpacked")
    assert [(folder / "version.txt").read_text() for folder in folders] == ["0.9.0", "0.10.0"]


class TestVerify:
    """`python -m tools.verify_bundles`, whole on zips and check by check on a copy that is spoiled."""

    @named_versions
    @pytest.mark.parametrize("name", OF_EACH_KIND)
    def test_a_zip_passes(self, name: str, trained: Callable[[str], Path], shared_data: Path, tmp_path: Path) -> None:
        """On the phantoms that the zip made when it was trained."""
        package_bundles.package(str(tmp_path / "dist"), name)
        (made,) = (trained(name) / name / "data").iterdir()
        (tmp_path / name).symlink_to(made)
        schema = shared_data / "meta_schema_20240725.json"
        command = [sys.executable, "-m", "tools.verify_bundles", "--bundle_dir", tmp_path / "dist"]
        command += ["--schema", schema, "--data", tmp_path]
        done = subprocess.run(list(map(str, command)), cwd=ROOT, capture_output=True, encoding="utf-8")
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
        assert f"{name}: 7 checks of its files, 0 failures" in done.stdout
        assert f"{name}: 4 checks of its code, 0 failures" in done.stdout

    def test_a_zip_is_checked_without_this_repository(self, dist: Path, tmp_path: Path) -> None:
        """A zip whose code is missing fails: the code of the repository does not stand in for it."""
        bundle = unpacked(dist, "gvsl_seg_heart", tmp_path) / "gvsl_seg_heart"
        shutil.rmtree(bundle / "scripts" / "networks")
        command = [sys.executable, code_checks.__file__, str(bundle), "--schema", "none", "--data", "none"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8")
        assert done.returncode == 1
        assert "FAILED gvsl_seg_heart, network: " in done.stdout and "scripts.networks" in done.stdout

    def test_a_changed_zip_is_refused(self, dist: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
        folder = Path(shutil.copytree(dist, tmp_path / "dist"))
        content = bytearray(zip_of(folder, "gvsl_pretrain").read_bytes())
        content[5000] ^= 1
        zip_of(folder, "gvsl_pretrain").write_bytes(content)
        with pytest.raises(SystemExit, match=r"FAILED .*gvsl_pretrain_v.*\.zip has SHA-256 .*, model_info\.json names"):
            verify_bundles.verify(str(folder))

    @named_versions
    def test_nothing_of_a_zip_is_run_with_no_run(self, dist: Path, tmp_path: Path, monkeypatch, capfd) -> None:
        monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("code is run"))
        with pytest.raises(SystemExit) as left:
            verify_bundles.verify(str(dist), no_run=True)
        assert left.value.code is False
        printed = capfd.readouterr().out
        assert "The code of the bundles is not run: --no_run is set." in printed and "1 checks of its hashes" in printed

    def test_nothing_is_run_of_bundles_with_changed_weights(self, tmp_path: Path, monkeypatch, capfd) -> None:
        bundle = copy_of("gvsl_seg_heart", tmp_path)
        (bundle / "models" / "model.pt").write_bytes(b"other")
        monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("code is run"))
        with pytest.raises(SystemExit) as left:
            verify_bundles.verify(str(bundle))
        assert left.value.code is True
        assert "FAILED gvsl_seg_heart, hashes: model.pt has SHA-256" in capfd.readouterr().out

    @pytest.mark.parametrize(
        ("name", "content", "finding"),
        [
            ("model_info.json", b"{", "model_info.json is not valid JSON"),
            ("model_info.json", b"[1]", "model_info.json holds a JSON list"),
            ("model_info.json", b'{"a_v1": {}}', "a_v1#sha256 is missing"),
            ("model_info.json", b'{"a_v1": 1}', "a_v1#sha256 is missing"),
            ("a_v1.zip", b"no zip", "a_v1.zip is not a readable zip"),
        ],
    )
    def test_a_damaged_folder_of_zips_is_named(self, name: str, content: bytes, finding: str, tmp_path: Path) -> None:
        digest = hashlib.sha256(content).hexdigest()
        (tmp_path / "model_info.json").write_text(json.dumps({"a_v1": {"sha256": digest}}))
        (tmp_path / name).write_bytes(content)
        with pytest.raises(SystemExit, match=f"FAILED .*{finding}"):
            verify_bundles.verify(str(tmp_path))

    def test_malformed_json_of_a_bundle_is_named(self, tmp_path: Path, capfd) -> None:
        bundle = copy_of("gvsl_seg_heart", tmp_path)
        (bundle / "configs" / "train.json").write_text("{")
        (bundle / "models" / "model.json").write_text("[]")
        with pytest.raises(SystemExit) as left:
            verify_bundles.verify(str(bundle), no_run=True)
        printed = capfd.readouterr().out
        assert left.value.code is True
        assert "train.json is not valid JSON" in printed and "model.json holds a JSON list" in printed

    @pytest.mark.parametrize("member", ["gvsl/../../outside.txt", "/absolute.txt", "other/file.txt", "gvsl\\..\\x"])
    def test_members_outside_of_the_top_folder_are_refused(self, member: str, tmp_path: Path) -> None:
        path = tmp_path / "in" / "gvsl_v1.zip"
        path.parent.mkdir()
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("gvsl/LICENSE", "text")
            archive.writestr(zipfile.ZipInfo(member), "harm")
        target = tmp_path / "deep" / "target"
        target.mkdir(parents=True)
        digest = sha256(path)
        with pytest.raises(ValueError, match="expected members below gvsl/ alone"):
            verify_bundles.unpack(path, digest, target)
        assert sorted(file.name for file in tmp_path.rglob("*")) == ["deep", "gvsl_v1.zip", "in", "target"]

    @staticmethod
    def problems(check, bundle: Path, schema: str = "") -> list[str]:
        return list(check(bundle, str(ROOT)) if check in file_checks.CHECKS else check(bundle, schema, ""))

    def test_each_check_finds_what_it_is_for(self, tmp_path: Path) -> None:
        bundle = copy_of("gvsl_seg_heart", tmp_path)

        def edit(name: str, change) -> None:
            content = json.loads((bundle / "configs" / name).read_text())
            change(content)
            (bundle / "configs" / name).write_text(json.dumps(content))

        for check in file_checks.CHECKS:
            expected = OTHER_VERSIONS if check is file_checks.versions else []
            assert self.problems(check, bundle) == expected, check.__name__
        assert self.problems(code_checks.weights, bundle) == []
        (bundle / "docs" / "data_license.txt").unlink()
        assert self.problems(file_checks.files, bundle) == ["docs/data_license.txt is missing"]
        edit("metadata.json", lambda content: content["required_packages_version"].update(nibabel="1.0.0"))
        assert "nibabel 1.0.0 (" in self.problems(file_checks.versions, bundle)[0]
        edit("linear.json", lambda content: content.update({"train#trainer#max_epoch": 1}))
        assert self.problems(file_checks.overlays, bundle) == [
            "linear.json: train#trainer#max_epoch is not in train.json"
        ]
        edit("inference.json", lambda content: content["preprocessing"]["transforms"].reverse())
        edit("inference.json", lambda content: content.update(spacing=[1.0, 1.0, 1.0]))
        found = self.problems(file_checks.preprocessing, bundle)
        assert "spacing is [3.5, 3.5, 3.5] in train.json, [1.0, 1.0, 1.0]" in found[0]
        assert found[1].startswith("inference prepares by")
        edit("inference.json", lambda content: content["preprocessing"]["transforms"].reverse())
        edit("inference.json", lambda content: content["preprocessing"]["transforms"][2].update(axcodes="LPS"))
        found = self.problems(file_checks.preprocessing, bundle)
        assert found[1:] == ["axcodes of Orientationd is @orientation in validation, LPS in inference"]
        torch.save({"x": torch.zeros(1)}, bundle / "models" / "model.pt")
        assert "model.pt has SHA-256" in self.problems(code_checks.weights, bundle)[0]
        readme = bundle / "docs" / "README.md"
        text = readme.read_text()
        readme.write_text(text.replace("<!-- end of figures -->", "0.12345\n<!-- end of figures -->", 1))
        assert "quotes 0.12345, which is not in" in self.problems(file_checks.quoted_figures, bundle)[0]
        edit("metadata.json", lambda content: content["eval_metrics"].update(mean_dice=0.999))
        assert self.problems(file_checks.eval_metrics, bundle) == [
            "metadata.json: mean_dice is 0.999, which docs/README.md does not quote from a result file"
        ]
        edit("metadata.json", lambda content: content.pop("eval_metrics"))
        assert self.problems(file_checks.eval_metrics, bundle) == ["metadata.json names no eval_metrics"]
        readme.write_text("nothing")
        assert self.problems(file_checks.quoted_figures, bundle) == [
            "docs/README.md quotes no figures from a result file"
        ]

    def test_a_network_with_other_weights_is_found(self) -> None:
        """What the zoo's check_workflow does not see: it says OK for any network that runs."""
        bundle = ROOT / "bundles" / "gvsl_seg_heart"
        network, _ = weighted_network(bundle / "models")
        assert code_checks.changed(network, bundle) == []
        with torch.no_grad():
            network.head.bias += 1
        assert code_checks.changed(network, bundle) == ["head.bias"]
        assert "head.weight" in code_checks.changed(network.backbone, bundle)

    def test_code_that_black_would_change_is_found(self, tmp_path: Path) -> None:
        pytest.importorskip("black", reason="the extra `zoo` of setup.cfg is not installed")
        (tmp_path / "scripts").mkdir()
        (tmp_path / "scripts" / "module.py").write_text("x = [1,2]\n")
        (found,) = file_checks.formatted(tmp_path, "")
        assert found.startswith("would reformat")

    def test_metadata_without_a_key_the_schema_wants(self, tmp_path: Path, shared_data: Path) -> None:
        bundle = copy_of("gvsl_seg_heart", tmp_path)
        schema = str(shared_data / "meta_schema_20240725.json")
        assert self.problems(code_checks.metadata, bundle, schema) == []
        content = json.loads((bundle / "configs" / "metadata.json").read_text())
        del content["copyright"]
        (bundle / "configs" / "metadata.json").write_text(json.dumps(content))
        with pytest.raises(Exception, match="'copyright' is a required property"):
            self.problems(code_checks.metadata, bundle, schema)
