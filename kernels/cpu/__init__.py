"""CPU kernels: Numba-compiled, the same serial bodies behind two doors."""
