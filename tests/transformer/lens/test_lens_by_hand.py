"""On a model whose weights are set by hand, so that what each head does is known, the tools say just that.

Channels: one for each of 8 tokens, one for each of 16 positions, and 8 for the token before, which layer 0 writes there.
Layer 0: head 0 looks at the previous position and copies its token, head 1 at equal tokens. Layer 1: head 0 looks at
where the current token was the one before (an induction head) and writes what stands there, head 1 does nothing.
"""

import numpy as np
import pytest

from transformer import GPT, GPTConfig
from transformer.lens import (
    ablate,
    answer_lead,
    direct_logit_attribution,
    head_scores,
    hooked,
    logit_lens,
    patch_heads,
    patch_positions,
    repeated_tokens,
    run_with_cache,
)
from transformer.model import as_tokens

V, T, D = 8, 16, 16
TOKEN, PLACE, BEFORE = slice(0, V), slice(V, V + T), slice(V + T, 2 * V + T)


@pytest.fixture(scope="module")
def model():
    gpt = GPT(GPTConfig(vocab_size=V, block_size=T, layers=2, heads=2, channels=2 * V + T, tied=False, bias=False))
    for p in gpt.parameters():
        if p.ndim == 2:
            p.data[...] = 0.0
    gpt.tokens.weight.data[:, TOKEN] = np.eye(V)
    gpt.positions.weight.data[:, PLACE] = np.eye(T)
    gpt.head.weight.data[:, TOKEN] = np.eye(V)
    sharp = 6.0

    def put(layer, head, q, k, v, to):
        """q, k, v: (channels read, shift of k's); to: the channels that the values are written to."""
        qkv, out = gpt.blocks[layer].attention.qkv.weight.data, gpt.blocks[layer].attention.project.weight.data
        n = head * D
        for matrix_row, channels, factor in ((n, q, sharp), (2 * D + n, k, sharp), (4 * D + n, v, 1.0)):
            for j, channel in enumerate(channels):
                qkv[matrix_row + j, channel] = factor
        if to is not None:
            for j in range(V):
                out[range(to.start, to.stop)[j], n + j] = 1.0

    token, place, before = (range(s.start, s.stop) for s in (TOKEN, PLACE, BEFORE))
    put(0, 0, place[1:], place[:-1], token, BEFORE)
    put(0, 1, token, token, (), None)
    put(1, 0, token, before, token, TOKEN)
    return gpt.eval()


def test_head_scores_find_the_heads(model):
    scores = head_scores(model, period=8)
    assert scores.best("previous")[:2] == (0, 0) and scores.previous[0, 0] > 0.95
    assert scores.best("induction")[:2] == (1, 0) and scores.induction[1, 0] > 0.9
    assert scores.best("duplicate")[:2] == (0, 1)
    np.testing.assert_allclose(scores.duplicate[0, 1], 0.5, atol=0.02)  # the other half is the token itself
    even = head_scores(model, period=8).chance
    for kind, found in (
        ("previous", scores.previous),
        ("duplicate", scores.duplicate),
        ("induction", scores.induction),
    ):
        np.testing.assert_allclose(found[1, 1], even[kind], rtol=1e-5)  # the idle head's attention is even
    with pytest.raises(ValueError, match="from 2 to 8"):
        head_scores(model, period=9)


def test_with_a_window_chance_is_what_even_attention_scores_and_copies_are_in_sight():
    gpt = GPT(GPTConfig(vocab_size=V, block_size=T, layers=1, heads=2, channels=16, window=4))
    gpt.blocks[0].attention.qkv.weight.data[...] = 0.0  # all scores are equal: attention is even
    for period in (None, 4, 6):  # at 4 the first copy is just out of sight, at 6 what followed it too
        scores = head_scores(gpt, period)
        for kind, chance in scores.chance.items():
            np.testing.assert_allclose(getattr(scores, kind), chance, atol=1e-6)
            unseen = kind == "duplicate" and period is not None or kind == "induction" and period == 6
            assert (chance == 0.0) == unseen


def test_attribution_names_the_induction_head(model):
    ids = repeated_tokens(V, 8, 1)[0][:-3]
    answer, wrong = int(ids[5]), int(ids[6])  # what followed the last token before
    found = direct_logit_attribution(model, ids, answer, wrong)
    shares = dict(zip(found.parts, found.shares))
    assert max(shares, key=shares.get) == "blocks.1.attention.head.0"
    assert shares["blocks.1.attention.head.0"] > 0.9 * found.logit > 0
    np.testing.assert_allclose(found.shares.sum(), found.logit, rtol=1e-5)


def test_ablating_either_head_of_the_pair_breaks_the_prediction_and_the_idle_one_does_not(model):
    ids = repeated_tokens(V, 8, 4)
    tokens, expected = as_tokens(ids), ids[:, 10:]  # at 8 two places fit: position 0 has none before it but itself

    def right():
        return (model(tokens).numpy()[:, 9:-1].argmax(-1) == expected).mean()

    assert right() == 1.0
    for layer, head in ((0, 0), (1, 0)):
        with hooked(model, {f"blocks.{layer}.attention.z": ablate(heads=head)}):
            assert right() < 0.5
    with hooked(model, {"blocks.1.attention.z": ablate(heads=1)}):
        assert right() == 1.0


def test_the_lens_reads_the_answer_only_after_the_induction_layer(model):
    ids = repeated_tokens(V, 8, 1)[0][:-3]
    readings = logit_lens(model, ids, k=3)
    assert [r.name for r in readings] == ["blocks.0.resid_pre", "blocks.0.resid_mid", "blocks.0.resid_post",
                                          "blocks.1.resid_mid", "blocks.1.resid_post"]  # fmt: skip
    assert readings[0].tokens[-1, 0] == ids[-1]  # before any layer the lens reads the token itself
    assert readings[-1].rank[-1] == 0 and readings[2].rank[-1] > 0
    assert readings[-1].tokens[-1].tolist().index(ids[5]) <= 1  # beside the token itself, whose channel stays
    logits, _ = run_with_cache(model, ids, "logits")
    p = np.exp(logits.numpy()[0] - logits.numpy()[0].max(-1, keepdims=True))
    np.testing.assert_allclose(readings[-1].probabilities, -np.sort(-p / p.sum(-1, keepdims=True), 1)[:, :3], rtol=1e-5)


def test_patching_traces_the_answer_from_the_token_before_to_the_induction_head(model):
    clean = repeated_tokens(V, 8, 1)[0][:-3]
    corrupted = clean.copy()
    corrupted[5] = clean[7]  # another token follows now
    metric = answer_lead(int(clean[5]), int(corrupted[5]))
    found = patch_positions(model, clean, corrupted, metric)
    np.testing.assert_allclose(found.recovered[:, 5], 1.0, atol=1e-3)  # where the prompts differ
    assert np.abs(np.delete(found.recovered, 5, 1)).max() < 0.2
    by_head = patch_heads(model, clean, corrupted, metric).recovered
    assert by_head[1, 0] > 0.9 and np.abs(by_head[0]).max() < 0.2 and abs(by_head[1, 1]) < 1e-6
    with pytest.raises(ValueError, match="nothing to bring back"):
        patch_positions(model, clean, clean, metric)
    with pytest.raises(ValueError, match="as many tokens"):
        patch_heads(model, clean, clean[1:], metric)
