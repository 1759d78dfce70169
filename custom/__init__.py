# SPDX-License-Identifier: Apache-2.0
"""Components that the bundle configs name by `_target_`."""
