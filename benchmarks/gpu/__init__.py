"""What the kernels and the training step do on one NVIDIA GPU: right, and how fast. Begin with __main__.py."""
