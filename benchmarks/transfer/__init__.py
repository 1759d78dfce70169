# SPDX-License-Identifier: Apache-2.0
"""The transfer benchmark: what pre-training gives to a downstream task, method by method."""
