# SPDX-License-Identifier: Apache-2.0
"""The command gvsl: the configs of the shipped bundles for those who do not know MONAI."""

from .main import main
