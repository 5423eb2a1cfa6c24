"""Held to the peers: GPT-2's published files, tiktoken, and Hugging Face's tokenizers."""

import json
import pathlib
import random
import sysconfig
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenizer import BPETokenizer, BPEVocabulary
from tokenizer.patterns import PATTERNS

DATA = pathlib.Path(__file__).parents[2].parent / "shared/data"
GPT2_FILES = (DATA / "gpt2.vocab.bpe", DATA / "gpt2.encoder.json")
needs_gpt2 = pytest.mark.skipif(
    not all(path.exists() for path in GPT2_FILES),
    reason="needs gpt2.vocab.bpe and gpt2.encoder.json in ../shared/data",
)
TEXTS = ["tinyshakespeare.txt", "wikitext2.test.txt", "wikitext2.valid.txt"]


def byte_of_character():
    """GPT-2's files write each byte as one visible character: itself if visible, else the next one from U+0100 on."""
    visible = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [value for value in range(256) if value not in visible]
    return {chr(value): value for value in visible} | {chr(0x100 + n): value for n, value in enumerate(hidden)}


@pytest.fixture(scope="module")
def gpt2():
    """Our tokenizer from the merges alone, and the published vocabulary."""
    byte_of = byte_of_character()
    published = json.loads(GPT2_FILES[1].read_text(encoding="utf-8"))
    lines = GPT2_FILES[0].read_text(encoding="utf-8").split("\n")[1:-1]
    named = [tuple(line.split(" ")) for line in lines]
    tokenizer = BPETokenizer(
        [(published[left], published[right]) for left, right in named], special_tokens=["<|endoftext|>"]
    )
    bytes_of = {name: bytes(byte_of[c] for c in name) for name in published if name != "<|endoftext|>"}
    return SimpleNamespace(tokenizer=tokenizer, published=published, named=named, bytes_of=bytes_of)


@needs_gpt2
def test_gpt2_merges_give_the_published_vocabulary_and_ids(gpt2):
    assert gpt2.tokenizer.vocab_size == len(gpt2.published) == 50_257
    assert gpt2.tokenizer.special_tokens == {"<|endoftext|>": gpt2.published["<|endoftext|>"]}
    for name, data in gpt2.bytes_of.items():
        assert gpt2.tokenizer.token_bytes(gpt2.published[name]) == data
    ids = gpt2.tokenizer.encode("Hello, I'm a language model,<|endoftext|>", allowed_special="all")
    assert ids == [15496, 11, 314, 1101, 257, 3303, 2746, 11, 50256]


@pytest.fixture(scope="module")
def tiktoken_encode(gpt2):
    tiktoken = pytest.importorskip("tiktoken", reason="the comparison with tiktoken needs it installed")
    ranks = {data: gpt2.published[name] for name, data in gpt2.bytes_of.items()}
    encoding = tiktoken.Encoding("gpt2", pat_str=PATTERNS["gpt2"], mergeable_ranks=ranks, special_tokens={})
    return encoding.encode_ordinary


@pytest.fixture(scope="module")
def hugging_face_encode(gpt2):
    hf = pytest.importorskip("tokenizers", reason="the comparison with Hugging Face's tokenizers needs it installed")
    peer = hf.Tokenizer(hf.models.BPE(vocab=gpt2.published, merges=gpt2.named))
    peer.pre_tokenizer = hf.pre_tokenizers.ByteLevel(add_prefix_space=False)
    return lambda text: peer.encode(text).ids


@needs_gpt2
@pytest.mark.parametrize("peer", ["tiktoken_encode", "hugging_face_encode"])
class TestGpt2IdsAreThoseOfThePeer:
    @pytest.mark.parametrize("name", TEXTS)
    def test_on_real_text(self, gpt2, peer, name, request):
        if not (DATA / name).exists():
            pytest.skip(f"needs {name} in ../shared/data")
        text = (DATA / name).read_text(encoding="utf-8")
        ids = gpt2.tokenizer.encode(text)
        assert ids == request.getfixturevalue(peer)(text)
        assert gpt2.tokenizer.decode(ids) == text

    @pytest.mark.slow
    def test_on_every_code_point_in_every_place(self, gpt2, peer, request):
        encode = request.getfixturevalue(peer)
        characters = [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000]
        text = "".join(f"a{c}1{c} {c}. {c}{c}'{c}" for c in characters if ord(c) < 0x3400 or ord(c) % 64 == 0)
        for part in ("".join(characters), text):
            assert gpt2.tokenizer.encode(part) == encode(part)

    def test_on_random_text(self, gpt2, peer, request):
        encode = request.getfixturevalue(peer)

        @settings(derandomize=True, max_examples=500, deadline=None)
        @given(st.text(st.one_of(st.characters(exclude_categories=["Cs"]), st.sampled_from(" \n\u00a0'stlre1\u00e9"))))
        def check(text):
            assert gpt2.tokenizer.encode(text) == encode(text)

        check()


ANY_TEXT = st.text(
    st.one_of(st.characters(exclude_categories=["Cs"]), st.sampled_from(" \n\r\t\u00a0'stlreLS\u017f1/.\u00e9\u0301"))
)


@pytest.fixture(scope="module")
def trained_ranks():
    """Ranks that we learn, for the patterns whose published ones cannot be had here."""
    texts = [text * 3 for text in standard_library()[::60]]

    def train(pattern):
        tokenizer = BPETokenizer.train(texts, 2000, pattern=pattern)
        return {tokenizer.token_bytes(token_id): token_id for token_id in range(tokenizer.vocab_size)}

    return train


@pytest.fixture(params=PATTERNS)
def rank_pair(request, trained_ranks):
    """Our encoder and tiktoken's, of the same ranks."""
    tiktoken = pytest.importorskip("tiktoken", reason="the comparison with tiktoken needs it installed")
    ranks = trained_ranks(request.param)
    expression = PATTERNS[request.param].replace(r"\Z", "$")
    peer = tiktoken.Encoding(request.param, pat_str=expression, mergeable_ranks=ranks, special_tokens={})
    ours = BPETokenizer(BPEVocabulary.from_ranks(ranks), pattern=request.param)
    return ours.encode, peer.encode_ordinary


class TestRanksGiveTheIdsOfTiktokenWithEachPattern:
    def test_on_source_code(self, rank_pair):
        ours, peer = rank_pair
        for text in standard_library()[1::90]:
            assert ours(text) == peer(text)

    def test_on_random_text(self, rank_pair):
        ours, peer = rank_pair

        @settings(derandomize=True, max_examples=300, deadline=None)
        @given(ANY_TEXT)
        def check(text):
            assert ours(text) == peer(text)

        check()

    @pytest.mark.slow
    def test_on_a_hundred_thousand_random_texts(self, rank_pair):
        ours, peer = rank_pair

        @settings(derandomize=True, max_examples=100_000, deadline=None, database=None)
        @given(st.one_of(ANY_TEXT, st.text(st.characters())))
        def check(text):
            assert ours(text) == peer(text)

        check()

    @pytest.mark.slow
    def test_on_every_code_point_in_every_place(self, rank_pair):
        ours, peer = rank_pair
        characters = [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000]
        text = "".join(f"a{c}1{c} {c}. {c}{c}'{c}A{c}B" for c in characters if ord(c) < 0x3400 or ord(c) % 64 == 0)
        for part in ("".join(characters), text):
            assert ours(part) == peer(part)

    @pytest.mark.slow
    def test_on_whole_corpora(self, rank_pair):
        ours, peer = rank_pair
        texts = [(DATA / name).read_text(encoding="utf-8") for name in TEXTS if (DATA / name).exists()]
        for text in [*texts, "".join(standard_library())]:
            assert ours(text) == peer(text)


@needs_gpt2
@pytest.mark.parametrize("text", ["\ud800", "a\udc00b", "\ud83d\ude00", "\ude00\ud83d"])
def test_surrogates_are_treated_as_in_tiktoken(gpt2, tiktoken_encode, text):
    assert gpt2.tokenizer.encode(text) == tiktoken_encode(text)


def merges_of_hugging_face(texts, vocab_size):
    """The pairs of byte strings that it learns."""
    hf = pytest.importorskip("tokenizers", reason="the comparison with Hugging Face's tokenizers needs it installed")
    peer = hf.Tokenizer(hf.models.BPE())
    peer.pre_tokenizer = hf.pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = hf.pre_tokenizers.ByteLevel.alphabet()
    peer.train_from_iterator(
        texts, hf.trainers.BpeTrainer(vocab_size=vocab_size, initial_alphabet=alphabet, show_progress=False)
    )
    byte_of = byte_of_character()
    merges = json.loads(peer.to_str())["model"]["merges"]
    return [tuple(bytes(byte_of[character] for character in part) for part in merge) for merge in merges]


def our_merges(texts, vocab_size):
    tokenizer = BPETokenizer.train(texts, vocab_size)
    return [tuple(map(tokenizer.token_bytes, merge)) for merge in tokenizer.merges]


# Few letters and short texts: almost every choice is a tie, and runs of one letter are common.
TIES = st.lists(st.text(st.sampled_from("aab \n!\u00e9"), min_size=1, max_size=25), min_size=1, max_size=8)


@settings(derandomize=True, max_examples=300, deadline=None)
@given(TIES)
def test_training_learns_the_merges_of_hugging_face_where_everything_ties(texts):
    assert our_merges(texts, 290) == merges_of_hugging_face(texts, 290)


def standard_library():
    root = pathlib.Path(sysconfig.get_path("stdlib"))
    files = sorted(path for path in root.rglob("*.py") if "site-packages" not in path.parts)
    return [path.read_bytes().decode("utf-8", "ignore") for path in files]


def test_training_learns_the_merges_of_hugging_face_on_source_code():
    texts = random.Random(0).sample(standard_library(), 60)
    assert our_merges(texts, 2048) == merges_of_hugging_face(texts, 2048)


@pytest.mark.slow
def test_training_learns_the_merges_of_hugging_face_on_the_whole_standard_library():
    texts = standard_library()
    assert our_merges(texts, 16_384) == merges_of_hugging_face(texts, 16_384)
