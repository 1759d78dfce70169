# SPDX-License-Identifier: Apache-2.0
"""Trainer and evaluator for pretext tasks."""

from .evaluator import PretextEvaluator
from .prepare_batch import PrepareBatch
from .trainer import PretextTrainer

__all__ = ["PrepareBatch", "PretextEvaluator", "PretextTrainer"]
