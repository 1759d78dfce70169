# SPDX-License-Identifier: Apache-2.0
"""Runs an exported network where none of our code can be imported, and compares it with stored outputs.

python -I exported.py FILE CASES RUNS. `tools.export --check` starts this file by its path. CASES holds pairs of input
and expected output; the last line printed is JSON: the largest difference, and processor seconds of the first case.
"""

import json
import sys
import time
from collections.abc import Callable

import torch

for package in ("custom", "scripts"):
    sys.modules[package] = None  # an import raises ModuleNotFoundError, also where the package is installed


def loaded(path: str) -> Callable[[torch.Tensor], torch.Tensor]:
    """The network of a .onnx, .ts or .pt2."""
    if path.endswith(".onnx"):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name
        return lambda image: torch.from_numpy(session.run(None, {name: image.numpy()})[0])
    if path.endswith(".pt2"):
        return torch.export.load(path).module()
    return torch.jit.load(path)


@torch.no_grad()
def main(path: str, cases: str, runs: int) -> None:
    """Prints what this file measures."""
    network = loaded(path)
    pairs = torch.load(cases, weights_only=True)
    difference = max(float((network(image) - expected).abs().max()) for image, expected in pairs)
    seconds = []
    for _ in range(runs):
        start = time.process_time()
        network(pairs[0][0])
        seconds.append(time.process_time() - start)
    print(json.dumps({"difference": difference, "seconds": min(seconds)}))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
