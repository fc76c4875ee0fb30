"""Whether this machine multiplies and adds in one rounding.

LLVM may contract a * b + c in one place and not in another, and then the bits would depend on where
the work was cut: formulas (`lanes.py`) therefore say `fma` wherever a product meets a sum.
"""

from __future__ import annotations

from llvmlite import binding
from numba.core import config

from .memory import _ARM


def _host_has_fma() -> bool:
    if _ARM:
        return True
    if config.CPU_FEATURES is not None:
        return "+fma" in config.CPU_FEATURES
    return config.CPU_NAME != "generic" and bool(binding.get_host_cpu_features().get("fma"))


HAS_FMA = _host_has_fma()
"""Where it is False, `fma` is a product and a sum: a library call would take 50 ns, and nothing
could be contracted there, so two roundings are as repeatable as one."""
