# SPDX-License-Identifier: Apache-2.0
"""Other people's programs, each in an environment of its own."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
