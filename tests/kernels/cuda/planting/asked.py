"""What planted bugs are asked: tests of each CUDA source, at shapes where its edges are.

The tests themselves, called as functions, so that the hunt tells what they would find.
"""

from functools import partial

import pytest
from kernels.cuda import test_attention as attention
from kernels.cuda import test_attention_decode as decode
from kernels.cuda import test_column_sums as column_sums
from kernels.cuda import test_dropout as dropout
from kernels.cuda import test_embedding as embedding
from kernels.cuda import test_linear as linear
from kernels.cuda import test_losses as losses
from kernels.cuda import test_rotary as rotary
from kernels.cuda import test_row_kernels as rows
from kernels.cuda import test_row_product as row_product
from kernels.cuda import test_updates as updates

from tinygrad_lite.dtypes import bfloat16, float32

HALF = bfloat16


def _patched(test, *arguments):
    """A test that wants pytest's monkeypatch as its last argument."""

    def ask():
        with pytest.MonkeyPatch.context() as patch:
            test(*arguments, patch)

    return ask


def _named(*tests):
    """{name: question} of (test, arguments) tuples."""
    named = {}
    for test, *arguments in tests:
        wants_patch = "monkeypatch" in test.__code__.co_varnames[: test.__code__.co_argcount]
        name = f"{test.__name__}({', '.join(map(str, arguments))})"
        named[name] = _patched(test, *arguments) if wants_patch else partial(test, *arguments)
    return named


def attention_of(t, s, d, params):
    """One head, in any size: of 32 on the tensor cores by warps, from 64 on by warpgroups where there are some."""
    attention.check(1, 1, 1, t, s, d, HALF, **params)


# Windows and tiles that end together and not; tiles that are full to the last key, or all but; tiles of which one query
# does not see one key; a tile of keys that no query sees; rows that are not aligned.
ATTENTION = {
    dtype: _named(
        (attention.test_attention, 2, 2, 1, 31, 31, attention.window(7), dtype),
        (attention.test_attention, 1, 2, 1, 33, 70, attention.window(34), dtype),
        *more,
        (attention.test_head_sizes, 13, dtype),
        (attention.test_dropout, 1, 2, 1, 1, 131, attention.CAUSAL, dtype),
        (attention.test_forward_and_backward_drop_the_weights_that_the_generator_says, 31, dtype),
        (attention.test_a_query_that_sees_no_key_gives_zeros, dtype),
        *((dropout.test_attention_keeps_a_weight_whose_uniform_is_p, s, i, dtype) for s in (7, 8) for i in range(4)),
    )
    for dtype, more in (
        (float32, ()),
        (
            HALF,
            (
                (attention.test_attention, 1, 1, 1, 130, 130, attention.window(65), HALF),
                (attention.test_attention, 1, 1, 1, 33, 200, attention.window(5), HALF),
                (attention.test_attention, 1, 2, 1, 64, 64, attention.FULL, HALF),
                *((attention_of, 40, 70, d, {**attention.CAUSAL, "scale": -0.5}) for d in (32, 64)),
                *((attention_of, 33, s, d, attention.FULL) for d in (32, 64) for s in (32, 63, 64)),
                *((attention_of, t, s, 32, attention.CAUSAL) for t, s in ((33, 95), (128, 160), (140, 3))),
                (attention_of, 33, 48, 32, {**attention.window(46), "scale": 0.01}),
            ),
        ),
    )
}

QUESTIONS = {
    "attention_forward.cu": ATTENTION[HALF],
    "attention_backward.cu": ATTENTION[HALF],
    "attention_float.cu": ATTENTION[float32],
    "column_sums.cu": _named(*((column_sums.test_column_sums, n, c, HALF) for n, c in ((31, 33), (65, 264), (300, 7)))),
    "activations.cu": _named(
        *((rows.test_gelu, "none", shape, HALF) for shape in ((3, 31), (2, 2, 32), (9, 257))),
        *((rows.test_bias_gelu, "tanh", shape, HALF) for shape in ((9, 33), (70, 264))),
        *((rows.test_swiglu, shape, HALF) for shape in ((9, 33), (70, 264))),
    ),
    "softmax.cu": _named(
        *((rows.test_softmax, "softmax", shape, HALF) for shape in ((9, 33), (70, 64), (2, 1032), (2, 1025))),
        *((rows.test_softmax, "log_softmax", shape, HALF) for shape in ((1, 20488), (1, 8706))),
    ),
    "norm.cu": _named(
        *(
            (rows.test_layer_norm, shape, HALF)
            for shape in ((9, 33), (70, 64), (9, 768), (2, 1032), (2, 1025), (2, 4355))
        ),
        (rows.test_rms_norm, (9, 33), HALF),
        (rows.test_rms_norm, (2, 10248), HALF),
        *(
            (rows.test_columns_are_summed_over_many_turns_of_rows_and_many_blocks, shape, blocks, "layer_norm", HALF)
            for shape, blocks in (((70, 33), 3), ((70, 64), 3), ((50, 768), 3), ((7, 1032), 3), ((300, 40), 99))
        ),
    ),
    "dropout.cu": _named(
        *((dropout.test_the_mask_is_the_generators, shape, 0.3, HALF) for shape in ((31,), (3, 11), (4095,), (4101,))),
        *((dropout.test_an_element_whose_uniform_is_p_is_kept, element) for element in range(4)),
        (dropout.test_rows_that_begin_anywhere, HALF),
    ),
    "attention_decode.cu": _named(
        *(
            (decode.test_attention_decode, *sizes, HALF)
            for sizes in (
                (1, 2, 2, 140, 32, 127, None),
                (2, 4, 2, 140, 24, 128, None),
                (1, 2, 2, 300, 64, 250, 148),
                (1, 1, 1, 300, 64, 256, 129),
                (1, 3, 1, 140, 13, 139, 11),
                (1, 2, 1, 65, 128, 64, 1000),
            )
        ),
    ),
    "row_product.cu": _named(
        *((row_product.test_row_product, n, k, HALF) for n, k in ((1, 8), (9, 264), (8, 1024), (5, 2064), (7, 16392))),
        (row_product.test_many_outputs_are_four_a_warp, 27, HALF),
        (row_product.test_many_outputs_are_four_a_warp, 32, HALF),
    ),
    "rotary.cu": _named(
        (rotary.test_rotary, 2, 31, 40, 2, 8, 5, -1, HALF),
        (rotary.test_rotary, 3, 35, 70, 2, 34, 0, 1, HALF),
        (rotary.test_rotary, 1, 33, 96, 3, 32, 100, 1, HALF),
        (rotary.test_rotary, 2, 9, 1024, 8, 64, 7, -1, HALF),
    ),
    "scatter_add_rows.cu": _named(
        *((embedding.test_scatter_add_rows, n, v, c, HALF) for n, v, c in ((31, 5, 33), (33, 100, 32), (300, 7, 8))),
        *((embedding.test_scatter_add_rows, n, v, c, HALF) for n, v, c in ((200, 65, 1100), (150, 3, 131))),
        *(
            (embedding.test_runs_that_end_at_a_chunks_border_and_beyond, lengths, HALF)
            for lengths in ((32, 32, 1), (31, 33, 64), (1, 63, 5), (1283,), (5, 96, 27))
        ),
    ),
    "sort_indices.cu": _named(
        *((embedding.test_sort_indices, n, bound) for n, bound in ((1, 1), (33, 600), (1056, 513), (2100, 300_000))),
        (embedding.test_parts_of_several_tiles,),
    ),
    "cross_entropy.cu": _named(
        *((losses.test_cross_entropy, 0.1, n, v, HALF) for n, v in ((5, 32), (7, 33), (4, 2050))),
        (losses.test_rows_that_begin_anywhere,),
        *((losses.test_linear_cross_entropy, n, v, HALF) for n, v in ((7, 33), (3, 4111), (1, 12400))),
        (losses.test_the_head_loses_no_more_than_its_roundings, 512, 1, HALF),
        (losses.test_the_head_loses_no_more_than_its_roundings, 72 << 10, 3, HALF),
        (losses.test_a_target_that_is_no_class_makes_the_loss_nan,),
        (losses.test_nothing_valid_gives_nan_and_no_gradient, 3, HALF),
    ),
    "adamw.cu": _named(
        *((updates.test_a_step_follows_pytorchs_formula, n, HALF) for n in (1, 33, 2049)),
        (updates.test_slices_that_begin_anywhere_give_the_same_bits_and_touch_nothing_else, 4, HALF),
        (updates.test_what_lies_around_a_slice_stays, HALF),
        (updates.test_stochastic_rounding_is_its_readable_twins_bit_for_bit, 33, 3, 0, 1, 0),
        *((updates.test_sum_of_squares, n, HALF) for n in (33, 4097)),
    ),
    "scale.cu": _named(*((updates.test_scale_into, n, HALF) for n in (33, 4099))),
    "gemm.cu": _named(
        *(
            (linear.test_our_product_equals_the_librarys, *sizes, a, b, dtype)
            for sizes in ((31, 33, 32), (65, 64, 129))
            for a, b in ((False, True), (True, False))
            for dtype in (HALF, float32)
        ),
        (linear.test_rows_that_begin_anywhere,),
        *((linear.test_our_product_has_no_races, 65, 72, 64, False, False, dtype) for dtype in (HALF, float32)),
    ),
}
