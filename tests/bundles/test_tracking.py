# SPDX-License-Identifier: Apache-2.0
"""What a training leaves in MLflow and TensorBoard, as docs/runs.md says: `python -m pytest -m tracking`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from runs import ROOT
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

OVERRIDES = {
    "cohort#subjects": 4,
    "validation_pairs": 2,
    "max_epochs": 2,
    "iterations_per_epoch": 2,
    "val_interval": 1,
    "num_workers": 0,
    "patch_size": [32, 32, 32],
    "warmup_iterations": 1,
}


@pytest.mark.tracking
def test_a_training_is_in_the_store_and_in_the_event_files(tmp_path: Path) -> None:
    mlflow = pytest.importorskip("mlflow", reason="the extra `mlflow` of setup.cfg is not installed")
    output, data = tmp_path / "output", tmp_path / "data"
    places = {"output_dir": output, "dataset_dir": data, "cohort#root": data}
    command = [sys.executable, "-m", "monai.bundle", "run", "--tracking", "docs/tracking/mlflow.json"]
    command += ["--config_file", "bundles/gvsl_pretrain/configs/train.json"]
    command += [part for name, value in (OVERRIDES | places).items() for part in (f"--{name}", str(value))]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr[-3000:]

    client = mlflow.MlflowClient(f"sqlite:///{output}/mlruns.db")
    (run,) = client.search_runs(client.get_experiment_by_name("gvsl").experiment_id)
    assert run.info.status == "FINISHED" and run.data.params["max_epochs"] == "2"
    assert [point.step for point in client.get_metric_history(run.info.run_id, "train_loss")] == [1, 2, 3, 4]
    assert [point.step for point in client.get_metric_history(run.info.run_id, "loss")] == [1, 2]  # of the validation
    assert [point.step for point in client.get_metric_history(run.info.run_id, "dice_after")] == [1, 2]
    names = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert {"model.json", "training.csv", "validation.csv", "losses.png", "registration_0.png"} <= names
    kept = client.download_artifacts(run.info.run_id, "model.json", str(tmp_path))
    assert Path(kept).read_bytes() == (output / "model.json").read_bytes()

    curves = {
        part: EventAccumulator(str(output / "tensorboard" / part)).Reload() for part in ("training", "validation")
    }
    assert [point.step for point in curves["training"].Scalars("loss")] == [1, 2, 3, 4]
    assert [point.step for point in curves["validation"].Scalars("loss")] == [2, 4]
    assert [point.step for point in curves["validation"].Scalars("dice_after")] == [2, 4]
