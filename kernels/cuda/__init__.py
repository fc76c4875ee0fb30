"""CUDA: the same families, names and contract as `cpu/`, each file a family; see the README."""
