# SPDX-License-Identifier: Apache-2.0
"""A run of a config or of a tool: its config, checks of its values, the lock of its output, what an error prints."""

from .config import published_config, resolved_component, resolved_config, running_parser
from .determinism import seed_run
from .group import leave_group
from .overrides import Overrides
from .start import start_run
from .tool import run_tool
from .values import check_values
