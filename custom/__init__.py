# SPDX-License-Identifier: Apache-2.0
"""Components that the bundle configs name by `_target_`; see CONTRIBUTING.md for the tree."""
