"""What the kernels use of Numba that it does not document: a new version may move or change it.

`numba.core.cgutils`, `config` and what its guide to extensions names are not among these.
"""

from __future__ import annotations

from numba.core.caching import CompileResultCacheImpl, FunctionCache
from numba.core.caching import _CacheLocator as CacheLocator
from numba.core.ccallback import CFunc
from numba.core.codegen import get_host_cpu_features, initialize_llvm
from numba.core.serialize import dumps

__all__ = [
    "CFunc",
    "CacheLocator",
    "CompileResultCacheImpl",
    "FunctionCache",
    "dumps",
    "get_host_cpu_features",
    "initialize_llvm",
]
