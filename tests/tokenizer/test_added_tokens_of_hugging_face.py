"""Byte-level BPE with added tokens and normalisers, held to Hugging Face's tokenizers: the same ids on text of every kind."""

import json
import pathlib

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tokenizer import FormatError, formats, streaming

hf = pytest.importorskip("tokenizers", reason="the comparison with Hugging Face's tokenizers needs it installed")
from tokenizers import AddedToken, models, pre_tokenizers, trainers  # noqa: E402
from tokenizers import normalizers as steps  # noqa: E402

DATA = pathlib.Path(__file__).parents[2].parent / "shared/data"
QWEN = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
TRAINING = ["the cat's caf\u00e9s  and\n\n  cats: caf\u00e9 \ud55c\uad6d\uc5b4 \u00c5 the <tool> cats. tool_call "] * 9


def byte_level(normalizer=None, expression=None, first=(), later=(), special=("<s>", "</s>"), **settings_of_model):
    """A small peer; first and later: texts of added tokens to find before and after the normalizer."""
    peer = hf.Tokenizer(models.BPE(**settings_of_model))
    if normalizer is not None:
        peer.normalizer = normalizer
    peer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    if expression is not None:
        split = pre_tokenizers.Split(hf.Regex(expression), "isolated")
        peer.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(False, use_regex=False)])
    peer.decoder = hf.decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=340, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    peer.train_from_iterator(TRAINING, trainer)
    peer.add_special_tokens([AddedToken(name, normalized=False) for name in special])
    peer.add_tokens([AddedToken(text, normalized=False) for text in first])
    peer.add_tokens([AddedToken(text, normalized=True) for text in later])
    return peer


RUNS = [" " * n for n in range(24, 1, -1)]
PEERS = {
    "qwen": lambda: byte_level(steps.NFC(), QWEN, first=["<tool_call>", "</tool_call>", "<tool", "<|fim|>"]),
    "neox": lambda: byte_level(steps.NFC(), later=RUNS),
    "phi": lambda: byte_level(later=[*RUNS, *("\t" * n for n in range(9, 1, -1))]),
    "overlapping": lambda: byte_level(
        steps.NFC(),
        first=["<s", "s><", "<s>x", "ab", "abc", "\u0301", "e\u0301", "\ud55c"],
        later=["bcd", "cd", "\u1ebd", "e\u0327", " <", "\u1112\u1161", "\u2126"],
    ),
    "in the vocabulary": lambda: byte_level(steps.NFC(), first=["the", "a"], later=["cat", "tool"]),
    "merges ignored": lambda: byte_level(steps.NFC(), first=["<tool>"], later=["  "], ignore_merges=True),
    "lower case": lambda: byte_level(steps.Lowercase(), first=["Cat", "ABC"], later=["THE", "D\u0130x"]),
    "nfkd and lower case": lambda: byte_level(
        steps.Sequence([steps.NFKD(), steps.Lowercase()]), first=["\ufb01"], later=["\u1ebc", "FI"]
    ),
    "nfkc": lambda: byte_level(steps.NFKC(), QWEN, later=["\uff1ct\uff1e", "\u2460"]),
    "nfd, no accents": lambda: byte_level(steps.Sequence([steps.NFD(), steps.StripAccents()]), first=["e\u0301"]),
    "strip": lambda: byte_level(steps.Strip(), first=["<t>"], later=[" ab "]),
    "prepend": lambda: byte_level(steps.Prepend("_"), first=["<t>"], later=["ab"]),
    "replace": lambda: byte_level(steps.Sequence([steps.Replace("ab", "x"), steps.Replace(" ", "_")]), later=["a b"]),
    "replace runs": lambda: byte_level(steps.Replace(hf.Regex(" {2,}"), " "), first=["<t>"], later=["a b"]),
    "bert": lambda: byte_level(steps.BertNormalizer(), first=["<T>"], later=["A\u00c9"]),
}
TEXTS = st.lists(
    st.one_of(
        st.sampled_from(
            [
                *"abcdetx <>s\n\t'.12_\u0301\u0327\u0303\u0338\u00e9\u00c5\u1112\u1161\u11ab\ud55c\u200d\u2126",
                *(
                    "  ",
                    "    ",
                    "<s>",
                    "</s>",
                    "<s",
                    "<t>",
                    "<T>",
                    "<tool_call>",
                    "<tool",
                    "_call>",
                    "the",
                    "THE",
                    "cat",
                ),
                *("Cat", "e\u0301", "a b", "\U0001f468\u200d\U0001f469", "\ufb01", "\uff1ct\uff1e", "\u0130x", "s><"),
            ]
        ),
        st.characters(exclude_categories=["Cs"]),
    ),
    max_size=24,
).map("".join)


@pytest.fixture(scope="module", params=PEERS)
def pair(request, tmp_path_factory):
    peer = PEERS[request.param]()
    path = tmp_path_factory.mktemp("files") / "tokenizer.json"
    peer.save(str(path))
    return peer, formats.read(path)


def check(pair, text):
    peer, tokenizer = pair
    found = peer.encode(text, add_special_tokens=False)
    ids = tokenizer.encode(text, allowed_special="all")
    assert ids == found.ids
    assert tokenizer.encode_with_offsets(text, allowed_special="all")[0] == ids
    if all(text == step.apply(text) for step in tokenizer.normalizers):
        assert tokenizer.encode_with_offsets(text, allowed_special="all")[1] == found.offsets
    assert tokenizer.decode(ids) == peer.decode(ids, skip_special_tokens=False)


def test_ids_and_decoded_text_on_random_text(pair):
    @settings(derandomize=True, max_examples=100, deadline=None)
    @given(TEXTS)
    @example("")
    @example("<s>\u0338<s\u0338> <tool_call>\u0301e\u0301")
    def compare(text):
        check(pair, text)

    compare()


@pytest.mark.slow
def test_ids_on_a_hundred_thousand_random_texts(pair):
    @settings(derandomize=True, max_examples=7200, deadline=None)  # over all of PEERS
    @given(TEXTS)
    def compare(text):
        check(pair, text)

    compare()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tinyshakespeare.txt", "wikitext2.test.txt"])
def test_ids_on_real_text(pair, name):
    if not (DATA / name).exists():
        pytest.skip(f"needs {name} in ../shared/data")
    check(pair, (DATA / name).read_text(encoding="utf-8"))


def test_chunks_give_the_ids_of_the_peer(pair, monkeypatch):
    peer, tokenizer = pair
    monkeypatch.setattr(streaming, "_CHARACTERS", 3)

    @settings(derandomize=True, max_examples=25, deadline=None)
    @given(TEXTS, st.integers(1, 5))
    def compare(text, size):
        chunks = [text[start : start + size] for start in range(0, len(text), size)]
        assert list(tokenizer.encode_iterable(chunks, allowed_special="all")) == peer.encode(text).ids

    compare()


def test_a_file_written_here_gives_the_peer_the_same_ids(pair, tmp_path):
    formats.write(pair[1], tmp_path / "tokenizer.json", "huggingface")
    again = hf.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    read = formats.read(tmp_path / "tokenizer.json")
    assert (read.added_tokens, read.normalizers) == (pair[1].added_tokens, pair[1].normalizers)

    @settings(derandomize=True, max_examples=25, deadline=None)
    @given(TEXTS)
    def compare(text):
        check((again, read), text)
        assert again.encode(text).ids == pair[0].encode(text).ids

    compare()
    ours, theirs = json.loads((tmp_path / "tokenizer.json").read_text()), json.loads(pair[0].to_str())
    assert (ours["added_tokens"], ours["normalizer"]) == (theirs["added_tokens"], theirs["normalizer"])


def test_ids_that_do_not_follow_the_others_are_kept_by_the_peer(tmp_path):
    from tokenizer import AddedToken, BPETokenizer

    gaps = BPETokenizer([(64, 65)], added_tokens=[AddedToken("<t>", 300), AddedToken("\u2603", 280, True)])
    formats.write(gaps, tmp_path / "tokenizer.json", "huggingface")
    peer = hf.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert peer.encode("ab<t>\u2603<t").ids == gaps.encode("ab<t>\u2603<t") == [256, 300, 280, 27, 83]


@pytest.mark.parametrize("ignore_merges", [True, False])
def test_an_added_token_in_the_vocabulary_is_taken_whole_where_merges_are_ignored(ignore_merges, tmp_path):
    data = json.loads(byte_level(steps.Lowercase(), special=(), ignore_merges=ignore_merges).to_str())
    taken = len(data["model"]["vocab"])
    data["model"]["vocab"] |= {"xyz": taken, "x yz": taken + 1}
    token = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized", "special"), False)
    data["added_tokens"] = [{"id": taken + n, "content": text, **token} for n, text in enumerate(("xyz", "x yz"))]
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(data))
    tokenizer, peer = formats.read(path), hf.Tokenizer.from_file(str(path))
    for text in ("xyz", "XYZ", "aXYZ XYZ", "x yz", "X YZ"):
        assert tokenizer.encode(text) == peer.encode(text).ids
    assert (tokenizer.encode("XYZ") == [taken]) is ignore_merges


def test_a_special_token_of_normalised_text_is_refused_where_that_would_matter(tmp_path):
    path = tmp_path / "tokenizer.json"
    peer = byte_level(special=(), first=["s>"])
    peer.add_special_tokens([AddedToken("<s>", normalized=True), AddedToken("</x>", normalized=True)])
    peer.save(str(path))
    assert peer.encode("<s>").tokens == ["<", "s>"]
    with pytest.raises(FormatError, match=r"'<s>' .* overlap with 's>'; pass ignore=\{'normalized'\}"):
        formats.read(path)
    data = json.loads(path.read_text())
    next(token for token in data["added_tokens"] if token["content"] == "s>")["content"] = "t>"
    path.write_text(json.dumps(data))
    assert (
        formats.read(path).encode("<s></x>", allowed_special="all")
        == hf.Tokenizer.from_file(str(path)).encode("<s></x>").ids
    )
