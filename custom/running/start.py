# SPDX-License-Identifier: Apache-2.0
"""What comes first in a run of a config."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from .arguments import null_overrides
from .config import is_command, running_folder, running_parser
from .keys import check_keys
from .output_lock import lock_output
from .screen import LOG, show_reasons
from .values import check_values


def start_run() -> None:
    """Check the values of the running config; in a command also lock its output and shorten what an error prints.

    Every config calls it first in "initialize". Inside another program (tests, MONAI Label, federated clients) errors
    stay as they are, and nothing is locked.

    Raises:
        RuntimeError: no config is being run, or another run writes to the same `output_dir`.
        ValueError: the config has a key that nothing reads, or a value of another kind than expected.
    """
    parser = running_parser()
    if parser is None:
        raise RuntimeError("start_run is called outside of a bundle config, expected a call in its initialize")
    command = is_command()
    if command:
        show_reasons()
        if names := [name for name in null_overrides(sys.argv[1:]) if name in parser]:
            parser.update(dict.fromkeys(names))  # MONAI drops an override that is None
            parser.parse()
    check_keys(parser.get(), running_folder(parser))
    check_values(parser)
    if command and int(os.environ.get("RANK", "0")) == 0:  # of torchrun
        output_dir = Path(parser.get_parsed_content("output_dir"))
        lock_output(output_dir)
        (output_dir / LOG).unlink(missing_ok=True)  # of an earlier run that failed
