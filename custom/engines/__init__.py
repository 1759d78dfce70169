# SPDX-License-Identifier: Apache-2.0
"""Trainers and evaluators: for pretext tasks, and MONAI's with mixed precision on CPUs too."""

from .case_evaluator import CaseEvaluator, CasePretextEvaluator, CasesFailed
from .evaluator import PretextEvaluator
from .mixed_precision import AutocastInferer, MixedPrecisionEvaluator, MixedPrecisionTrainer
from .prepare_batch import PrepareBatch, prepare_partial_labels
from .trainer import PretextTrainer
