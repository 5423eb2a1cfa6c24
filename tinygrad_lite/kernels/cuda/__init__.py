"""CUDA kernels: each NAME.cu is CUDA C, each NAME.py calls it; `launch.py` compiles, `emulator/` runs them without a GPU."""
