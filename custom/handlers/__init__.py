# SPDX-License-Identifier: Apache-2.0
"""Handlers: progress, tables, pictures, checkpoints, the exported model."""

from .csv_table import CsvTable
from .earlier_run import SetAsideEarlierRun
from .evaluation_report import EvaluationReport
from .feature_spread import FeatureSpread
from .figures import LossFigure, RegistrationFigures
from .load_weights import LoadBackbone, LoadPretext
from .mean_outputs import MeanOutputs
from .model_export import ModelExport
from .progress_bar import TrainingProgress
from .training_state import RandomState, TrainingState

__all__ = [
    "CsvTable",
    "EvaluationReport",
    "FeatureSpread",
    "LoadBackbone",
    "LoadPretext",
    "LossFigure",
    "MeanOutputs",
    "ModelExport",
    "RandomState",
    "RegistrationFigures",
    "SetAsideEarlierRun",
    "TrainingProgress",
    "TrainingState",
]
