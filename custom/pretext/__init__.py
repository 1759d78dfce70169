# SPDX-License-Identifier: Apache-2.0
"""Pretext tasks, a module each: a network maps a batch of pairs to outputs, a loss maps outputs to named terms."""

from .gvsl import GVSLLoss, GVSLPretext
