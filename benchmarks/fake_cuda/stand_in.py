# SPDX-License-Identifier: Apache-2.0
"""A CUDA device that does nothing, for the CPU build of torch. It is loaded before torch is imported."""

from __future__ import annotations

import ctypes
import importlib.util
import subprocess
import sys
import tempfile
from pathlib import Path

SOURCE = Path(__file__).with_name("stand_in.cpp")
LIBRARIES = ("libtorch_global_deps.so", "libc10.so", "libtorch_cpu.so")


def load() -> None:
    """Compiles the stand-in with g++ and loads it into this process.

    Raises:
        RuntimeError: torch was imported before.
        FileNotFoundError: there is no g++.
        subprocess.CalledProcessError: the stand-in does not fit this version of torch; g++ has printed why.
    """
    if "torch" in sys.modules:
        raise RuntimeError("torch is imported already, expected to load the stand-in for CUDA before it")
    torch = Path(importlib.util.find_spec("torch").origin).parent
    with tempfile.TemporaryDirectory() as folder:
        built = Path(folder) / "stand_in.so"
        include, libraries = f"-I{torch / 'include'}", torch / "lib"
        options = ["-std=c++20", "-O0", "-shared", "-fPIC", include, f"-L{libraries}"]
        subprocess.run(["g++", *options, SOURCE, "-o", built, "-lc10", "-ltorch_cpu"], check=True)
        for library in (*(libraries / name for name in LIBRARIES), built):
            ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
