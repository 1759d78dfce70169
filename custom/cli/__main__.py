# SPDX-License-Identifier: Apache-2.0
"""python -m custom.cli, where gvsl is not installed."""

from .main import main

main()
