# SPDX-License-Identifier: Apache-2.0
"""Other people's programs with the bundles of this repository."""
