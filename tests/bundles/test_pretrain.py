# SPDX-License-Identifier: Apache-2.0
"""Every config of gvsl_pretrain runs, and keeps its promises, on tiny volumes."""

from __future__ import annotations

import json
import shutil
import signal
from functools import partial
from pathlib import Path

import nibabel
import numpy as np
import pytest
import runs
import torch
from monai.bundle import ckpt_export, verify_metadata, verify_net_in_out
from runs import ROOT, rows, wait_for_lines

from custom.files import read_json
from custom.weights import network_from

BUNDLE = ROOT / "bundles" / "gvsl_pretrain"
CONFIGS = BUNDLE / "configs"
workflow = partial(runs.workflow, BUNDLE)
command = partial(runs.command, BUNDLE)


@pytest.fixture(scope="module")
def trained(tiny_overrides: dict, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of a finished tiny run that all tests share: they leave it as it is."""
    output = tmp_path_factory.mktemp("trained")
    workflow(["train.json"], "train", tiny_overrides | {"output_dir": str(output)}).run()
    return output


def test_properties_are_complete(trained: Path, overrides: dict) -> None:
    train = workflow(["train.json"], "train", overrides)
    assert train.check_properties() == []
    for name in train.properties:
        if name not in ("spatial_shape", "channel_def"):
            getattr(train, name)
    fitting = overrides | {"model_dir": str(trained)}
    assert workflow(["train.json", "evaluate.json"], "train", fitting).check_properties() == []
    chosen = {key: overrides[key] for key in ("bundle_root", "dataset_dir", "output_dir", "patch_size")}
    assert workflow(["inference.json"], "infer", chosen).check_properties() == []


def test_run_writes_everything(trained: Path) -> None:
    training, validation = rows(trained / "training.csv"), rows(trained / "validation.csv")
    assert [row["iteration"] for row in training] == ["1", "2", "3", "4"]
    assert list(training[0]) == [
        "iteration",
        "loss",
        "registration",
        "smoothness",
        "affine_registration",
        "contrast",
        "restoration",
    ]
    assert [row["iteration"] for row in validation] == ["2", "4"]
    measured = {"registration_before", "registration_affine", "registration_after", "dice_before", "dice_affine"}
    measured |= {"dice_after", "folded_share", "label_recovery", "effective_rank_local", "effective_rank_bottleneck"}
    assert measured <= set(validation[0])
    for name in ("figures/losses.png", "figures/registration_0.png", "figures/registration_1.png"):
        assert (trained / name).read_bytes().startswith(b"\x89PNG")
    for part in ("training", "validation"):
        assert list((trained / "tensorboard" / part).glob("events*")), part
    kept = ["checkpoint_2.pt", "checkpoint_4.pt", "settings.json", "training_volumes.json"]
    assert sorted(path.name for path in (trained / "checkpoints").iterdir()) == kept


def test_model_json_says_what_the_weights_are(trained: Path, tiny_dataset: Path) -> None:
    description = read_json(trained / "model.json")
    assert description["network"] == {"_target_": "custom.networks.UNet3D", "in_channels": 1, "channels": [8, 16]}
    assert description["intensity"]["a_min"] == -1024
    assert description["preprocessing"] == {
        "spacing": [1.0, 1.0, 1.0],
        "orientation": "RAS",
        "patch_size": [16, 16, 16],
    }
    heads = description["pretext"]["matching_head"]
    assert heads["affine_head"]["stride"] == 2 and heads["deformable_head"]["in_channels"] == 8
    assert description["pretext_task"] == "gvsl" and description["iterations"] == 4 and description["seed"] == 0
    assert description["data"]["volumes"] == 4 and description["trained_on"] == "files"
    assert description["config"]["max_epochs"] == 2
    assert description["versions"]["torch"] == torch.__version__
    assert description["metrics"]["dice_before"] == pytest.approx(
        float(rows(trained / "validation.csv")[-1]["dice_before"])
    )
    backbone = torch.load(trained / "model.pt", weights_only=True)
    assert list(backbone) == description["files"]["model.pt"]["keys"]
    network = network_from(description)
    network.load_state_dict(backbone)


def test_same_seed_same_tables_with_and_without_workers(trained: Path, overrides: dict, tmp_path: Path) -> None:
    other = tmp_path / "other"
    workflow(["train.json"], "train", overrides | {"output_dir": str(other), "num_workers": 2}).run()
    for name in ("training.csv", "validation.csv"):
        assert (trained / name).read_bytes() == (other / name).read_bytes()
    different = tmp_path / "different"
    workflow(["train.json"], "train", overrides | {"output_dir": str(different), "seed": 1}).run()
    assert (trained / "training.csv").read_bytes() != (different / "training.csv").read_bytes()


def test_a_second_run_sets_the_first_aside(trained: Path, overrides: dict) -> None:
    output = Path(shutil.copytree(trained, overrides["output_dir"]))
    workflow(["train.json"], "train", overrides | {"max_epochs": 1}).run()
    assert (output / "earlier" / "1" / "model.pt").read_bytes() == (trained / "model.pt").read_bytes()
    assert len(rows(output / "training.csv")) == 2


def test_kill_and_resume_gives_the_same_tables(trained: Path, overrides: dict, tmp_path: Path) -> None:
    output = tmp_path / "killed"
    overrides = overrides | {"output_dir": str(output), "resume": True}
    for signal_number, line_count in ((signal.SIGKILL, 3), (signal.SIGINT, 4)):
        process = runs.start(command(["train.json"], overrides))
        wait_for_lines(output / "training.csv", line_count, process)
        process.send_signal(signal_number)
        process.wait()
    workflow(["train.json"], "train", overrides).run()
    for name in ("training.csv", "validation.csv"):
        assert (output / name).read_bytes() == (trained / name).read_bytes()


def test_evaluate(trained: Path, overrides: dict, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The weights set spacing, channels and the size of the crops; the labels are those of the data."""
    output = tmp_path / "evaluation"
    data = {name: overrides[name] for name in ("dataset_dir", "validation_share", "validation_pairs")}
    with caplog.at_level("INFO"):
        workflow(
            ["train.json", "evaluate.json"], "train", data | {"model_dir": str(trained), "output_dir": str(output)}
        ).run()
    last = [record.message for record in caplog.records if record.name.startswith("custom.")][-1]
    assert last.startswith("evaluated 2 cases: loss ") and last.endswith(str(output))
    metrics = read_json(output / "metrics.json")
    assert next(iter(metrics)) == "weights" and metrics["weights"]["iterations"] == 4
    last = rows(trained / "validation.csv")[-1]
    for name in ("registration_after", "dice_after", "folded_share"):
        assert metrics[name] == pytest.approx(float(last[name]), abs=1e-6)
    pairs = rows(output / "pairs.csv")
    assert len(pairs) == 2 and all(pair["moving_subject"] != pair["fixed_subject"] for pair in pairs)
    mean = np.mean([float(pair["dice_after"]) for pair in pairs])
    assert mean == pytest.approx(metrics["dice_after"], abs=1e-5)


def test_evaluation_runs_the_shipped_network(overrides: dict) -> None:
    """As the zoo runs it: check_properties builds the trainer as well, whose handlers must not load other weights."""
    chosen = {name: value for name, value in overrides.items() if name not in ("spacing", "channels")}
    chosen |= {"figures": False, "model_dir": str(BUNDLE / "models")}
    built = workflow(["train.json", "evaluate.json"], "train", chosen)
    assert built.check_properties() == []
    built.run()
    network = built.parser.get_parsed_content("pretext_network").state_dict()
    files = [torch.load(BUNDLE / "models" / name, weights_only=True) for name in ("model.pt", "heads.pt")]
    state = {f"backbone.{name}": tensor for name, tensor in files[0].items()} | files[1]
    assert state.keys() == network.keys()
    assert [name for name, tensor in state.items() if not torch.equal(network[name].cpu(), tensor)] == []


def test_inference_writes_features_in_place(trained: Path, overrides: dict, tiny_dataset: Path, tmp_path: Path) -> None:
    output = tmp_path / "features"
    chosen = {key: overrides[key] for key in ("bundle_root", "dataset_dir")}
    built = workflow(["inference.json"], "infer", chosen | {"model_dir": str(trained), "output_dir": str(output)})
    built.run()
    for name, tensor in torch.load(trained / "model.pt", weights_only=True).items():
        assert torch.equal(built.network_def.state_dict()[name].cpu(), tensor)
    image = nibabel.load(tiny_dataset / "images" / "0.nii.gz")
    features = nibabel.load(output / "images" / "0_features.nii.gz")
    assert features.shape == (*image.shape, 8)
    assert np.allclose(features.affine, image.affine)
    assert np.isfinite(features.get_fdata()).all() and features.get_fdata().std() > 0


@pytest.mark.parametrize(("files", "kind"), [(["train.json", "evaluate.json"], "train"), (["inference.json"], "infer")])
def test_another_spacing_than_that_of_the_weights_is_refused_unless_accepted(
    trained: Path, overrides: dict, tmp_path: Path, caplog: pytest.LogCaptureFixture, files: list[str], kind: str
) -> None:
    output = tmp_path / "other_spacing"
    used = ("bundle_root", "dataset_dir", "channels", "patch_size") if kind == "infer" else overrides
    chosen = {name: overrides[name] for name in used}
    chosen |= {"model_dir": str(trained), "output_dir": str(output), "spacing": [1.2, 1.0, 1.0]}
    with pytest.raises((ValueError, RuntimeError)) as error:
        workflow(files, kind, chosen).run()
    found = error.value
    while found.__cause__ is not None:
        found = found.__cause__
    assert f"{trained} does not fit the config" in str(found)
    assert "spacing: the weights [1.0, 1.0, 1.0], the config [1.2, 1.0, 1.0]" in str(found)
    assert not output.exists()
    workflow(files, kind, chosen | {"accept_mismatch": ["spacing"]}).run()
    assert "is used although spacing: the weights [1.0, 1.0, 1.0], the config [1.2, 1.0, 1.0]" in caplog.text
    assert len(list(output.rglob("*_features.nii.gz" if kind == "infer" else "metrics.json"))) == (
        6 if kind == "infer" else 1
    )


def test_metadata_network_and_export(trained: Path, shared_data: Path, tmp_path: Path) -> None:
    verify_metadata(meta_file=str(CONFIGS / "metadata.json"), filepath=str(shared_data / "meta_schema_20240725.json"))
    verify_net_in_out(
        net_id="network_def",
        meta_file=str(CONFIGS / "metadata.json"),
        config_file=str(CONFIGS / "inference.json"),
        n=1,
        device="cpu",
    )
    ckpt_export(
        net_id="network_def",
        filepath=str(tmp_path / "model.ts"),
        ckpt_file=str(trained / "model.pt"),
        meta_file=str(CONFIGS / "metadata.json"),
        config_file=str(CONFIGS / "inference.json"),
        channels=[8, 16],
    )
    volume = torch.rand(1, 1, 17, 16, 19)
    scripted = torch.jit.load(tmp_path / "model.ts")
    network = network_from(read_json(trained / "model.json"))
    network.load_state_dict(torch.load(trained / "model.pt", weights_only=True))
    assert torch.allclose(scripted(volume), network(volume), atol=1e-5)


def test_metadata_names_the_installed_versions() -> None:
    metadata = json.loads((CONFIGS / "metadata.json").read_text())
    pins = dict(line.split("==") for line in (ROOT / "requirements.txt").read_text().split() if "==" in line)
    named = metadata["required_packages_version"] | {
        "monai": metadata["monai_version"],
        "torch": metadata["pytorch_version"],
        "numpy": metadata["numpy_version"],
    }
    assert {name: pins[name] for name in named} == named
    assert metadata["version"] in metadata["changelog"]


def test_two_processes_train_like_one_with_the_doubled_batch(overrides: dict, tmp_path: Path) -> None:
    outputs = {}
    for name, processes, batch_size in (("one", 1, 2), ("two", 2, 1)):
        outputs[name] = tmp_path / name
        chosen = overrides | {"output_dir": str(outputs[name]), "batch_size": batch_size}
        if processes == 1:
            workflow(["train.json"], "train", chosen).run()
        else:
            runs.run(command(["train.json", "multi_gpu_train.json"], chosen, processes))
    one, two = (rows(outputs[name] / "training.csv") for name in ("one", "two"))
    assert len(one) == len(two) == 4
    for first, second in zip(one, two, strict=True):
        assert float(first["loss"]) == pytest.approx(float(second["loss"]), rel=1e-3)
    states = [torch.load(outputs[name] / "model.pt", weights_only=True) for name in ("one", "two")]
    for name, tensor in states[0].items():
        assert torch.allclose(tensor, states[1][name], atol=2e-4), name


def test_same_places_from_inside_the_bundle(overrides: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = tmp_path / "repository"
    shutil.copytree(BUNDLE, copy / "bundles" / "gvsl_pretrain", ignore=shutil.ignore_patterns("output*", "data"))
    chosen = {key: value for key, value in overrides.items() if key not in ("bundle_root", "output_dir")}
    inside = copy / "bundles" / "gvsl_pretrain"
    for folder in (copy, inside):
        monkeypatch.chdir(folder)
        runs.workflow(inside.relative_to(folder), ["train.json"], "train", chosen).run()
    output = copy / "bundles" / "gvsl_pretrain" / "output"
    assert (output / "model.pt").is_file() and (output / "earlier" / "1" / "model.pt").is_file()
    assert sorted(path.name for path in copy.iterdir()) == ["bundles"]


def test_pre_training_on_heads_changes_the_data_alone(overrides: dict) -> None:
    """brain.json: phantoms of another seed than gvsl_seg_brain's, with its structures, grid and intensities."""
    overlay, base = (json.loads((CONFIGS / name).read_text()) for name in ("brain.json", "train.json"))
    assert overlay.keys() <= base.keys()
    downstream = json.loads((ROOT / "bundles" / "gvsl_seg_brain" / "configs" / "train.json").read_text())
    assert overlay["labels"] == list(downstream["labels"]["default"].values())
    assert all(overlay[key] == downstream[key] for key in ("spacing", "patch_size", "intensity"))
    assert overlay["cohort"]["seed"] != downstream["cohort"]["seed"]
    parser = workflow(["train.json", "brain.json"], "train", {"output_dir": overrides["output_dir"]}).parser
    assert type(parser.get_parsed_content("cohort")).__name__ == "BrainPhantomCohort"


def test_paper_config_builds(overrides: dict) -> None:
    chosen = {key: overrides[key] for key in ("bundle_root", "dataset_dir", "output_dir", "num_workers")}
    parser = workflow(["train.json", "paper.json"], "train", chosen).parser
    network = parser.get_parsed_content("network")
    assert sum(parameter.numel() for parameter in network.parameters()) == 32_440_739  # the authors' model
    assert parser.get_parsed_content("max_epochs") * parser.get_parsed_content("iterations_per_epoch") == 200_000
    assert parser.get_parsed_content("loss").smooth_field == "displacement"
    schedule = parser.get_parsed_content("lr_scheduler")
    parser.get_parsed_content("optimizer").step()
    schedule.step()
    assert schedule.get_last_lr() == [1e-4]


def test_shipped_weights_register(caplog: pytest.LogCaptureFixture) -> None:
    """Their model.json says which heads they have."""
    chosen = {"bundle_root": str(BUNDLE), "model_dir": str(BUNDLE / "models"), "device": "cpu"}
    network = workflow(["register.json"], "infer", chosen).parser.get_parsed_content("network")
    heads = torch.load(BUNDLE / "models" / "heads.pt", weights_only=True)
    assert all(torch.equal(network.state_dict()[name], tensor) for name, tensor in heads.items())
    assert sum(path.stat().st_size for path in (BUNDLE / "models").iterdir()) < 25e6
