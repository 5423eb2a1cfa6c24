"""CPU kernels: Numba for what is not a matrix product, NumPy's BLAS for what is."""
