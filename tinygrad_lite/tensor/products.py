"""Products of matrices and vectors."""

from ..ops import product
from .base import Base


class Products(Base):
    """`x.matmul(y)`, which `x @ y` is, and its special cases."""

    __slots__ = ()

    def matmul(self, other):
        """Matrix product; a 1-D operand is a row or a column whose axis is dropped again."""
        other = self._from(other, self.device, "matmul")
        if self.data.ndim > 1 and other.data.ndim > 1:
            return product.matmul.call(self, other)
        if not self.ndim or not other.ndim:
            raise ValueError("matmul: a 0-d tensor has no matrix product: use *")
        x = self.unsqueeze(0) if self.ndim == 1 else self
        y = other.unsqueeze(1) if other.ndim == 1 else other
        out = product.matmul.call(x, y)
        if other.ndim == 1:
            out = out.squeeze(-1)
        return out.squeeze(-2 if other.ndim > 1 else -1) if self.ndim == 1 else out

    def dot(self, other):
        """Inner product of two vectors."""
        other = self._from(other, self.device, "dot")
        if self.ndim != 1 or self.shape != other.shape:
            raise ValueError(f"dot: expected two vectors of one length, got {self.shape} and {other.shape}")
        return self.matmul(other)

    def outer(self, other):
        """All products of two vectors' elements."""
        other = self._from(other, self.device, "outer")
        if self.ndim != 1 or other.ndim != 1:
            raise ValueError(f"outer: expected two vectors, got {self.shape} and {other.shape}")
        return self.unsqueeze(1) * other.unsqueeze(0)
