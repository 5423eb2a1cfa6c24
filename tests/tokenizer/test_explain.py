"""What an explanation says is what encoding does, for every kind of tokenizer."""

import re
from collections import Counter

import pytest
import regex
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tokenizer import BPETokenizer, CharTokenizer, TokenizerError
from tokenizer.alternatives import IN_WORDS, matching_alternative, split_alternatives
from tokenizer.bpe_readable import train_readable
from tokenizer.bpe_vocabulary import BPEVocabulary
from tokenizer.explain import explain
from tokenizer.explain_html import to_html
from tokenizer.explain_words import two_best_spellings
from tokenizer.patterns import PATTERNS
from tokenizer.pretokenize import make_pretokenizer
from tokenizer.sentencepiece import SentencePieceTokenizer
from tokenizer.special import as_text
from tokenizer.trace import TrainingTrace
from tokenizer.unigram import UnigramTokenizer
from tokenizer.unigram_readable import spell_readable
from tokenizer.visible import visible
from tokenizer.wordpiece import WordPieceTokenizer

TEXT = "the cat sat on the mat; don't the dogs' cat sat at the door: that hat, that cat! 12 123 aaaa é é 漢字 " * 3
SPECIAL = ["<end>", "<|user|>"]


def _traced(**settings):
    records = []
    words = Counter(piece.encode() for piece in make_pretokenizer("gpt2").split(TEXT))
    train_readable(words, 60, "lowest-id", records)
    tokenizer = BPETokenizer([record.pair for record in records], special_tokens=SPECIAL)
    return tokenizer, TrainingTrace(tuple(records), "gpt2", tokenizer.special_tokens)


BPE, TRACE = _traced()
RANKS = {bytes([value]): value for value in range(256)} | {
    token: 256 + n for n, token in enumerate([b"th", b"the", b" t", b" the", b"at", b"cat", b"xyz", b" c"])
}
UNIGRAM = [
    ("<unk>", 0.0),
    ("▁", -2.0),
    ("▁th", -4.5),
    ("▁the", -4.0),
    ("e", -3.0),
    ("t", -3.5),
    ("h", -3.1),
    ("at", -5.0),
]
BYTES = [(f"<0x{value:02X}>", -9.0) for value in range(256)]
TOKENIZERS = {
    "bpe": BPE,
    "bpe without a pattern": BPETokenizer(BPE.merges, pattern=None, special_tokens=SPECIAL),
    "bpe, cl100k": BPETokenizer(BPE.merges, pattern="cl100k", special_tokens=SPECIAL),
    "bpe, o200k": BPETokenizer(BPE.merges, pattern="o200k", special_tokens=SPECIAL),
    "bpe, a pattern with gaps": BPETokenizer(BPE.merges, pattern=r"[a-m]+|(?<=t)\S", special_tokens=SPECIAL),
    "bpe, an expression": BPETokenizer(BPE.merges, pattern=r"\p{L}+|[\s\S]", special_tokens=SPECIAL),
    "ranks": BPETokenizer(BPEVocabulary.from_ranks(RANKS), special_tokens=SPECIAL),
    "char": CharTokenizer("the caso<>|", byte_fallback=True, special_tokens=SPECIAL),
    "wordpiece": WordPieceTokenizer.train(TEXT, 80, special_tokens=["[UNK]", *SPECIAL]),
    "sentencepiece": SentencePieceTokenizer.train(TEXT, 330, special_tokens=["<unk>", *SPECIAL]),
    "sentencepiece, no bytes": SentencePieceTokenizer.train(
        TEXT[:40], 40, special_tokens=["<unk>", *SPECIAL], byte_fallback=False
    ),
    "unigram": UnigramTokenizer(UNIGRAM, special_tokens=SPECIAL),
    "unigram, bytes": UnigramTokenizer(UNIGRAM + BYTES, byte_fallback=True, special_tokens=SPECIAL),
}
PARTS = [
    "the",
    " cat",
    "sat",
    " ",
    "  ",
    "\n",
    "'s",
    "don't",
    "12",
    "é",
    "É",
    "漢",
    "🙂",
    "e\u0301",
    "<end>",
    "<|user|>",
    "<en",
    "\x1b",
]
TEXTS = st.lists(st.sampled_from(PARTS) | st.text(max_size=3), max_size=12).map("".join)


@pytest.mark.parametrize("kind", TOKENIZERS)
@settings(derandomize=True, max_examples=25, deadline=None)
@given(text=TEXTS | st.binary(max_size=20), allowed=st.sampled_from([(), "all", ["<end>"]]))
def test_the_tokens_explained_are_those_of_encoding_at_their_places(kind, text, allowed):
    tokenizer = TOKENIZERS[kind]
    found = explain(tokenizer, text, allowed_special=allowed)
    ids, spans = tokenizer.encode_with_offsets(text, allowed_special=allowed)
    assert [token.token_id for token in found.tokens] == ids
    if isinstance(text, str):
        assert [(token.start, token.stop) for token in found.tokens] == spans
    assert all(token.steps or token.note or piece.special for piece in found.pieces for token in piece.tokens)
    for piece in found.pieces:
        assert all(piece.start <= token.start <= token.stop <= piece.stop for token in piece.tokens)


@pytest.mark.parametrize("kind", [name for name in TOKENIZERS if name.startswith(("bpe", "ranks"))])
@settings(derandomize=True, max_examples=25, deadline=None)
@given(text=TEXTS)
def test_the_merges_of_a_token_lead_from_its_bytes_to_it_and_are_the_tokenizers(kind, text):
    vocabulary = TOKENIZERS[kind].vocabulary
    rank_of = {
        (vocabulary.tokens[left], vocabulary.tokens[right]): rank
        for (left, right, _), rank in zip(vocabulary.merges.tolist(), vocabulary.ranks.tolist())
    }
    for token in explain(TOKENIZERS[kind], text).tokens:
        symbols = [bytes([value]) for value in token.token]
        for step in token.steps:
            assert (step.left, step.right) == tuple(symbols[step.new : step.new + 2])
            assert rank_of[step.left, step.right] == step.rank
            assert step.rank == min(rank_of[pair] for pair in zip(symbols, symbols[1:]) if pair in rank_of)
            symbols[step.new : step.new + 2] = [step.left + step.right]
            assert step.symbols == tuple(symbols)
        assert symbols == [token.token] or token.note.startswith("taken whole")


def test_merges_over_characters_lead_from_them_to_the_token():
    tokenizer = TOKENIZERS["sentencepiece"]
    rank_of = {pair: rank for rank, pair in enumerate(tokenizer.merges)}
    seen = 0
    for token in explain(tokenizer, TEXT).tokens:
        symbols = list(token.token.decode())
        for step in token.steps:
            pair = (step.left.decode(), step.right.decode())
            assert pair == tuple(symbols[step.new : step.new + 2]) and rank_of[pair] == step.rank
            symbols[step.new : step.new + 2] = ["".join(pair)]
            seen += 1
        assert len(symbols) == 1 or token.note == "for a character that has no token"
    assert seen > 50


def test_a_merge_has_the_counts_and_the_ties_of_training():
    steps = {step.title(visible): step for token in explain(BPE, TEXT, trace=TRACE).tokens for step in token.steps}
    tokens = BPE.vocabulary.tokens
    of_pair = {f"{visible(tokens[r.pair[0]])} + {visible(tokens[r.pair[1]])}": r for r in TRACE.records}
    assert len(steps) > 30
    for title, step in steps.items():
        record = of_pair[title]
        assert (step.facts.count, step.facts.runner_up_count) == (record.count, record.runner_up_count)
        assert step.tie_broken == record.tie_broken
        assert f"{record.count:,} times in training" in step.sentence(visible)
        assert ("a tie with" in step.sentence(visible)) == record.tie_broken
    assert any(step.tie_broken for step in steps.values()) and not all(step.tie_broken for step in steps.values())


def test_without_a_trace_there_are_ranks_and_that_is_said():
    found = explain(BPE, "the cat")
    assert any("ranks only" in sentence for sentence in found.about)
    assert all(re.fullmatch(r"rank \d+", step.sentence(visible)) for token in found.tokens for step in token.steps)


def test_the_trace_of_another_training_is_refused():
    with pytest.raises(TokenizerError, match="the trace is that of another training"):
        explain(BPETokenizer(BPE.merges[1:2] + BPE.merges[:1]), "the", trace=TRACE)
    with pytest.raises(TokenizerError, match="byte-level BPE only"):
        explain(TOKENIZERS["char"], "the", trace=TRACE)


def test_a_trace_holds_for_the_same_merges_under_other_ids():
    vocabulary = BPE.vocabulary
    turned = len(vocabulary.tokens) - 1 - vocabulary.merges
    other = BPETokenizer(BPEVocabulary(vocabulary.tokens[::-1], turned))
    sentences = lambda tokenizer: [
        step.sentence(visible) for token in explain(tokenizer, TEXT, trace=TRACE).tokens for step in token.steps
    ]
    assert sentences(other) == sentences(BPE)


@pytest.mark.parametrize("name", PATTERNS)
def test_every_alternative_of_the_named_patterns_is_put_in_words(name):
    parts = split_alternatives(PATTERNS[name])
    assert "|".join(parts) == PATTERNS[name] and set(parts) <= IN_WORDS.keys()


@pytest.mark.parametrize("name", PATTERNS)
@settings(derandomize=True, max_examples=50, deadline=None)
@given(text=TEXTS | st.text(max_size=8))
def test_every_cut_of_a_named_pattern_has_its_alternative(name, text):
    place = 0
    for piece in make_pretokenizer(name).split(as_text(text)):
        rule = matching_alternative(name, as_text(text), place, place + len(piece))
        assert rule in split_alternatives(PATTERNS[name])
        place += len(piece)


@settings(derandomize=True, max_examples=50, deadline=None)
@given(text=TEXTS | st.text(max_size=8))
@example(text="a\U000323b0\U000323b1")  # letters since Unicode 17, and not yet in the committed classes
def test_every_cut_of_an_expression_that_matches_everything_has_its_alternative(text):
    found = explain(TOKENIZERS["bpe, an expression"], text)
    assert all(piece.rule in (r"\p{L}+", r"[\s\S]") for piece in found.pieces)


@pytest.mark.parametrize("pattern, parts", [
    (r"a|b", ["a", "b"]), (r"a\|b|(?:c|d)|[|]|[]|]x", ["a\\|b", "(?:c|d)", "[|]", "[]|]x"]), (r"(?i)a|b", ["(?i)a", "(?i)b"]),
    ("", [""]), (r"[^]|]|\\|x", ["[^]|]", r"\\", "x"]),
])  # fmt: skip
def test_a_pattern_is_parted_where_its_alternatives_meet(pattern, parts):
    assert split_alternatives(pattern) == parts
    assert all(regex.compile(part) for part in parts)


def test_the_alternative_that_cut_is_the_first_one_that_matches():
    assert matching_alternative(r"ab|abc|a", "xabc", 1, 3) == "ab"
    assert matching_alternative(r"abc|ab", "xab", 1, 3) == "ab"
    assert matching_alternative(r"ab|abc", "xabc", 1, 4) is None
    assert matching_alternative(r"(a)b|c\1", "ab", 0, 2) is None  # the second part alone is no expression


def test_the_cuts_are_named_by_their_alternative():
    found = explain(BPE, "don't  go 12!")
    named = [(found.text[piece.start : piece.stop], piece.rule) for piece in found.pieces]
    assert named == [
        ("don", r" ?\p{L}+"), ("'t", r"'(?:[sdmt]|ll|ve|re)"), (" ", r"\s+(?!\S)"), (" go", r" ?\p{L}+"), (" 12", r" ?\p{N}+"),
        ("!", r" ?[^\s\p{L}\p{N}]+"),
    ]  # fmt: skip


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_a_special_tokens_name_that_stayed_text_is_explained(kind):
    text = "a<end>b" + "<|user|>" * 7
    about = explain(TOKENIZERS[kind], text, allowed_special=["<end>"]).about
    assert not any("<end>" in sentence for sentence in about)
    (sentence,) = [sentence for sentence in about if "<|user|>" in sentence]
    assert sentence.startswith("<|user|> at 7 to 15, 15 to 23,") and "and 2 more stayed plain text" in sentence


def test_wordpiece_names_what_it_looked_for():
    tokenizer = WordPieceTokenizer(["[UNK]", "un", "##aff", "##able"], special_tokens=["[UNK]"])
    notes = [token.note for token in explain(tokenizer, "unaffable").tokens]
    assert notes[0] == "the longest match: unaffable, unaffabl, unaffab, unaffa, unaff, unaf, una are none"
    assert notes[1:] == [
        "the longest match: ##affable, ##affabl, ##affab, ##affa are none",
        "all that is left of the word",
    ]
    (unknown,) = explain(tokenizer, "unxable").tokens
    assert unknown.note == "no token begins what is left from ##xable, so the word is unknown"
    (long,) = explain(tokenizer, "x" * 101).tokens
    assert "more than the 100" in long.note


@settings(derandomize=True, max_examples=50, deadline=None)
@given(
    st.text("abc", max_size=8),
    st.dictionaries(st.text("abc", min_size=1, max_size=3), st.integers(-40, -1).map(lambda n: n / 4), min_size=1),
)
def test_the_two_best_spellings_are_those_of_all(word, scores):
    unknown = min(scores.values()) - 10.0

    def all_spellings(rest):
        if not rest:
            yield 0.0, []
        for stop in range(1, len(rest) + 1):
            score = scores.get(rest[:stop], unknown if stop == 1 else None)
            if score is not None:
                yield from ((score + more, [rest[:stop], *tokens]) for more, tokens in all_spellings(rest[stop:]))

    ranked = sorted((score for score, _ in all_spellings(word)), reverse=True)
    best, second = two_best_spellings(word, scores, unknown, 3)
    assert best[0] == pytest.approx(ranked[0]) and "".join(best[1]) == word
    assert second[0] == pytest.approx(ranked[1]) if len(ranked) > 1 else second is None
    assert second is None or second[1] != best[1]
    spelt = spell_readable(word, scores, unknown, 3)
    if all(known for _, known in spelt):
        assert sum(scores[token] for token, _ in spelt) == pytest.approx(best[0])


def test_unigram_names_the_next_best_spelling():
    (piece,) = explain(TOKENIZERS["unigram"], "the").pieces
    assert piece.note == "normalised to ▁the; log-probability -4.000; next best ▁th e, -7.500"


def test_the_page_stands_alone_and_lets_no_text_in_as_markup():
    page = to_html(
        explain(BPE, "<script>alert(1)</script>\"'&\u202e the\n cat<end>", trace=TRACE, allowed_special="all")
    )
    assert "<script>alert" not in page and "\u202e" not in page
    assert not re.search(r"""(src|href)\s*=|url\(|@import""", page)
    assert page.count("<script>") == 1 and "default-src 'none'" in page
    tokens = re.findall(r'<button [^>]*data-of="(\w+)"', page)
    assert len(tokens) == len(
        explain(BPE, "<script>alert(1)</script>\"'&\u202e the\n cat<end>", allowed_special="all").tokens
    )
    assert set(tokens) == set(re.findall(r'<article id="(\w+)"', page))
    assert page == to_html(
        explain(BPE, "<script>alert(1)</script>\"'&\u202e the\n cat<end>", trace=TRACE, allowed_special="all")
    )
