"""WordPiece, Unigram and byte-pair encoding over characters: each equal to its readable twin, and true to its promises."""

import itertools
import json
import math
import time
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenizer import (
    SentencePieceTokenizer,
    SpecialTokenError,
    TokenizerError,
    TrainingError,
    Trusted,
    UnigramTokenizer,
    Untrusted,
    WordPieceTokenizer,
)
from tokenizer import normalizers as n
from tokenizer.byte_tokens import BYTE_TOKENS
from tokenizer.sentencepiece_readable import spell_readable as merge_readable
from tokenizer.symbol_train import learn_tokens
from tokenizer.unigram_readable import UNKNOWN_PENALTY, add_logs, expected_counts_readable
from tokenizer.unigram_readable import spell_readable as viterbi_readable
from tokenizer.unigram_train import _Corpus, digamma
from tokenizer.wordpiece_readable import spell_readable as longest_readable

TEXT = (
    "the cat sat on the mat, and the cats sat on the mats; that cat's hat is flat. caf\u00e9 na\u00efve \u4e2d\u6587 "
    "\u043f\u0440\u0438\u0432\u0435\u0442 aaaa aaa aa a banana bandana ananas " * 3
)
SPECIAL = ["<unk>", "<s>", "</s>"]
WORDPIECE = WordPieceTokenizer.train(TEXT, 90)
CASED = WordPieceTokenizer.train(TEXT, 90, normalizers=[n.Bert(lowercase=False)])
SENTENCEPIECE = SentencePieceTokenizer.train(TEXT, 340)
METASPACED = SentencePieceTokenizer(
    SENTENCEPIECE.vocabulary,
    SENTENCEPIECE.merges,
    special_tokens=SPECIAL,
    normalizers=[n.Metaspace()],
    split="metaspace",
)
NO_BYTES = SentencePieceTokenizer.train(TEXT, 80, byte_fallback=False, character_coverage=0.95)
UNIGRAM = UnigramTokenizer.train(TEXT, 80, character_coverage=0.95)
UNIGRAM_BYTES = UnigramTokenizer.train(TEXT, 340, byte_fallback=True, normalizers=[n.Metaspace()])
WHOLE = UnigramTokenizer(UNIGRAM.pieces, special_tokens=SPECIAL, split="none")
ALL = [WORDPIECE, CASED, SENTENCEPIECE, METASPACED, NO_BYTES, UNIGRAM, UNIGRAM_BYTES, WHOLE]
LOSSLESS = [SENTENCEPIECE]
NAMES = ["wordpiece", "cased", "sentencepiece", "metaspaced", "no bytes", "unigram", "unigram bytes", "whole"]
every = pytest.mark.parametrize("tokenizer", ALL, ids=NAMES)

LETTERS = st.sampled_from("aabntthe s\u2581\u00e9\u4e2d\u2603 ,.'\u0301<>/")
TEXTS = st.text(st.one_of(LETTERS, st.characters(exclude_categories=["Cs"])), max_size=30)
BYTES = st.lists(
    st.sampled_from([b"a", b"the ", b" ", b"\xc3", b"\xa9", b"\xff", b"\xed\xb2\x80", b"\xe2\x96\x81"])
).map(b"".join)


def ordinary(tokenizer):
    special = {*tokenizer.special_tokens, tokenizer.unknown_token}
    return {token: m for m, token in enumerate(tokenizer.vocabulary) if token is not None and token not in special}


@settings(derandomize=True, max_examples=300, deadline=None)
@given(
    st.text(st.one_of(st.sampled_from("catshemn"), st.characters(exclude_categories=["Cs"])), min_size=1, max_size=12)
)
def test_wordpiece_takes_the_longest_tokens_as_its_readable_twin(word):
    ids, _, _ = CASED._spell([word])
    expected = longest_readable(word, ordinary(CASED), CASED.special_tokens["[UNK]"], "##", 100)
    assert ids.tolist() == [token_id for token_id, _ in expected]


@settings(derandomize=True, max_examples=300, deadline=None)
@given(TEXTS.filter(bool), st.sampled_from([UNIGRAM, UNIGRAM_BYTES]))
def test_unigram_finds_the_spelling_of_its_readable_twin(word, tokenizer):
    ids_of = {
        token: m for token, m in ordinary(tokenizer).items() if not (tokenizer.byte_fallback and token in BYTE_TOKENS)
    }
    scores = {token: tokenizer.pieces[m][1] for token, m in ids_of.items()}
    unknown_score = min(score for _, score in tokenizer.pieces) - UNKNOWN_PENALTY
    expected = []
    for piece, known in viterbi_readable(word, scores, unknown_score, max(map(len, scores))):
        if known:
            expected.append(ids_of[piece])
        elif tokenizer.byte_fallback:
            expected += [tokenizer.vocabulary.index(BYTE_TOKENS[value]) for value in piece.encode()]
        else:
            expected.append(tokenizer.special_tokens["<unk>"])
    assert tokenizer._spell([word]).ids.tolist() == expected


@settings(derandomize=True, max_examples=300, deadline=None)
@given(TEXTS.filter(bool), st.sampled_from([SENTENCEPIECE, NO_BYTES]))
def test_merges_over_characters_are_those_of_the_readable_twin(word, tokenizer):
    ids_of = {token: m for m, token in enumerate(tokenizer.vocabulary)}
    ranks = {
        (ids_of[left], ids_of[right]): (rank, ids_of[left + right])
        for rank, (left, right) in enumerate(tokenizer.merges)
    }
    fallback = tokenizer.byte_fallback
    assert tokenizer._spell([word]).ids.tolist() == merge_readable(word, ids_of, ranks, fallback, ids_of["<unk>"], True)


@every
@settings(derandomize=True, max_examples=60, deadline=None)
@given(text=st.one_of(TEXTS, BYTES))
def test_short_texts_get_the_same_ids_without_numba(tokenizer, text):
    for word in tokenizer._cut(text if isinstance(text, str) else text.decode("utf-8", "surrogateescape")):
        assert tokenizer._spell_plainly(word) == tokenizer._spell([word]).ids.tolist()


@every
@settings(derandomize=True, max_examples=60, deadline=None)
@given(text=st.one_of(TEXTS, BYTES))
def test_decoding_gives_what_the_normalisation_left(tokenizer, text):
    ids = tokenizer.encode(text)
    assert max(ids, default=0) < tokenizer.vocab_size
    assert "".join(map((decoder := tokenizer.stream_decoder()).feed, ids)) + decoder.flush() == tokenizer.decode(ids)
    if tokenizer in LOSSLESS and isinstance(text, str):
        assert tokenizer.decode(ids) == text.replace("\u2581", " ")
    if tokenizer in LOSSLESS and isinstance(text, bytes):
        assert tokenizer.decode_bytes(ids) == text.replace(b"\xe2\x96\x81", b" ")
    assert tokenizer.encode_to_array(text).tolist() == ids


@every
@settings(derandomize=True, max_examples=60, deadline=None)
@given(text=st.one_of(TEXTS, BYTES))
def test_offsets_cover_the_text_in_order(tokenizer, text):
    ids, offsets = tokenizer.encode_with_offsets(text)
    assert ids == tokenizer.encode(text)
    assert len(offsets) == len(ids)
    assert all(0 <= start <= stop <= len(text) for start, stop in offsets)
    assert sorted(offsets) == offsets
    if tokenizer is SENTENCEPIECE and ids:  # nothing is left out
        assert offsets[-1][1] == len(text)
        assert all(later[0] <= earlier[1] for earlier, later in itertools.pairwise(offsets))


def test_offsets_lead_through_the_normalisation():
    text = "The CAF\u00c9\u0000S"
    ids, offsets = WORDPIECE.encode_with_offsets(text)
    shown = [text[start:stop] for start, stop in offsets]
    assert shown[0] == "The" and "".join(shown[1:]).replace("\u0000", "") == "CAF\u00c9S"
    assert offsets[-1][1] == len(text)
    ids, offsets = SENTENCEPIECE.encode_with_offsets([Trusted("<s>"), Untrusted("the \u2603")])
    assert ids[0] == SENTENCEPIECE.special_tokens["<s>"] and offsets[0] == (0, 3)
    assert offsets[-3:] == [(7, 8)] * 3  # three bytes of one character


@every
@settings(derandomize=True, max_examples=40, deadline=None)
@given(
    parts=st.lists(
        st.sampled_from(["the cat", " ", "  ", " sat", "\u0301", "\u2581", "\u00a0", "x", "<s>", "\u2603", "\n"]),
        max_size=12,
    ),
    cut=st.integers(1, 9),
)
def test_streaming_gives_the_ids_of_the_whole(tokenizer, parts, cut, monkeypatch_characters):
    text = "".join(parts)
    chunks = [text[place : place + cut] for place in range(0, len(text), cut)]
    allowed = {"<s>"} & set(tokenizer.special_tokens)
    assert list(tokenizer.encode_iterable(chunks, allowed_special=allowed)) == tokenizer.encode(
        text, allowed_special=allowed
    )


@pytest.mark.parametrize(
    "chain",
    [
        [n.Replace(" ", "\u2581"), n.Replace("t\u2581", "c")],
        [n.Replace("t", " "), n.Replace(" ", "\u2581")],
        [n.Replace(" t", "c"), n.Metaspace()],
    ],
)
def test_streaming_waits_where_a_replacement_reaches_over_a_space(chain, monkeypatch_characters):
    space = "\u2581"
    tokens, merges = [*SENTENCEPIECE.vocabulary, space * 2, "ac"], [(space, space), ("a", "c")]
    tokenizer = SentencePieceTokenizer(tokens, merges, special_tokens=SPECIAL, normalizers=chain)
    text = "at the cat sat the cat t the " * 3
    assert list(tokenizer.encode_iterable(list(text))) == tokenizer.encode(text)


@pytest.fixture(scope="module")
def monkeypatch_characters():
    from tokenizer import streaming

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streaming, "_CHARACTERS", 5)
        yield


@pytest.mark.parametrize("tokenizer", [WORDPIECE, SENTENCEPIECE, METASPACED, UNIGRAM])
def test_a_long_text_of_words_is_streamed_in_pieces(tokenizer):
    taken = 0

    def chunks():
        nonlocal taken
        for _ in range(40_000):
            taken += 1
            yield "the cat sat, "

    ids = tokenizer.encode_iterable(chunks())
    next(ids)
    assert taken < 5000


@every
@settings(derandomize=True, max_examples=100, deadline=None)
@given(
    parts=st.lists(
        st.sampled_from(
            [
                "<s>",
                "</s>",
                "<",
                "s>",
                "/s",
                "\uff1cs\uff1e",
                "<\u017f>",
                "<S>",
                "<s\u0301>",
                "<\u0000s>",
                "[CLS]",
                "[cls]",
                "CLS",
            ]
            + [b"<s", b">", b"<\xffs>", b"<s\xcc", b"\x81>", "\ufe64s\ufe65", "\u2581<s>", "<0x41>", " ", "[MASK]"]
        )
    )
)
def test_no_untrusted_text_makes_a_special_token(tokenizer, parts):
    name = next(name for name in tokenizer.special_tokens if name != tokenizer.unknown_token)
    ids = tokenizer.encode([Trusted(name), *map(Untrusted, parts), Trusted(name)])
    special = {m for other, m in tokenizer.special_tokens.items() if other != tokenizer.unknown_token}
    assert [m for m in ids if m in special] == [tokenizer.special_tokens[name]] * 2


def test_normalisation_makes_a_name_and_it_stays_text():
    plain = "\uff1cs\uff1e"
    assert n.Unicode("NFKC").apply(plain) == "<s>"
    pieces = [*UNIGRAM.pieces, ("<", -9.0), (">", -9.0)]
    tokenizer = UnigramTokenizer(pieces, special_tokens=SPECIAL, normalizers=UNIGRAM.normalizers)
    assert tokenizer.decode(tokenizer.encode(plain)) == "<s>"
    assert tokenizer.special_tokens["<s>"] not in tokenizer.encode(plain)


@every
@pytest.mark.parametrize(
    "text", ["a" * 1_000_000, " " * 1_000_000, "ab" * 500_000, "\u00e9" * 300_000], ids=["a", "space", "ab", "accent"]
)
@pytest.mark.slow
def test_long_runs_take_linear_time(tokenizer, text):
    tokenizer.encode("warm")
    begin = time.perf_counter()
    tokenizer.encode(text)
    assert time.perf_counter() - begin < 10  # a second on a quiet machine


def test_wordpiece_as_in_bert():
    assert WORDPIECE.decode(WORDPIECE.encode("The CAT, sat!")).startswith("the cat, sat")
    unknown = WORDPIECE.special_tokens["[UNK]"]
    assert WORDPIECE.encode("\u2603") == [unknown]
    assert WORDPIECE.encode("a" * 101) == [unknown] and unknown not in WORDPIECE.encode("a" * 100)
    kept = WordPieceTokenizer(WORDPIECE.vocabulary, cleanup=False)
    assert kept.decode(kept.encode("cat.")) == "cat ." and WORDPIECE.decode(WORDPIECE.encode("cat.")) == "cat."


def test_training_is_the_same_every_time_and_of_the_size_asked_for():
    for kind, size in ((WordPieceTokenizer, 70), (SentencePieceTokenizer, 320), (UnigramTokenizer, 45)):
        one, other = kind.train(TEXT, size), kind.train(iter([TEXT]), size)
        assert one.to_dict() == other.to_dict()
        assert one.vocab_size == size


def test_training_learns_nothing_from_special_tokens():
    tokenizer = SentencePieceTokenizer.train("the<s>cat " * 50, 300)
    assert "the" in "".join(tokenizer.vocabulary) and not any("<" in left + right for left, right in tokenizer.merges)


def test_training_says_what_is_missing():
    for kind in (WordPieceTokenizer, SentencePieceTokenizer, UnigramTokenizer):
        with pytest.raises(TrainingError, match="room"):
            kind.train(TEXT, 10)
        with pytest.raises(TrainingError, match="got none"):
            kind.train("", 500)
        with pytest.raises(TrainingError, match="vocab_size"):
            kind.train(TEXT, "many")
        with pytest.raises(TrainingError, match="UNK|unk"):
            kind.train(TEXT, 500, special_tokens=["<s>"])
    with pytest.raises(TrainingError, match="character_coverage"):
        UnigramTokenizer.train(TEXT, 500, character_coverage=0)


@settings(derandomize=True, max_examples=30, deadline=None)
@given(st.dictionaries(st.text("abc", min_size=1, max_size=8), st.integers(1, 9), min_size=1, max_size=6))
def test_expected_counts_are_those_of_the_readable_twin(words):
    scores = {"a": -1.0, "b": -1.5, "c": -2.0, "ab": -2.2, "bc": -2.0, "abc": -2.5, "aa": -1.7}
    found, total = _Corpus(words).expected(scores)
    expected, expected_total = expected_counts_readable(words, scores, 3)
    assert total == pytest.approx(expected_total)
    assert found == pytest.approx({token: expected.get(token, 0.0) for token in scores})


def test_digamma_at_known_values():
    gamma = 0.57721566490153286
    assert digamma(1) == pytest.approx(-gamma, abs=1e-10)
    assert digamma(0.5) == pytest.approx(-gamma - 2 * math.log(2), abs=1e-10)
    assert digamma(30) == pytest.approx(sum(1 / k for k in range(1, 30)) - gamma, abs=1e-10)


def spellings(word, scores):
    """Every spelling, with its log-probability."""
    if not word:
        yield (), 0.0
    for token, score in scores.items():
        if word.startswith(token):
            for rest, total in spellings(word[len(token) :], scores):
                yield (token, *rest), score + total


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_samples_come_as_often_as_their_probability_says(alpha):
    scores = {"a": -1.0, "b": -1.5, "ab": -2.2, "aba": -2.4, "ba": -2.0}
    tokenizer = UnigramTokenizer([("<unk>", 0.0), *scores.items()], special_tokens=["<unk>"], normalizers=[])
    weights = {spelling: alpha * total for spelling, total in spellings("abab", scores)}
    whole = -math.inf
    for weight in weights.values():
        whole = add_logs(whole, weight)
    draws = 4000
    counts = Counter()
    for seed in range(40):
        ids = tokenizer.sample(
            [part for _ in range(draws // 40) for part in (Untrusted("abab"), Trusted("<unk>"))], alpha=alpha, seed=seed
        )
        for is_end, run in itertools.groupby(ids, lambda m: m == 0):
            if not is_end:
                counts[tuple(tokenizer.vocabulary[m] for m in run)] += 1
    assert sum(counts.values()) == draws and set(counts) <= set(weights)
    for spelling, weight in weights.items():
        probability = math.exp(weight - whole)
        assert abs(counts[spelling] / draws - probability) < 4 * math.sqrt(probability / draws) + 1e-3


def test_sampling_is_seeded_and_becomes_encoding():
    text = "the cats sat \u2603 <s>"
    assert UNIGRAM.sample(text, seed=3, alpha=0.1) == UNIGRAM.sample(text, seed=3, alpha=0.1)
    assert len({tuple(UNIGRAM.sample(text, seed=seed, alpha=0.1)) for seed in range(20)}) > 3
    for tokenizer in (UNIGRAM, UNIGRAM_BYTES):
        assert tokenizer.sample(text, seed=0, alpha=500.0, allowed_special="all") == tokenizer.encode(
            text, allowed_special="all"
        )
    assert all(UNIGRAM_BYTES.decode(UNIGRAM_BYTES.sample(text, seed=seed)) == text for seed in range(20))
    with pytest.raises(ValueError, match="alpha"):
        UNIGRAM.sample("a", seed=0, alpha=-1)


def test_wrong_vocabularies_are_refused():
    words = ["[UNK]", "a", "##b"]
    for tokens, message in (
        (["[UNK]", "a", "a"], "two ids"),
        ([], "empty"),
        (["a"], "unknown token"),
        (["[UNK]", ""], "not empty"),
    ):
        with pytest.raises(TokenizerError, match=message):
            WordPieceTokenizer(tokens)
    with pytest.raises(TokenizerError, match="longest_word"):
        WordPieceTokenizer(words, longest_word=0)
    with pytest.raises(SpecialTokenError, match="'a' has id 9"):
        WordPieceTokenizer(words, special_tokens={"a": 9})
    with pytest.raises(TokenizerError, match="256 are missing"):
        SentencePieceTokenizer(["<unk>", "a"], [], byte_fallback=True)
    with pytest.raises(TokenizerError, match="not in the vocabulary"):
        SentencePieceTokenizer(["<unk>", "a", "b"], [("a", "b")], byte_fallback=False)
    with pytest.raises(TokenizerError, match="text must not make it"):
        SentencePieceTokenizer(["<unk>", "<", "s>", "<s>"], [("<", "s>")], byte_fallback=False, special_tokens=["<s>"])
    for kind, learnt in ((SentencePieceTokenizer, SENTENCEPIECE.merges), (UnigramTokenizer, None)):
        vocabulary = SENTENCEPIECE.vocabulary if learnt else UNIGRAM_BYTES.pieces
        with pytest.raises(SpecialTokenError, match="<0x98>"):  # a snowman would make it
            kind(vocabulary, *([learnt] if learnt else []), byte_fallback=True, special_tokens=["<unk>", "<0x98>"])
    with pytest.raises(TokenizerError, match="finite"):
        UnigramTokenizer([("<unk>", 0.0), ("a", math.nan)])
    with pytest.raises(TokenizerError, match="metaspace"):
        UnigramTokenizer(UNIGRAM.pieces, split="bert")
    with pytest.raises(TokenizerError, match="piece 1 .* expected a token"):
        UnigramTokenizer([("<unk>", 0.0), (None, -1.0)])
    with pytest.raises(TokenizerError, match="unknown token, or use byte_fallback"):
        UnigramTokenizer([("a", 0.0)], unknown_token=None)


def learn_readable(words, size, join):
    """The rule of symbol_train.learn_tokens with every count taken anew."""
    tokens = sorted({symbol for word in words for symbol in word}, key=lambda symbol: (len(symbol), symbol))
    spellings = {word: list(word) for word in words}
    merges = []
    while len(tokens) < size:
        counts = Counter()
        for word, count in words.items():
            for pair in itertools.pairwise(spellings[word]):
                counts[pair] += count
        if not counts:
            break
        order = {token: number for number, token in enumerate(tokens)}
        left, right = min(counts, key=lambda pair: (-counts[pair], order[pair[0]], order[pair[1]]))
        merges.append((left, right))
        if join(left, right) not in order:
            tokens.append(join(left, right))
        for spelling in spellings.values():
            place = 0
            while place + 1 < len(spelling):
                if spelling[place : place + 2] == [left, right]:
                    spelling[place : place + 2] = [join(left, right)]
                place += 1
    return tokens, merges


@settings(derandomize=True, max_examples=100, deadline=None)
@given(
    st.dictionaries(st.text("aab", min_size=1, max_size=9), st.integers(1, 5), min_size=1, max_size=5), st.booleans()
)
def test_learning_tokens_is_the_same_as_counting_anew(words, wordpiece):
    if wordpiece:
        words = {(word[0], *("##" + letter for letter in word[1:])): count for word, count in words.items()}
    else:
        words = {tuple(word): count for word, count in words.items()}
    join = (lambda left, right: left + right.removeprefix("##")) if wordpiece else (lambda left, right: left + right)
    assert learn_tokens(words, 12, join) == learn_readable(words, 12, join)


@settings(derandomize=True, max_examples=60, deadline=None)
@given(
    st.lists(st.text("aabc ", min_size=1, max_size=25), min_size=1, max_size=6).filter(
        lambda texts: "".join(texts).strip()
    )
)
def test_merges_over_characters_are_learnt_as_hugging_face_learns_them(texts):
    hf = pytest.importorskip("tokenizers", reason="the comparison with Hugging Face's tokenizers needs it installed")
    peer = hf.Tokenizer(hf.models.BPE())
    peer.pre_tokenizer = hf.pre_tokenizers.WhitespaceSplit()
    peer.train_from_iterator(texts, hf.trainers.BpeTrainer(vocab_size=12, show_progress=False))
    words = Counter(tuple(word) for text in texts for word in text.split())
    tokens, merges = learn_tokens(words, 12, lambda left, right: left + right)
    assert [list(merge) for merge in merges] == json.loads(peer.to_str())["model"]["merges"]
    assert {token: number for number, token in enumerate(tokens)} == peer.get_vocab()
