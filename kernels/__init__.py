"""The hot loops, by family; installed as `fastbp.kernels`."""
