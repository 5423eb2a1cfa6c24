"""Our thin array namespace over NumPy, CuPy, or whatever has their functions."""

from .namespace import Namespace

__all__ = ["Namespace"]
