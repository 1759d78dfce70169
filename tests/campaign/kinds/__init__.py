# SPDX-License-Identifier: Apache-2.0
"""The table of the campaign: kinds of bad input, one module for each area."""
