# SPDX-License-Identifier: Apache-2.0
"""python -m benchmarks.fake_cuda: what a training step of each config needs on a GPU, traced without one."""

from .stand_in import load

load()

import fire  # noqa: E402

from .report import report  # noqa: E402  (torch is imported after the stand-in)

if __name__ == "__main__":
    fire.Fire(report)
