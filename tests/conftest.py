"""With NUMBA_DISABLE_JIT=1 the suite is a profile: small shapes, no training to accuracy."""

from fastbp.kernels.cpu.jit import JIT_DISABLED

# Minutes each without compiled code; what they test is tested on small shapes elsewhere.
_LONG = (
    "bench", "benchmarks", "bits", "cli", "diagnose_engine", "docstrings", "finder", "gradients",
    "guides", "memory", "sklearn_extras", "sklearn_judges", "sklearn_parity",
)  # fmt: skip

collect_ignore = [f"test_{name}.py" for name in _LONG] if JIT_DISABLED else []
