"""Planted bugs that are none: nobody can find them, for the reason given.

By file and a piece of a line that has the bug's text in it; the same line may stand in several kernels.
"""

from kernels.cuda.planting.sources import Bug

EMPTY_TURN = "one more turn of the loop, in which each use asks for its own bound again and does nothing"
IN_TURN = "the element is compared with the target again"

UNSEEN_TILE = "works on a tile more, of which everything is hidden"
UNREAD_TILE = "copies a tile more, which nobody reads"

EQUIVALENT = {
    ("attention_forward.cu", "min(t0 + QUERIES, queries)"): UNSEEN_TILE,
    ("attention_forward.cu", "min(t0 + first_row + ROWS, queries)"): UNSEEN_TILE,
    ("attention_forward.cu", "if (i < end) tile.template load"): UNREAD_TILE,
    (
        "attention_forward.cu",
        "(row.top - before) * scale_log2 <= SLACK",
    ): "a little more or less slack gives the same, but for rounding",
    ("attention_forward.cu", "stage < end; stage"): "a stage behind the last one loads nothing and works on nothing",
    (
        "attention_forward.cu",
        "sees_any && query < queries",
    ): "behind the last row q and g are zeros: any number will do",
    ("attention_backward.cu", "min(s0 + OWN, keys)"): UNSEEN_TILE,
    ("attention_backward.cu", "if (steps > 0) load_queries(0"): UNREAD_TILE,
    ("attention_backward.cu", "end > first ?"): "0 steps of 0 rows",
    ("attention_backward.cu", "min(t0 + OWN, queries)"): UNSEEN_TILE,
    ("attention_backward.cu", "if (first < end) load_keys(first)"): UNREAD_TILE,
    ("attention_backward.cu", "if (s0 + STEP < end) load_keys("): UNREAD_TILE,
    ("attention_decode.cu", "first < d) v = load_vector"): "a vector's first column lies a vector before the end",
    ("attention_decode.cu", "s0 - place < end"): "works on some keys more, all of which are hidden",
    ("attention_float.cu", "min(t0 + WARPS, queries)"): UNSEEN_TILE,
    ("attention_float.cu", "s0 < end; s0 += ROWS"): UNSEEN_TILE,
    ("attention_float.cu", "min(s0 + WARPS, keys)"): UNSEEN_TILE,
    ("attention_float.cu", "t0 < end; t0 += ROWS"): UNSEEN_TILE,
    ("attention_problem.cuh", "return s - place(t + t_count - 1) <= ahead &&"): UNSEEN_TILE,
    ("attention_problem.cuh", "s + s_count - 1 - place(t) >= -behind;"): UNSEEN_TILE,
    ("activations.cu", "first < rows; first += AT_ONCE"): EMPTY_TURN,
    ("column_sums.cu", "row < stop; row += ROWS_AT_ONCE"): EMPTY_TURN,
    ("row_product.cu", "start < k; start += AT_ONCE"): EMPTY_TURN,
    ("scatter_add_rows.cu", "k < count; k += ROWS_AT_ONCE"): EMPTY_TURN,
    ("columns.cuh", "first < blocks; first += 32 * AT_ONCE"): EMPTY_TURN,
    ("scatter_add_rows.cu", "if (to >= 0) {"): "-1, a sum that goes on, has left before",
    ("sort_indices.cu", "tile < stop; tile += TILE"): EMPTY_TURN,
    ("scatter_add_rows.cu", "if (column < columns) {"): "reads on in `pieces`, where no sum uses it: none is written",
    ("cross_entropy.cu", "target >= column "): IN_TURN,
    ("cross_entropy.cu", "target < column + Vector<T>::n"): IN_TURN,
    ("gemm.cu", "left > 0 ? min"): "min(0, 8) is 0",
    ("gemm.cu", "if (k + INNER < inner) load("): "copies a tile of zeros, which nobody reads",
    ("gemm.cu", "k < inner; k += FLOAT_INNER"): "adds products of zeros",
    ("span.cuh", "before < size ? before : size"): "where both are the same",
}


def reason(bug: Bug) -> str | None:
    """Why nobody can find this bug, or None where somebody must."""
    for (file, piece), why in EQUIVALENT.items():
        if bug.file == file and piece in bug.source and bug.text in piece:
            return why
    return None
