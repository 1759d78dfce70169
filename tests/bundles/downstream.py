# SPDX-License-Identifier: Apache-2.0
"""What every downstream bundle promises, as tests that a bundle's own test class inherits."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import ConfigParser, ckpt_export, verify_metadata, verify_net_in_out
from runs import ROOT, chain, command, interrupt, rows, run, workflow

from custom.files import read_json
from custom.networks import UNet3D
from custom.weights import network_from, read_weights, save_weights

PRETRAIN = ROOT / "bundles" / "gvsl_pretrain"
OVERLAYS = ("linear.json", "scratch.json", "paper.json", "multi_gpu_train.json", "evaluate.json")
TINY_NETWORK = {"_target_": "custom.networks.UNet3D", "in_channels": 1, "channels": [8, 16]}


def read_config(bundle: Path, name: str) -> dict[str, Any]:
    return json.loads((bundle / "configs" / name).read_text())


class BundleTests:
    """What sets a bundle apart from the others: its configs, data, weights and files.

    Inherit, set the attributes, and give fixtures where the defaults do not fit.

    Attributes:
        bundle: its folder. own: overrides of train.json that fit it to `dataset`.
        shipped: overrides of train.json with which its own labels and network fit `dataset`.
        pretrained: the weights of gvsl_pretrain whose copy is the shipped backbone.
        metric: the column of validation.csv by which the best network is kept.
        reports: files of an evaluation. own_words: keys of "validate" that pre-training has not.
    """

    bundle: Path
    own: dict[str, Any]
    shipped: dict[str, Any] = {}
    pretrained: Path = PRETRAIN / "models"
    metric: str
    reports: tuple[str, ...]
    own_words: frozenset[str] = frozenset()

    @pytest.fixture(scope="class")
    def dataset(self, tiny_dataset: Path) -> Path:
        """The folder of six labelled volumes that the tests run on."""
        return tiny_dataset

    @pytest.fixture(scope="class")
    def weights(self, tmp_path_factory: pytest.TempPathFactory) -> Path:
        """Pre-trained weights of a tiny backbone that fit the overrides."""
        torch.manual_seed(7)
        description = {
            "pretext_task": "gvsl",
            "iterations": 3,
            "network": TINY_NETWORK,
            "intensity": self.own.get("intensity", read_config(self.bundle, "train.json")["intensity"]),
            "preprocessing": {"spacing": [1.0, 1.0, 1.0], "orientation": "RAS"},
        }
        state = UNet3D(1, TINY_NETWORK["channels"]).state_dict()
        folder = tmp_path_factory.mktemp("weights")
        save_weights(folder, {"model.pt": ("backbone", state)}, description)
        return folder

    @pytest.fixture(scope="class")
    def tiny(self, dataset: Path, weights: Path) -> dict[str, Any]:
        """Overrides of train.json: two levels, 16^3, two epochs of two iterations, three volumes for training."""
        return {
            "bundle_root": str(self.bundle),
            "dataset_dir": str(dataset),
            "pretrained_weights": str(weights),
            "spacing": [1.0, 1.0, 1.0],
            "patch_size": [16, 16, 16],
            "channels": TINY_NETWORK["channels"],
            "validation_share": 1,
            "test_share": 2,
            "max_epochs": 2,
            "iterations_per_epoch": 2,
            "val_interval": 1,
            "num_workers": 0,
            **self.own,
        }

    @pytest.fixture
    def overrides(self, tiny: dict[str, Any], tmp_path: Path) -> dict[str, Any]:
        """`tiny` with a folder of the test's own for the output."""
        return tiny | {"output_dir": str(tmp_path / "output")}

    @pytest.fixture(scope="class")
    def trained(self, tiny: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
        """The output folder of a finished tiny run that all tests of the class share: they leave it as it is."""
        return self.train(tiny | {"output_dir": str(tmp_path_factory.mktemp("trained"))})

    def train(self, overrides: dict, *overlays: str) -> Path:
        workflow(self.bundle, ["train.json", *overlays], "train", overrides).run()
        return Path(overrides["output_dir"])

    def evaluate(self, overrides: dict, model_dir: Path, output: Path) -> None:
        chosen = overrides | {"model_dir": str(model_dir), "output_dir": str(output)}
        workflow(self.bundle, ["train.json", "evaluate.json"], "train", chosen).run()

    def data_alone(self, overrides: dict) -> dict[str, Any]:
        """The overrides without what describes the weights."""
        described = ("labels", "channels", "spacing", "patch_size", "intensity", "accept_mismatch")
        return {name: value for name, value in overrides.items() if name not in described}

    def inference_overrides(self, overrides: dict, model_dir: Path, output: Path) -> dict[str, Any]:
        known = read_config(self.bundle, "inference.json")
        chosen = {name: value for name, value in overrides.items() if name.split("#")[0] in known}
        return chosen | {"model_dir": str(model_dir), "output_dir": str(output)}

    # ------------------------------------------------------------------------------------------------ configs

    def test_properties_are_complete(self, trained: Path, overrides: dict, tmp_path: Path) -> None:
        overrides = overrides | {"output_dir": str(tmp_path / "unused")}
        train = workflow(self.bundle, ["train.json"], "train", overrides)
        assert train.check_properties() == []
        for name in train.properties:
            if name not in ("spatial_shape", "channel_def"):
                getattr(train, name)
        chosen = overrides | {"model_dir": str(trained)}
        assert workflow(self.bundle, ["train.json", "evaluate.json"], "train", chosen).check_properties() == []
        chosen = self.inference_overrides(overrides, trained, tmp_path / "unused")
        assert workflow(self.bundle, ["inference.json"], "infer", chosen).check_properties() == []
        assert not list((tmp_path / "unused").glob("*.*"))  # TensorBoard's folder at most

    @pytest.mark.parametrize("name", OVERLAYS)
    def test_overlays_are_short_and_change_what_is_there(self, name: str) -> None:
        overlay, base = read_config(self.bundle, name), read_config(self.bundle, "train.json")
        assert len((self.bundle / "configs" / name).read_text().splitlines()) < 25
        new = {
            "evaluate.json": {"model_dir", "invert", "gray_scale"},
            "multi_gpu_train.json": {"backend", "finalize"},
        }.get(name, set())
        for key, value in overlay.items():
            place: Any = base
            key = key.lstrip("+")  # MONAI adds the entries of "+KEY" to those of KEY
            for part in key.split("#"):
                assert key in new or part in place, key
                place = place.get(part)
            assert key in new or place != value, f"{key} repeats the base"

    def test_words_and_their_order_are_those_of_pre_training(self) -> None:
        """Keys that both have come in the same order; what differs is named here, so that a new word is a decision."""
        ours, theirs = (read_config(bundle, "train.json") for bundle in (self.bundle, PRETRAIN))
        for part in (None, "train", "validate"):
            first, second = (config if part is None else config[part] for config in (ours, theirs))
            common = [key for key in first if key in second]
            assert common == [key for key in second if key in first]
        assert {"pair_transform", "spatial_transform"} == theirs["train"].keys() - ours["train"].keys()
        assert {"random_transform"} == ours["train"].keys() - theirs["train"].keys()
        assert ours["validate"].keys() - theirs["validate"].keys() == {"key_metric", "postprocessing"} | self.own_words
        handlers = [[entry.get("_target_") for entry in config["train"]["handlers"] if isinstance(entry, dict)]
                    for config in (ours, theirs)]  # fmt: skip
        common = [name for name in handlers[0] if name in handlers[1]]
        assert common == [name for name in handlers[1] if name in handlers[0]] and len(common) == 9
        assert read_config(self.bundle, "multi_gpu_train.json").keys() == (
            read_config(PRETRAIN, "multi_gpu_train.json").keys()
        )

    def test_paper_config_is_the_published_protocol(self, overrides: dict) -> None:
        dropped = ("channels", "spacing", "patch_size", "max_epochs", "iterations_per_epoch", "val_interval")
        chosen = {name: value for name, value in overrides.items() if name not in dropped}
        parser = workflow(
            self.bundle, ["train.json", "paper.json"], "train", chosen | {"pretrained_weights": None}
        ).parser
        read = parser.get_parsed_content
        assert sum(parameter.numel() for parameter in read("backbone").parameters()) == 23_538_144
        assert read("max_epochs") * read("iterations_per_epoch") == 40_000
        assert read("val_interval") * read("iterations_per_epoch") == 200 and read("batch_size") == 1
        assert read("spacing") == [1.0, 1.0, 1.0]
        assert isinstance(read("optimizer"), torch.optim.Adam)
        schedule = read("lr_scheduler")
        read("optimizer").step()
        schedule.step()
        assert set(schedule.get_last_lr()) == {1e-4}
        self.check_paper(read)

    def check_paper(self, read: Any) -> None:
        """What else the paper's protocol fixes for this task."""

    # ----------------------------------------------------------------------------------------------- training

    def test_run_writes_everything(self, trained: Path) -> None:
        training, validation = rows(trained / "training.csv"), rows(trained / "validation.csv")
        assert [row["iteration"] for row in training] == ["1", "2", "3", "4"] and list(training[0])[1] == "loss"
        assert [row["iteration"] for row in validation] == ["2", "4"] and self.metric in validation[0]
        assert (trained / "figures/losses.png").read_bytes().startswith(b"\x89PNG")
        for part in ("training", "validation"):
            assert list((trained / "tensorboard" / part).glob("events*")), part
        checkpoints = sorted(path.name for path in (trained / "checkpoints").iterdir())
        assert checkpoints == ["checkpoint_2.pt", "checkpoint_4.pt", "settings.json", "training_volumes.json"]

    def test_model_json_says_what_the_weights_are(self, trained: Path, weights: Path, overrides: dict) -> None:
        description = read_json(trained / "model.json")
        assert description["network"]["backbone"] == TINY_NETWORK and description["network"]["frozen"] is False
        spacing = {"spacing": [1.0, 1.0, 1.0], "orientation": "RAS", "patch_size": [16, 16, 16]}
        assert description["preprocessing"] == spacing
        assert description["labels"] == overrides["labels"] and description["data"]["volumes"] == 3
        assert description["started_from"]["sha256"] == read_json(weights / "model.json")["files"]["model.pt"]["sha256"]
        scores = {int(row["iteration"]): float(row[self.metric]) for row in rows(trained / "validation.csv")}
        best = description["best"]
        assert best["metric"] == self.metric and best["iteration"] == description["iterations"]
        assert best["value"] == pytest.approx(max(scores.values())) == pytest.approx(scores[best["iteration"]])
        state = torch.load(trained / "model.pt", weights_only=True)
        network = network_from(description)
        network.load_state_dict(state)

    def test_linear_evaluation_leaves_the_backbone_bit_identical(self, weights: Path, overrides: dict) -> None:
        output = self.train(overrides, "linear.json")
        checkpoint = torch.load(output / "checkpoints" / "checkpoint_4.pt", weights_only=True)["network"]
        exported = torch.load(output / "model.pt", weights_only=True)
        start_state = read_weights(weights)[0]
        for state in (checkpoint, exported):
            for name, tensor in start_state.items():
                assert torch.equal(state[f"backbone.{name}"], tensor), name
        head = [name for name in checkpoint if not name.startswith("backbone.")]
        assert head == ["head.weight", "head.bias"]
        losses = [row["loss"] for row in rows(output / "training.csv")]
        assert len(set(losses)) > 1 and read_json(output / "model.json")["network"]["frozen"] is True

    def test_fine_tuning_starts_at_the_weights_and_scratch_does_not(
        self, trained: Path, weights: Path, overrides: dict, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        start_state = read_weights(weights)[0]
        with caplog.at_level(logging.INFO):
            built = workflow(self.bundle, ["train.json"], "train", overrides | {"pretrained_parts": []})
            built.parser.get_parsed_content("train#trainer")
        assert f"loaded {len(start_state)} tensors of gvsl, 3 iterations, from {weights}" in caplog.text
        assert "2 tensors of the network keep their initial values: head.weight, head.bias" in caplog.text
        for name, tensor in built.network_def.backbone.state_dict().items():
            assert torch.equal(tensor, start_state[name]), name
        name = next(iter(start_state))
        assert not torch.equal(
            torch.load(trained / "model.pt", weights_only=True)[f"backbone.{name}"], start_state[name]
        )
        chosen = {name: value for name, value in overrides.items() if name != "pretrained_weights"}
        scratch = self.train(chosen | {"output_dir": str(tmp_path / "scratch"), "max_epochs": 1}, "scratch.json")
        assert read_json(scratch / "model.json")["started_from"] is None

    def test_a_part_of_the_weights_may_be_taken(self, weights: Path, overrides: dict) -> None:
        state = read_weights(weights)[0]
        built = workflow(self.bundle, ["train.json"], "train", overrides | {"pretrained_parts": ["encoder"]})
        built.parser.get_parsed_content("train#trainer")
        taken = {
            name for name, tensor in built.network_def.backbone.state_dict().items() if torch.equal(tensor, state[name])
        }
        assert {name for name in state if name.startswith("encoder.")} <= taken
        assert not any(name.startswith("decoder.") and name.endswith("0.weight") for name in taken)

    @pytest.mark.parametrize("name", ["channels", "spacing", "intensity"])
    def test_weights_that_do_not_fit_are_refused_with_both_sides(self, name: str, overrides: dict) -> None:
        intensity = {"_target_": "NormalizeIntensityd", "keys": "image"}
        value = {"channels": [8, 24], "spacing": [2.0, 1.0, 1.0], "intensity": intensity}[name]
        with pytest.raises((RuntimeError, ValueError)) as error:
            self.train(overrides | {name: value})
        line = next(line for line in chain(error.value).splitlines() if ": the weights" in line)
        assert {"channels": "network", "spacing": "spacing", "intensity": "intensity"}[name] in line
        assert ", the config " in line and not (Path(overrides["output_dir"]) / "training.csv").exists()

    def test_the_weights_configure_fine_tuning(self, weights: Path, overrides: dict) -> None:
        built = workflow(
            self.bundle, ["train.json"], "train", self.data_alone(overrides) | {"labels": {"a": 1, "b": 2}}
        )
        read, description = built.parser.get_parsed_content, read_json(weights / "model.json")
        assert read("channels") == [8, 16] and read("spacing") == [1.0, 1.0, 1.0]
        assert built.parser["intensity"] == description["intensity"]
        assert built.parser["patch_size"] == read_config(self.bundle, "train.json")["patch_size"]  # that of the run
        state, part = read_weights(weights)[0], (read("pretrained_parts") or [""])[0]
        taken = read("loaded_network").backbone.state_dict()
        assert all(torch.equal(taken[name], tensor) for name, tensor in state.items() if name.startswith(part))

    def test_the_weights_configure_evaluation_and_inference(
        self, trained: Path, overrides: dict, tmp_path: Path
    ) -> None:
        chosen = self.data_alone(overrides) | {"model_dir": str(trained), "output_dir": str(tmp_path / "unused")}
        runs = (
            (["train.json", "evaluate.json"], "train", chosen, "loaded_network"),
            (["inference.json"], "infer", self.inference_overrides(chosen, trained, tmp_path / "unused"), "network"),
        )
        expected = torch.load(trained / "model.pt", weights_only=True)
        for files, kind, named, network in runs:
            read = workflow(self.bundle, files, kind, named).parser.get_parsed_content
            assert list(read("labels").items()) == list(overrides["labels"].items())
            assert read("patch_size") == [16, 16, 16] and read("spacing") == [1.0, 1.0, 1.0]
            state = read(network).state_dict()
            assert all(torch.equal(state[name].cpu(), tensor) for name, tensor in expected.items())
            contradicting = workflow(self.bundle, files, kind, named | {"spacing": [2.0, 1.0, 1.0]})
            with pytest.raises((RuntimeError, ValueError)) as error:
                contradicting.parser.get_parsed_content(network)
            sides = "spacing: the weights [1.0, 1.0, 1.0], the config [2.0, 1.0, 1.0]"
            assert sides in chain(error.value)

    def test_evaluation_and_inference_use_the_last_run_if_there_is_one(
        self, trained: Path, overrides: dict, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        root = tmp_path / self.bundle.name
        shutil.copytree(self.bundle / "models", root / "models")
        chosen = self.data_alone(overrides) | {"bundle_root": str(root), "output_dir": str(tmp_path / "unused")}
        inference = {name: chosen[name] for name in ("bundle_root", "dataset_dir", "output_dir")}
        for source, folder in ((root / "models", "models"), (trained, "output")):
            if folder == "output":
                shutil.copytree(trained, root / "output")
            iterations = read_json(source / "model.json")["iterations"]
            for files, kind, named in (
                (["train.json", "evaluate.json"], "train", chosen),
                (["inference.json"], "infer", inference),
            ):
                caplog.clear()
                with caplog.at_level(logging.INFO):
                    built = workflow(self.bundle, files, kind, named)
                assert built.parser.get_parsed_content("model_dir") == str(root / folder)
                first = next(message for message in caplog.messages if message.startswith("weights: "))
                assert str(root / folder / "model.pt") in first and f"{iterations} iterations on" in first

    # ------------------------------------------------------------------------------------------ what is shipped

    def test_the_shipped_backbone_is_that_of_pre_training(self) -> None:
        state, description = read_weights(self.bundle / "models" / "backbone.pt")
        source = read_json(self.pretrained / "model.json")
        assert (self.bundle / "models" / "backbone.pt").read_bytes() == (self.pretrained / "model.pt").read_bytes()
        assert description == source | {"files": {"backbone.pt": source["files"]["model.pt"]}}
        parser = ConfigParser(read_config(self.bundle, "train.json"))
        parser.get_parsed_content("backbone").load_state_dict(state)

    def test_the_shipped_weights_fit_the_shipped_configs(self) -> None:
        if not (self.bundle / "models" / "model.pt").exists():
            pytest.skip("models/model.pt is not there yet")
        state, description = read_weights(self.bundle / "models")
        parser = ConfigParser(read_config(self.bundle, "inference.json"))
        parser.get_parsed_content("network_def").load_state_dict(state)
        assert list(description["labels"].items()) == list(read_config(self.bundle, "inference.json")["labels"].items())
        assert (
            description["started_from"]["sha256"]
            == (read_json(self.bundle / "models" / "backbone.json")["files"]["backbone.pt"]["sha256"])
        )
        assert sum(path.stat().st_size for path in (self.bundle / "models").iterdir()) < 25e6

    def test_metadata_network_and_export(
        self, trained: Path, overrides: dict, shared_data: Path, tmp_path: Path
    ) -> None:
        meta, config = (str(self.bundle / "configs" / name) for name in ("metadata.json", "inference.json"))
        verify_metadata(meta_file=meta, filepath=str(shared_data / "meta_schema_20240725.json"))
        verify_net_in_out(net_id="network_def", meta_file=meta, config_file=config, n=1, device="cpu")
        chosen = {name: overrides[name] for name in ("channels", "labels")}
        ckpt_export(
            net_id="network_def",
            filepath=str(tmp_path / "model.ts"),
            ckpt_file=str(trained / "model.pt"),
            meta_file=meta,
            config_file=config,
            **chosen,
        )
        network = network_from(read_json(trained / "model.json"))
        network.load_state_dict(torch.load(trained / "model.pt", weights_only=True))
        volume = torch.rand(1, 1, 17, 16, 19)
        assert torch.allclose(torch.jit.load(tmp_path / "model.ts")(volume), network(volume), atol=1e-5)

    def test_metadata_names_the_installed_versions(self) -> None:
        metadata = read_config(self.bundle, "metadata.json")
        lines = (ROOT / "requirements.txt").read_text().split()
        pins = dict(line.split("==") for line in lines if "==" in line)
        named = metadata["required_packages_version"] | {
            "monai": metadata["monai_version"],
            "torch": metadata["pytorch_version"],
            "numpy": metadata["numpy_version"],
        }
        assert {name: pins[name] for name in named} == named
        assert metadata["version"] in metadata["changelog"]

    def test_what_the_zoo_wants_is_there(self) -> None:
        for name in ("LICENSE", "configs/logging.conf", "docs/README.md", "docs/data_license.txt"):
            assert (self.bundle / name).is_file(), name
        assert not list(self.bundle.rglob("*.py"))

    def test_evaluation_runs_the_shipped_network(self, dataset: Path, tmp_path: Path) -> None:
        """As the zoo runs it: check_properties builds the trainer, too, whose handlers must not load other weights."""
        chosen = {"bundle_root": str(self.bundle), "dataset_dir": str(dataset), "output_dir": str(tmp_path / "output")}
        chosen |= {"model_dir": str(self.bundle / "models")}
        chosen |= {"num_workers": 0, "validation_share": 1, "test_share": 2, "figures": False, **self.shipped}
        built = workflow(self.bundle, ["train.json", "evaluate.json"], "train", chosen)
        assert built.check_properties() == []
        built.run()
        state, network = read_weights(self.bundle / "models")[0], built.network_def.state_dict()
        assert state.keys() == network.keys()
        assert [name for name, tensor in state.items() if not torch.equal(network[name].cpu(), tensor)] == []

    def test_labels_in_another_order_are_refused(self, trained: Path, overrides: dict, tmp_path: Path) -> None:
        turned = dict(reversed(overrides["labels"].items()))
        with pytest.raises((RuntimeError, ValueError)) as error:
            self.evaluate(overrides | {"labels": turned}, trained, tmp_path / "evaluation")
        assert "labels: the weights [[" in chain(error.value) and ", the config [[" in chain(error.value)

    def test_evaluation_writes_its_reports(
        self, trained: Path, overrides: dict, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.INFO):
            self.evaluate(self.data_alone(overrides), trained, tmp_path / "evaluation")
        assert sorted(path.name for path in (tmp_path / "evaluation").iterdir()) == sorted(self.reports)
        metrics = read_json(tmp_path / "evaluation" / "metrics.json")
        assert next(iter(metrics)) == "weights" and metrics["weights"]["folder"] == str(trained)
        last = [record.message for record in caplog.records if record.name.startswith("custom.")][-1]
        assert last.startswith("evaluated 2 cases: ") and last.endswith(str(tmp_path / "evaluation"))
        cases = rows(tmp_path / "evaluation" / "cases.csv")
        data = workflow(self.bundle, ["train.json"], "train", overrides).parser.get_parsed_content("data")
        assert sorted(row["subject"] for row in cases) == sorted(item["subject"] for item in data["test"])
        assert "training volumes" not in metrics.get("notice", "")

    def test_an_evaluation_on_training_volumes_says_so(self, trained: Path, overrides: dict, tmp_path: Path) -> None:
        """As where the split is drawn anew, because test_share or the list of volumes is another one."""
        data = workflow(self.bundle, ["train.json"], "train", overrides).parser.get_parsed_content("data")
        parts = {"training": [], "validation": [], "test": data["test"] + data["training"]}
        chosen = self.data_alone(overrides) | {"data": parts, "figures": False}
        self.evaluate(chosen, trained, tmp_path / "evaluation")
        seen, all_volumes = len(data["training"]), len(parts["test"])
        notice = read_json(tmp_path / "evaluation" / "metrics.json")["notice"]
        assert f"{seen} of {all_volumes} evaluated volumes are training volumes of these weights" in notice


class DownstreamTests(BundleTests):
    """And what all of them owe to the same code: repeating, resuming, several processes, other data."""

    def test_same_seed_same_tables_with_and_without_workers(
        self, trained: Path, overrides: dict, tmp_path: Path
    ) -> None:
        other = self.train(overrides | {"output_dir": str(tmp_path / "other"), "num_workers": 2})
        for name in ("training.csv", "validation.csv"):
            assert (trained / name).read_bytes() == (other / name).read_bytes()
        different = self.train(overrides | {"output_dir": str(tmp_path / "different"), "seed": 1})
        assert (trained / "training.csv").read_bytes() != (different / "training.csv").read_bytes()

    def test_a_second_run_sets_the_first_aside(self, overrides: dict) -> None:
        overrides = overrides | {"max_epochs": 1}
        output = self.train(overrides)
        first = (output / "model.pt").read_bytes()
        self.train(overrides | {"seed": 1})
        assert (output / "earlier" / "1" / "model.pt").read_bytes() == first != (output / "model.pt").read_bytes()
        assert len(rows(output / "training.csv")) == 2

    def test_interrupted_and_resumed_gives_the_same_tables(self, trained: Path, overrides: dict) -> None:
        output, overrides = Path(overrides["output_dir"]), overrides | {"resume": True}
        for iterations in (3, 1):  # in the second epoch, and at once after resuming there
            interrupt(self.bundle, overrides, iterations)
            assert len(rows(output / "training.csv")) == 3 and len(rows(output / "validation.csv")) == 1
        self.train(overrides)
        for name in ("training.csv", "validation.csv"):
            assert (output / name).read_bytes() == (trained / name).read_bytes()
        assert read_json(output / "model.json")["best"] == read_json(trained / "model.json")["best"]
        states = [torch.load(folder / "model.pt", weights_only=True) for folder in (trained, output)]
        assert all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items())

    def test_two_processes_train_like_one_with_the_doubled_batch(self, overrides: dict, tmp_path: Path) -> None:
        overrides = overrides | {"validation_share": 2, "test_share": 1}  # each process validates on a volume
        outputs = {}
        for processes in (1, 2):
            outputs[processes] = tmp_path / str(processes)
            chosen = overrides | {"output_dir": str(outputs[processes]), "batch_size": 2 // processes}
            if processes == 1:
                self.train(chosen)
            else:
                run(command(self.bundle, ["train.json", "multi_gpu_train.json"], chosen, processes))
        one, two = (rows(outputs[processes] / "training.csv") for processes in (1, 2))
        assert len(one) == len(two) == 4
        for first, second in zip(one, two, strict=True):
            assert float(first["loss"]) == pytest.approx(float(second["loss"]), rel=1e-3)
        scores = [rows(outputs[processes] / "validation.csv")[-1][self.metric] for processes in (1, 2)]
        assert float(scores[0]) == pytest.approx(float(scores[1]), abs=5e-3)
        states = [torch.load(outputs[processes] / "model.pt", weights_only=True) for processes in (1, 2)]
        for name, tensor in states[0].items():
            assert torch.allclose(tensor, states[1][name], atol=2e-3), name

    def test_same_places_from_inside_the_bundle(
        self, overrides: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        copy = tmp_path / "repository"
        inside = copy / "bundles" / self.bundle.name
        shutil.copytree(self.bundle, inside, ignore=shutil.ignore_patterns("output*", "data", "release"))
        chosen = {name: value for name, value in overrides.items() if name not in ("bundle_root", "output_dir")}
        for folder in (copy, inside):
            monkeypatch.chdir(folder)
            workflow(inside.relative_to(folder), ["train.json"], "train", chosen | {"max_epochs": 1}).run()
        assert (inside / "output" / "model.pt").is_file() and (inside / "output" / "earlier" / "1").is_dir()
        assert sorted(path.name for path in copy.iterdir()) == ["bundles"]

    def test_other_data_may_be_given_to_training_and_validation(self, overrides: dict, dataset: Path) -> None:
        """As MONAI Label does: lists of items in place of the folder, without subjects."""
        parser = ConfigParser(read_config(self.bundle, "train.json"))
        parser.update(overrides)
        data = parser.get_parsed_content("data")
        lists = {
            part: [{key: item[key] for key in ("image", "label")} for item in items] for part, items in data.items()
        }
        given = {"train#dataset#data": lists["test"], "validate#dataset#data": lists["validation"]}
        output = self.train({**overrides, "dataset_dir": "/does/not/exist", **given, "max_epochs": 1})
        assert read_json(output / "model.json")["data"]["volumes"] == 2

    def test_volumes_without_label_are_all_named(self, overrides: dict, dataset: Path, tmp_path: Path) -> None:
        entries = [{"image": f"images/{path.name}"} for path in sorted((dataset / "images").iterdir())]
        copy = Path(shutil.copytree(dataset, tmp_path / "copy"))
        content = {"training": [entry | {"label": 1} if n > 1 else entry for n, entry in enumerate(entries)]}
        (copy / "dataset.json").write_text(json.dumps(content))
        with pytest.raises((RuntimeError, ValueError)) as error:
            self.train(overrides | {"dataset_dir": str(copy)})
        text = chain(error.value)
        assert "2 of 6 volumes have no label" in text
        assert all(entry["image"] in text for entry in entries[:2])
