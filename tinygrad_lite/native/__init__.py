"""What runs without the interpreter: the compiler of kernels, the threads that share them, the way to BLAS."""
