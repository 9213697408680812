"""Fusing of operations by torch.compile, where it can: a compiler of C builds what starts its kernels.

megatron-core gives its SwiGLU to torch.compile; a machine that cannot compile would else stop at the first step.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sysconfig
from pathlib import Path


def can_be_compiled() -> bool:
    """Tell whether this machine has all that torch's compiler asks for on a GPU: triton, a C compiler, Python.h."""
    compilers = [os.environ["CC"]] if os.environ.get("CC") else ["clang", "gcc"]
    return (
        importlib.util.find_spec("triton") is not None
        and any(shutil.which(name) for name in compilers)
        and (Path(sysconfig.get_path("include")) / "Python.h").is_file()
    )
