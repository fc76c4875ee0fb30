"""The first thing imported: says in words what is missing, before anything fails for it."""

from importlib.util import find_spec

_COMPILER = ("numba", "llvmlite")

for _name in ("numpy", *_COMPILER):
    if find_spec(_name) is None:
        _use = "compile its kernels" if _name in _COMPILER else "hold its numbers"
        raise ImportError(
            f"fastbp needs {_name} to {_use}, and this Python has none: pip install {_name}, or "
            "install fastbp with its dependencies (pip install fastbp). Numba may not be there yet "
            "for a Python that has just come out: use the one before.",
            name=_name,
        )
