# SPDX-License-Identifier: Apache-2.0
"""Unit test of NAME in the form of MONAI's model zoo: python -m unittest, in the folder above models/."""

import os
import shutil
import sys
import tempfile
import unittest

import torch
from monai.bundle import ConfigWorkflow

BUNDLE = "models/NAME"
OVERRIDES: dict = {}
INFERENCE = {"cohort#subjects": OVERRIDES["cohort#subjects"]}


class TestBundle(unittest.TestCase):
    """Training, evaluation and inference on a few phantoms that the bundle makes."""

    def setUp(self):
        self.folder = tempfile.mkdtemp()
        sys.path.insert(0, BUNDLE)

    def tearDown(self):
        sys.path.remove(BUNDLE)
        shutil.rmtree(self.folder)

    def run_workflow(self, files, workflow_type, overrides):
        """Initializes, checks and runs configs; returns the workflow."""
        data = os.path.join(self.folder, "data")
        workflow = ConfigWorkflow(
            workflow_type=workflow_type,
            config_file=[os.path.join(BUNDLE, "configs", name) for name in files],
            logging_file=os.path.join(BUNDLE, "configs", "logging.conf"),
            meta_file=os.path.join(BUNDLE, "configs", "metadata.json"),
            bundle_root=BUNDLE,
            dataset_dir=data,
            output_dir=os.path.join(self.folder, files[-1]),
            **{"cohort#root": data},
            **overrides,
        )
        workflow.initialize()
        missing = workflow.check_properties()
        if missing:
            raise ValueError(f"check properties for {files} failed: {missing}")
        workflow.run()
        workflow.finalize()
        return workflow

    def check_weights(self, network):
        """The network that ran has every tensor of models/model.pt."""
        state = network.state_dict()
        shipped = torch.load(os.path.join(BUNDLE, "models", "model.pt"), weights_only=True, map_location="cpu")
        for key, value in shipped.items():
            found = state[key] if key in state else state[f"backbone.{key}"]
            self.assertTrue(torch.equal(found.cpu(), value), key)

    def test_train_config(self):
        self.run_workflow(["train.json"], "train", OVERRIDES)
        self.assertTrue(os.path.isfile(os.path.join(self.folder, "train.json", "model.pt")))

    def test_evaluate_config(self):
        shipped = {"model_dir": os.path.join(BUNDLE, "models")}
        workflow = self.run_workflow(["train.json", "evaluate.json"], "train", {**OVERRIDES, **shipped})
        self.check_weights(workflow.parser.get_parsed_content("validate#evaluator").network)

    def test_infer_config(self):
        shipped = {"model_dir": os.path.join(BUNDLE, "models")}
        workflow = self.run_workflow(["inference.json"], "infer", {**INFERENCE, **shipped})
        self.check_weights(workflow.parser.get_parsed_content("evaluator").network)


if __name__ == "__main__":
    unittest.main()
