# SPDX-License-Identifier: Apache-2.0
"""Pretext tasks: modules that map a batch of pairs to outputs."""

from .gvsl import GVSLPretext

__all__ = ["GVSLPretext"]
