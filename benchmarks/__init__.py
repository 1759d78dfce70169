# SPDX-License-Identifier: Apache-2.0
"""Benchmarks. The README says what they measure; run them from the root of the repository with `python -m`."""
