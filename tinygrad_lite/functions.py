"""The methods of Tensor as functions: tgl.exp(x), tgl.matmul(a, b). They also take numbers, lists and arrays."""

from __future__ import annotations

from .tensor import as_tensor


# -- one tensor in, elementwise -------------------------------------------------------------------------------
def exp(x):
    """e ** x."""
    return as_tensor(x).exp()


def log(x):
    """Natural logarithm."""
    return as_tensor(x).log()


def log1p(x):
    """log(1 + x), exact near 0."""
    return as_tensor(x).log1p()


def expm1(x):
    """e ** x - 1, exact near 0."""
    return as_tensor(x).expm1()


def sqrt(x):
    """Square root."""
    return as_tensor(x).sqrt()


def rsqrt(x):
    """1 / sqrt(x)."""
    return as_tensor(x).rsqrt()


def square(x):
    """x * x."""
    return as_tensor(x).square()


def reciprocal(x):
    """1 / x."""
    return as_tensor(x).reciprocal()


def sin(x):
    """Sine."""
    return as_tensor(x).sin()


def cos(x):
    """Cosine."""
    return as_tensor(x).cos()


def tan(x):
    """Tangent."""
    return as_tensor(x).tan()


def tanh(x):
    """Hyperbolic tangent."""
    return as_tensor(x).tanh()


def sigmoid(x):
    """1 / (1 + exp(-x))."""
    return as_tensor(x).sigmoid()


def erf(x):
    """The error function."""
    return as_tensor(x).erf()


def abs(x):
    """The absolute value; its gradient at 0 is 0."""
    return as_tensor(x).abs()


def sign(x):
    """-1, 0 or 1."""
    return as_tensor(x).sign()


def floor(x):
    """The largest integer at most x."""
    return as_tensor(x).floor()


def ceil(x):
    """The smallest integer at least x."""
    return as_tensor(x).ceil()


def round(x):
    """The nearest integer, halves to even."""
    return as_tensor(x).round()


def isnan(x):
    """Where x is not a number."""
    return as_tensor(x).isnan()


def isinf(x):
    """Where x is infinite."""
    return as_tensor(x).isinf()


def relu(x):
    """max(x, 0); the gradient at 0 is 0."""
    return as_tensor(x).relu()


def silu(x):
    """x * sigmoid(x)."""
    return as_tensor(x).silu()


def softplus(x):
    """log(1 + exp(x))."""
    return as_tensor(x).softplus()


def gelu(x, approximate="none"):
    """x * Phi(x), by erf, or by tanh as GPT-2 has it."""
    return as_tensor(x).gelu(approximate)


def leaky_relu(x, negative_slope=0.01):
    """x where positive, else negative_slope * x."""
    return as_tensor(x).leaky_relu(negative_slope)


def elu(x, alpha=1.0):
    """x where positive, else alpha * (exp(x) - 1)."""
    return as_tensor(x).elu(alpha)


def clamp(x, min=None, max=None):
    """x limited to [min, max]."""
    return as_tensor(x).clamp(min, max)


# -- two tensors in, broadcasting -------------------------------------------------------------------------------
def add(x, y):
    """x + y."""
    return as_tensor(x).add(y)


def sub(x, y):
    """x - y."""
    return as_tensor(x).sub(y)


def mul(x, y):
    """x * y."""
    return as_tensor(x).mul(y)


def div(x, y):
    """x / y."""
    return as_tensor(x).div(y)


def pow(x, y):
    """x ** y."""
    return as_tensor(x).pow(y)


def maximum(x, y):
    """The larger of x and y; a tie shares the gradient."""
    return as_tensor(x).maximum(y)


def minimum(x, y):
    """The smaller of x and y; a tie shares the gradient."""
    return as_tensor(x).minimum(y)


def matmul(x, y):
    """Matrix product; a 1-D operand is a row or a column whose axis is dropped again."""
    return as_tensor(x).matmul(y)


def dot(x, y):
    """Inner product of two vectors."""
    return as_tensor(x).dot(as_tensor(y))


def outer(x, y):
    """All products of two vectors' elements."""
    return as_tensor(x).outer(as_tensor(y))


# -- reductions and scans -----------------------------------------------------------------------------------------
def sum(x, dim=None, keepdim=False, *, axis=None):
    """Sum over axes."""
    return as_tensor(x).sum(dim, keepdim, axis=axis)


def mean(x, dim=None, keepdim=False, *, axis=None):
    """Mean over axes."""
    return as_tensor(x).mean(dim, keepdim, axis=axis)


def prod(x, dim=None, keepdim=False, *, axis=None):
    """Product over axes."""
    return as_tensor(x).prod(dim, keepdim, axis=axis)


def amax(x, dim=None, keepdim=False, *, axis=None):
    """Largest element over axes; ties share the gradient."""
    return as_tensor(x).amax(dim, keepdim, axis=axis)


def amin(x, dim=None, keepdim=False, *, axis=None):
    """Smallest element over axes; ties share the gradient."""
    return as_tensor(x).amin(dim, keepdim, axis=axis)


def logsumexp(x, dim=None, keepdim=False, *, axis=None):
    """log(sum(exp(x))) over axes, without overflow."""
    return as_tensor(x).logsumexp(dim, keepdim, axis=axis)


def argmax(x, dim=None, keepdim=False, *, axis=None):
    """Index of the largest element."""
    return as_tensor(x).argmax(dim, keepdim, axis=axis)


def argmin(x, dim=None, keepdim=False, *, axis=None):
    """Index of the smallest element."""
    return as_tensor(x).argmin(dim, keepdim, axis=axis)


def any(x, dim=None, keepdim=False, *, axis=None):
    """Whether any element is non-zero."""
    return as_tensor(x).any(dim, keepdim, axis=axis)


def all(x, dim=None, keepdim=False, *, axis=None):
    """Whether all elements are non-zero."""
    return as_tensor(x).all(dim, keepdim, axis=axis)


def var(x, dim=None, correction=1, keepdim=False, *, axis=None):
    """Variance over axes, unbiased by default."""
    return as_tensor(x).var(dim, correction, keepdim, axis=axis)


def std(x, dim=None, correction=1, keepdim=False, *, axis=None):
    """Square root of the variance."""
    return as_tensor(x).std(dim, correction, keepdim, axis=axis)


def max(x, dim=None, keepdim=False):
    """Largest element; along `dim`, a pair (values, indices)."""
    return as_tensor(x).max(dim, keepdim)


def min(x, dim=None, keepdim=False):
    """Smallest element; along `dim`, a pair (values, indices)."""
    return as_tensor(x).min(dim, keepdim)


def norm(x, p=2, dim=None, keepdim=False, *, axis=None):
    """(sum of |x| ** p) ** (1 / p), by default Euclidean; the gradient at zero is 0."""
    return as_tensor(x).norm(p, dim, keepdim, axis=axis)


def cumsum(x, dim=None, *, axis=None):
    """Running sum along an axis."""
    return as_tensor(x).cumsum(dim, axis=axis)


def cumprod(x, dim=None, *, axis=None):
    """Running product along an axis."""
    return as_tensor(x).cumprod(dim, axis=axis)


def sort(x, dim=-1, descending=False):
    """(values, indices) sorted along an axis; stable."""
    return as_tensor(x).sort(dim, descending)


def argsort(x, dim=-1, descending=False):
    """Indices that sort an axis; stable."""
    return as_tensor(x).argsort(dim, descending)


def topk(x, k, dim=-1, largest=True):
    """(values, indices) of the k largest (or smallest) elements along an axis."""
    return as_tensor(x).topk(k, dim, largest)


def softmax(x, dim=-1):
    """exp(x) over its sum along an axis."""
    return as_tensor(x).softmax(dim)


def log_softmax(x, dim=-1):
    """log(softmax(x)) along an axis."""
    return as_tensor(x).log_softmax(dim)


# -- shapes and indices -------------------------------------------------------------------------------------------
def reshape(x, shape):
    """The same elements in another shape; one -1 is worked out."""
    return as_tensor(x).reshape(shape)


def flatten(x, start_dim=0, end_dim=-1):
    """Axes start_dim to end_dim as one."""
    return as_tensor(x).flatten(start_dim, end_dim)


def transpose(x, dim0, dim1):
    """Two axes exchanged."""
    return as_tensor(x).transpose(dim0, dim1)


def permute(x, dims):
    """The axes in another order."""
    return as_tensor(x).permute(dims)


def squeeze(x, dim=None):
    """Without axes of size 1; with `dim`, that axis if its size is 1."""
    return as_tensor(x).squeeze(dim)


def unsqueeze(x, dim):
    """A new axis of size 1."""
    return as_tensor(x).unsqueeze(dim)


def flip(x, dims):
    """Axes reversed."""
    return as_tensor(x).flip(*([dims] if isinstance(dims, int) else dims))


def roll(x, shifts, dims=None):
    """Elements moved along axes, those pushed out entering at the other end."""
    return as_tensor(x).roll(shifts, dims)


def tile(x, reps):
    """The whole tensor repeated along its last axes."""
    return as_tensor(x).tile(reps)


def tril(x, diagonal=0):
    """The lower triangle of the last two axes."""
    return as_tensor(x).tril(diagonal)


def triu(x, diagonal=0):
    """The upper triangle of the last two axes."""
    return as_tensor(x).triu(diagonal)


def diagonal(x, offset=0, dim1=0, dim2=1):
    """The diagonal of two axes, as a new last axis."""
    return as_tensor(x).diagonal(offset, dim1, dim2)


def split(x, size, dim=0):
    """Pieces of `size` along an axis, or of the sizes given."""
    return as_tensor(x).split(size, dim)


def chunk(x, chunks, dim=0):
    """At most `chunks` pieces of equal size along an axis, the last smaller."""
    return as_tensor(x).chunk(chunks, dim)


def gather(x, dim, indices):
    """out[i, j] = x[i, indices[i, j]] for dim=1."""
    return as_tensor(x).gather(dim, indices)


def scatter_add(x, dim, indices, source):
    """x with source[i, j] added at [i, indices[i, j]] for dim=1."""
    return as_tensor(x).scatter_add(dim, indices, source)


def index_select(x, dim, indices):
    """Slices along an axis by index."""
    return as_tensor(x).index_select(dim, indices)


def masked_fill(x, mask, value):
    """x with `value` where mask holds."""
    return as_tensor(x).masked_fill(mask, value)
