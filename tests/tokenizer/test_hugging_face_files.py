"""Files that Hugging Face's tokenizers wrote, read here: the same ids, on text of every kind."""

import base64
import functools
import itertools
import json
import pathlib
import random
import sysconfig

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenizer import formats
from tokenizer.byte_tokens import BYTE_TOKENS
from tokenizer.formats.huggingface_steps import _WRITTEN

from .charsmaps import CHARSMAP, write_charsmap

hf = pytest.importorskip("tokenizers", reason="the comparison with Hugging Face's tokenizers needs it installed")
from tokenizers import models, pre_tokenizers, trainers  # noqa: E402
from tokenizers import normalizers as steps  # noqa: E402

DATA = pathlib.Path(__file__).parents[2].parent / "shared/data"
LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN = LLAMA3.replace("{1,3}", "")
WORDS = ["<unk>", "<s>", "</s>"]


def standard_library():
    root = pathlib.Path(sysconfig.get_path("stdlib"))
    files = sorted(path for path in root.rglob("*.py") if "site-packages" not in path.parts)
    return [path.read_bytes().decode("utf-8", "ignore") for path in files]


@functools.cache
def training_text():
    """A little of the library's source, and enough characters of other scripts to learn from."""
    chance = random.Random(0)
    root = pathlib.Path(sysconfig.get_path("stdlib"))
    lines = [
        line for name in ("inspect", "ast") for line in (root / f"{name}.py").read_text(encoding="utf-8").split("\n")
    ]
    scripts = [
        "\u00e9\u00e8\u00fc\u00df\u00c5",
        "\u0430\u0431\u0432\u0433\u0434\u0416",
        "\u4e2d\u6587\u5b57",
        "\ud55c\uad6d\uc5b4",
    ]
    other = ["".join(chance.choices(letters, k=4)) for letters in scripts for _ in range(60)]
    return [line.replace("<", "").replace(">", "") for line in [*lines[:1200], " ".join(other)]]


def byte_level(expression, before=None, **settings_of_model):
    peer = hf.Tokenizer(models.BPE(**settings_of_model))
    bytes_of = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=expression is None)
    if expression is not None:
        before = pre_tokenizers.Split(hf.Regex(expression), "isolated")
    peer.pre_tokenizer = bytes_of if before is None else pre_tokenizers.Sequence([before, bytes_of])
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=900, initial_alphabet=alphabet, special_tokens=WORDS[1:], show_progress=False
    )
    peer.train_from_iterator(training_text(), trainer)
    return peer


def llama(normalizer=None, pre_tokenizer=None, byte_fallback=True, fuse_unk=True):
    peer = hf.Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=fuse_unk, byte_fallback=byte_fallback))
    if normalizer is not None:
        peer.normalizer = normalizer
    if pre_tokenizer is not None:
        peer.pre_tokenizer = pre_tokenizer
    special = [*WORDS, *(BYTE_TOKENS if byte_fallback else ())]
    trainer = trainers.BpeTrainer(vocab_size=1200, special_tokens=special, show_progress=False)
    words = [f" {word}" for line in training_text() for word in line.split(" ")] if pre_tokenizer is None else None
    peer.train_from_iterator(words or training_text(), trainer)
    data = json.loads(peer.to_str())
    data["added_tokens"] = data["added_tokens"][: len(WORDS)]
    return hf.Tokenizer.from_str(json.dumps(data))


def wordpiece(**settings_of_normalizer):
    peer = hf.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    peer.normalizer = steps.BertNormalizer(**settings_of_normalizer)
    peer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    peer.decoder = hf.decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(
        vocab_size=900, special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"], show_progress=False
    )
    peer.train_from_iterator(training_text(), trainer)
    peer.post_processor = hf.processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return peer


def unigram(normalizer, pre_tokenizer, byte_fallback=False):
    peer = hf.Tokenizer(models.Unigram())
    peer.normalizer = normalizer
    peer.pre_tokenizer = pre_tokenizer
    trainer = trainers.UnigramTrainer(
        vocab_size=500, special_tokens=WORDS, unk_token="<unk>", show_progress=False, max_piece_length=8
    )
    peer.train_from_iterator([line for line in training_text() if line][:600] + training_text()[-1:], trainer)
    if byte_fallback:
        data = json.loads(peer.to_str())
        data["model"]["vocab"] += [[token, -20.0] for token in BYTE_TOKENS]
        data["model"]["byte_fallback"] = True
        peer = hf.Tokenizer.from_str(json.dumps(data))
    return peer


def unigram_of_ties():
    """Many spellings are equally good but for the rounding of their sums, which run over the whole text."""
    scores = {"<unk>": 0.0, "\u2581": -3.1, "e": -2.3, "i": -2.7, "n": -3.3, "in": -4.1, "ne": -4.1}
    scores |= {"ei": -3.7, "ie": -3.7, "ein": -5.9, "<s>": -9.0}
    peer = hf.Tokenizer(models.Unigram(list(scores.items()), unk_id=0))
    peer.pre_tokenizer = pre_tokenizers.Metaspace(split=False)
    peer.add_special_tokens(WORDS[:2])
    return peer


PRECOMPILED = steps.Precompiled(base64.b64decode(CHARSMAP))
WORDS_APART = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
LLAMA_STEPS = steps.Sequence([steps.Prepend("\u2581"), steps.Replace(" ", "\u2581")])
PEERS = {
    "gpt2": lambda: byte_level(None),
    "cl100k": lambda: byte_level(_WRITTEN["cl100k"]),
    "o200k": lambda: byte_level(_WRITTEN["o200k"]),
    "llama 3": lambda: byte_level(LLAMA3, ignore_merges=True),
    "qwen": lambda: byte_level(QWEN),
    "llama 2": lambda: llama(LLAMA_STEPS),
    "llama 2, metaspace": lambda: llama(None, pre_tokenizers.Metaspace(prepend_scheme="first")),
    "characters, never": lambda: llama(
        steps.NFC(), pre_tokenizers.Metaspace(prepend_scheme="never"), byte_fallback=False
    ),
    "characters, each unknown": lambda: llama(LLAMA_STEPS, byte_fallback=False, fuse_unk=False),
    "bert, uncased": lambda: wordpiece(),
    "bert, cased": lambda: wordpiece(lowercase=False),
    "unigram": lambda: unigram(steps.NFKC(), pre_tokenizers.Metaspace()),
    "unigram, lower case": lambda: unigram(
        steps.Sequence([steps.NFD(), steps.Lowercase(), steps.StripAccents()]),
        pre_tokenizers.Metaspace(prepend_scheme="first"),
    ),
    "unigram, whole texts": lambda: unigram_of_ties(),
    "t5, xlm-r": lambda: unigram(PRECOMPILED, WORDS_APART),
    "albert, lower": lambda: unigram(
        steps.Sequence(
            [
                *[steps.Replace("``", '"'), steps.Replace("''", '"'), steps.NFKD(), steps.StripAccents()],
                *[steps.Lowercase(), PRECOMPILED, steps.Replace(hf.Regex(" {2,}"), " ")],
            ]
        ),
        pre_tokenizers.Metaspace(),
    ),
    "deberta": lambda: unigram(
        steps.Sequence([steps.Strip(), PRECOMPILED, steps.Replace(hf.Regex(" {2,}"), " ")]), pre_tokenizers.Metaspace()
    ),
    "starcoder, smollm": lambda: byte_level(None, pre_tokenizers.Digits(individual_digits=True)),
    "unigram, bytes": lambda: unigram(steps.NFC(), pre_tokenizers.Metaspace(), byte_fallback=True),
}
COMMON = st.sampled_from(
    [
        *"aeinst  \n\r\t1.,'_-(\u2581\u0301\u00a0\u3000\u4e2d\u00c5\u017f",
        "the",
        " self",
        "return",
        "'s",
        "  ",
        "<s>",
        "12",
    ]
)
TEXTS = st.lists(st.one_of(COMMON, st.characters(exclude_categories=["Cs"])), max_size=40).map("".join)


@pytest.fixture(scope="module", params=PEERS)
def pair(request, tmp_path_factory):
    peer = PEERS[request.param]()
    path = tmp_path_factory.mktemp("files") / "tokenizer.json"
    peer.save(str(path))
    return peer, formats.read(path), request.param


def check(pair, text):
    peer, tokenizer, _ = pair
    # Where normalisation makes a special token's name of other characters, the peer takes it for the token; here text
    # never makes one. The name as it stands is the token for both.
    found = peer.encode(text, add_special_tokens=False)
    assert tokenizer.encode(text, allowed_special="all") == found.ids


def test_ids_on_random_text(pair):
    @settings(derandomize=True, max_examples=60, deadline=None)
    @given(TEXTS)
    def compare(text):
        check(pair, text)

    compare()


@pytest.mark.parametrize("text", ["\u0301a", "\u0301\u0301 a", "a\u0301", " a", "\u0301"])
def test_ids_where_the_beginning_vanishes(pair, text):
    check(pair, text)


def made(mapping):
    return steps.Precompiled(base64.b64decode(write_charsmap(mapping)))


@pytest.mark.parametrize(
    "chain",
    [
        [made({"a": "", "\u0301": "", "\r": ""})],
        [made({"a\u0301": ""})],
        [made({"a": "  ", "\t": " "}), steps.Replace(hf.Regex(" {2,}"), "x")],
        [steps.Replace(hf.Regex(" {2,}"), "x"), made({"x": ""})],
        [steps.Replace(hf.Regex(" {2,}"), "")],
        [steps.Replace(hf.Regex(" {2,}"), " "), steps.Replace(" ", "x")],
        [steps.Replace("ab", "x")],
        [steps.Replace("ab", ""), steps.Replace("a", "xx"), steps.Replace("xx", "b")],
        [steps.Strip(left=False, right=True)],
        [steps.Strip(), steps.StripAccents()],
    ],
    ids=lambda chain: ", ".join(type(step).__name__ for step in chain),
)
def test_ids_where_the_beginning_is_replaced(chain, tmp_path):
    """Metaspace puts its block before what the peer says comes from the first character, and before nothing else."""
    pieces = [("<unk>", 0.0), *((character, -1.0) for character in "\u2581abx\t\r\n\u0301")]
    peer = hf.Tokenizer(models.Unigram(pieces, unk_id=0))
    peer.normalizer = steps.Sequence(chain)
    peer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    peer.save(str(tmp_path / "tokenizer.json"))
    tokenizer = formats.read(tmp_path / "tokenizer.json")
    for length in range(4):
        for text in map("".join, itertools.product(" ab\t\u0301", repeat=length)):
            assert tokenizer.encode(f"{text}\r\nb") == peer.encode(f"{text}\r\nb").ids
            assert tokenizer.encode(f"{text}b") == peer.encode(f"{text}b").ids


def test_ids_where_spellings_are_equally_good(pair):
    chance = random.Random(0)
    for _ in range(20):
        check(pair, "".join(chance.choices("ein ", k=2000)))


def test_offsets_on_text(pair):
    peer, tokenizer, name = pair
    if "bert" not in name:
        pytest.skip("only for BERT do both say that a token lies where its own characters do")
    text = "The CAF\u00c9\u0000s, \u4e2d\u6587 e\u0301\u0327x\ufb01! unbelievable\u2603 " * 3
    found = peer.encode(text, add_special_tokens=False)
    assert tokenizer.encode_with_offsets(text) == (found.ids, found.offsets)


@pytest.mark.slow
def test_ids_on_a_hundred_thousand_random_texts(pair):
    @settings(derandomize=True, max_examples=7200, deadline=None)  # over all of PEERS
    @given(TEXTS)
    def compare(text):
        check(pair, text)

    compare()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tinyshakespeare.txt", "wikitext2.test.txt", "wikitext2.valid.txt"])
def test_ids_on_real_text(pair, name):
    if not (DATA / name).exists():
        pytest.skip(f"needs {name} in ../shared/data")
    check(pair, (DATA / name).read_text(encoding="utf-8"))


@pytest.mark.slow
def test_ids_on_the_standard_library(pair):
    for text in standard_library():
        if "lower" in pair[2]:  # "<S>", which the peer's normalisation makes a special token
            text = text.replace("<S>", "< S>")
        check(pair, text)
