"""Attention of one new row over a cache of keys and values, at a position that only the device knows.

Flash-decoding: the keys are split over blocks, whose results a second launch joins in a fixed order.
"""

from ...dtypes import bfloat16, float16, float32
from .arrays import VECTOR_BYTES, blocks, empty, fits_vectors
from .launch import Source

DTYPES = (float32, bfloat16, float16)
THREADS, CHUNK, WIDTHS = 128, 128, (32, 64, 128)  # as in attention_decode.cu; head sizes up to a width

_names = {
    (width, vectors): f"attention_decode<T, {width}, {str(vectors).lower()}>"
    for width in WIDTHS
    for vectors in (True, False)
}
_kernels = Source("attention_decode.cu", *_names.values(), "attention_combine<T>")


def supports(head_size: int) -> bool:
    """Whether there is a kernel for heads of this size."""
    return head_size <= WIDTHS[-1]


def attend(qkv, keys, values, position, *, heads, window, scale):
    """Append a row's key and value to a cache, and attend over the cache's last `window` rows (None: all).

    qkv (B, 1, (H + 2 Hkv) D); keys, values (B, Hkv, room, D), of which row `position`, an int64 array (1,) on the device
    and below room, is written. Returns (B, 1, H D).
    """
    b, key_heads, room, d = keys.shape
    if qkv.shape != (b, 1, (heads + 2 * key_heads) * d) or not keys.dtype == values.dtype == qkv.dtype:
        raise ValueError(
            f"attention_decode: expected one row of {heads} + 2 x {key_heads} heads of {d} columns in {keys.dtype}, as the "
            f"cache is, got {qkv.shape} in {qkv.dtype}"
        )
    width, chunks = next(w for w in WIDTHS if d <= w), blocks(room, CHUNK)
    sums, stats = empty((b, heads, chunks, width), float32), empty((b, heads, chunks, 2), float32)
    out, window = empty((b, 1, heads * d), qkv.dtype), room if window is None else min(window, room)
    vectors, kernels = fits_vectors(keys, values) and qkv.data.ptr % VECTOR_BYTES == 0, _kernels[qkv.dtype]
    kernels[_names[width, vectors]](
        (chunks, heads, b), (THREADS,),
        sums, stats, keys, values, qkv, position, key_heads, heads // key_heads, room, d, window, float(scale),
    )  # fmt: skip
    kernels["attention_combine<T>"]((heads, b), (THREADS,), out, sums, stats, position, chunks, width, d, window)
    return out
