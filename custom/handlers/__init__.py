# SPDX-License-Identifier: Apache-2.0
"""Handlers of engines: progress, tables, pictures, reports, checkpoints, the exported model."""

from .absent_classes import AbsentClasses
from .averaged_loss import AveragedLoss
from .best_model_export import BestModelExport
from .case_progress import CaseProgress
from .classification_report import ClassificationReport
from .csv_table import CsvTable
from .earlier_run import SetAsideEarlierRun
from .feature_spread import FeatureSpread
from .loss_figure import LossFigure
from .mean_outputs import MeanOutputs
from .model_export import ModelExport
from .pair_report import PairReport
from .prediction_files import PredictionFiles
from .probability_table import ProbabilityTable
from .progress_bar import TrainingProgress
from .propagated_labels import PropagatedLabels
from .publish_model import PublishModel
from .registration_figures import RegistrationFigures
from .segmentation_report import SegmentationReport
from .training_state import RandomState, TrainingState
