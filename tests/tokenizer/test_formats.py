"""Files of other libraries: read, written, recognised; and refused by the name of what they ask for."""

import base64
import json
import os

import pytest

from tokenizer import (
    BPETokenizer,
    BPEVocabulary,
    CharTokenizer,
    FormatError,
    SentencePieceTokenizer,
    UnigramTokenizer,
    WordPieceTokenizer,
    formats,
    normalizers,
)

from .charsmaps import CHARSMAP

TEXT = "the cat sat on the mat, it's 123 caf\u00e9s; THE END\n\n  the cats sat. " * 5
BPE = BPETokenizer.train(TEXT, 300, special_tokens=["<s>", "<|end|>"])
S = BPE.special_tokens["<s>"]
ZHE = BPETokenizer([tuple(BPETokenizer([]).encode("\u0436"))])
UNCUT = BPETokenizer.train(TEXT, 280, pattern=None)
CL100K = BPETokenizer.train(TEXT, 300, pattern="cl100k", special_tokens={"<s>": 350})
OWN_PATTERN = BPETokenizer.train(TEXT, 290, pattern=r"\p{L}+|\p{N}{1,2}|\s+|[^\s\p{L}\p{N}]")
RANKS = BPETokenizer(
    BPEVocabulary.from_ranks({BPE.token_bytes(n): n for n in range(S)}), pattern="o200k", special_tokens=["<s>"]
)
WORDPIECE = WordPieceTokenizer.train(TEXT, 70)
CASED = WordPieceTokenizer.train(TEXT, 70, normalizers=[normalizers.Bert(lowercase=False)])
LLAMA = SentencePieceTokenizer.train(TEXT, 310)
UNIGRAM = UnigramTokenizer.train(TEXT, 50)
T5 = UnigramTokenizer.train(
    TEXT, 50, normalizers=[normalizers.Precompiled(CHARSMAP), normalizers.WhitespaceSplit(), normalizers.Metaspace()]
)
DEBERTA = UnigramTokenizer.train(
    TEXT, 50, normalizers=[normalizers.Strip(), normalizers.CollapseSpaces(), normalizers.Metaspace()]
)
UNIGRAM_BYTES = UnigramTokenizer.train(TEXT, 300, byte_fallback=True)

WRITTEN = [
    *(
        (tokenizer, "own", "t.json")
        for tokenizer in (BPE, RANKS, WORDPIECE, LLAMA, UNIGRAM, T5, CharTokenizer("ab", byte_fallback=True))
    ),
    *((tokenizer, "huggingface", "tokenizer.json") for tokenizer in (BPE, UNCUT, CL100K, OWN_PATTERN, RANKS)),
    *((tokenizer, "huggingface", "tokenizer.json") for tokenizer in (WORDPIECE, CASED, LLAMA, UNIGRAM, UNIGRAM_BYTES)),
    *((tokenizer, "huggingface", "tokenizer.json") for tokenizer in (T5, DEBERTA)),
    (UNCUT, "tiktoken", "t.tiktoken"),
    (BPE, "gpt2", ""),
    (WORDPIECE, "wordpiece-vocab", "vocab.txt"),
    (CASED, "wordpiece-vocab", "vocab.txt"),
]
PROBES = [TEXT, "the\u2603 C\u00c1T <s>", *formats.check.PROBES]


@pytest.mark.parametrize(("tokenizer", "format", "name"), WRITTEN)
def test_what_is_written_is_recognised_and_gives_the_same_ids(tokenizer, format, name, tmp_path):
    path = tmp_path / name
    formats.write(tokenizer, path, format, probes=PROBES)
    assert formats.recognise(path) == format
    options = formats.FORMATS[format].options_of(tokenizer)
    copy = formats.read(path, **options)
    assert type(copy) is type(tokenizer)
    assert copy.special_tokens == tokenizer.special_tokens
    formats.check_same(tokenizer, copy, PROBES)
    for text in PROBES:
        ids = tokenizer.encode(text, allowed_special="all")
        assert copy.encode(text, allowed_special="all") == ids
        assert copy.decode(ids) == tokenizer.decode(ids)
    again = tmp_path / "again"
    again.mkdir()
    formats.write(copy, again / name, format)
    for file in os.listdir(again):
        assert (again / file).read_bytes() == (tmp_path / file).read_bytes()


@pytest.mark.parametrize(("tokenizer", "format", "name"), [row for row in WRITTEN if row[1] == "huggingface"])
def test_hugging_face_reads_what_is_written(tokenizer, format, name, tmp_path):
    hf = pytest.importorskip("tokenizers", reason="the comparison with Hugging Face's tokenizers needs it installed")
    formats.write(tokenizer, tmp_path / name, format)
    peer = hf.Tokenizer.from_file(str(tmp_path / name))
    assert peer.get_vocab_size() == sum(token is not None for token in _names(tokenizer))
    for text in PROBES:
        if tokenizer is UNIGRAM_BYTES:
            text = text.replace("<0x41>", "")  # the peer takes this text for the byte
        ids = peer.encode(text, add_special_tokens=False).ids
        assert tokenizer.encode(text, allowed_special="all") == ids, text
        if not isinstance(tokenizer, WordPieceTokenizer) or "[" not in text:
            kept = tokenizer.decode(ids)
            assert peer.decode(ids, skip_special_tokens=False) == kept


def _names(tokenizer):
    if hasattr(tokenizer, "vocabulary") and isinstance(tokenizer.vocabulary, list):
        return tokenizer.vocabulary
    return tokenizer._token_table


def test_converting_checks_and_keeps_the_old_file_where_it_cannot(tmp_path):
    formats.write(BPE, tmp_path / "a.json")
    tokenizer = formats.convert(tmp_path / "a.json", tmp_path / "b.json", "huggingface")
    assert tokenizer.to_dict() == BPE.to_dict()
    formats.check_same(formats.read(tmp_path / "b.json"), BPE)
    (tmp_path / "c.tiktoken").write_text("old")
    with pytest.raises(FormatError, match=r"<s>.*ignore=\{'special_tokens'\}"):
        formats.convert(tmp_path / "a.json", tmp_path / "c.tiktoken", "tiktoken")
    assert (tmp_path / "c.tiktoken").read_text() == "old"
    assert sorted(os.listdir(tmp_path)) == ["a.json", "b.json", "c.tiktoken"]
    formats.convert(tmp_path / "a.json", tmp_path / "c.tiktoken", "tiktoken", ignore={"special_tokens"})
    assert formats.recognise(tmp_path / "c.tiktoken") == "tiktoken"


def test_a_conversion_that_changes_ids_fails_on_the_first_difference(tmp_path):
    # tiktoken's rule joins b + c first, because "bc" has the lower rank; these merges have no such pair.
    tokens = [bytes([n]) for n in range(256)] + [b"ab", b"bc", b"abc"]
    merges = [(97, 98, 256), (256, 99, 258)]
    tokenizer = BPETokenizer(BPEVocabulary(tokens, merges), pattern=None)
    with pytest.raises(FormatError, match="'xbcx' at token 1"):
        formats.write(tokenizer, tmp_path / "t.tiktoken", "tiktoken", probes=["x", "xbcx"])
    assert os.listdir(tmp_path) == []


def test_texts_that_neither_can_spell_do_not_hinder_a_conversion(tmp_path):
    formats.write(CharTokenizer("ab"), tmp_path / "t.json")
    assert formats.read(tmp_path / "t.json").encode("ba") == [1, 0]
    with pytest.raises(FormatError, match="differ on 'b'"):
        formats.check_same(CharTokenizer("ab"), CharTokenizer("a"), ["a", "b"])


def test_difference_is_named():
    with pytest.raises(FormatError, match="differ on 'the' at token 0"):
        formats.check_same(BPE, CharTokenizer("eht"), ["", "the"])


def huggingface(tokenizer, **changes):
    data = json.loads(formats.huggingface.files(tokenizer, frozenset())[""])
    for path, value in changes.items():
        *parents, last = (int(key) if key.isdigit() else key for key in path.split("__"))
        target = data
        for key in parents:
            target = target[key]
        target[last] = value
    return data


def added(**changes):
    token = dict(id=S, content="<s>", single_word=False, lstrip=False, rstrip=False, normalized=False, special=True)
    return [{**token, **changes}]


REFUSED = [
    (huggingface(BPE, version="2.0"), "version"),
    (huggingface(BPE, speed=1), "'speed'"),
    (huggingface(BPE, truncation={"max_length": 5}), "ignore={'truncation'}"),
    (huggingface(BPE, padding={"pad_id": 5}), "ignore={'padding'}"),
    (huggingface(BPE, added_tokens=added(lstrip=True)), "'<s>' asks for lstrip"),
    (huggingface(BPE, added_tokens=added(rstrip=True)), "rstrip"),
    (huggingface(BPE, added_tokens=added(single_word=True)), "single_word"),
    (huggingface(LLAMA, added_tokens=added(id=1, special=False)), "ignore={'special'}"),
    (huggingface(BPE, added_tokens=added(colour="red")), "'colour'"),
    (huggingface(WORDPIECE, added_tokens=added(id=1, content="[UNK]", normalized=True)), "normalised text"),
    (huggingface(ZHE, added_tokens=added(id=256, content="\u0436", special=False)), "has the id of '\u00d0\u00b6'"),
    (huggingface(BPE, added_tokens=added(content="<t>", special=False)), "has the id of '<s>'"),
    (huggingface(BPE, normalizer={"type": "Nmt"}), "normalizer 'Nmt' is not supported.*ignore={'normalizer'}"),
    (huggingface(LLAMA, normalizer={"type": "Precompiled", "precompiled_charsmap": ""}), "charsmap"),
    (huggingface(T5, pre_tokenizer__pretokenizers__1__prepend_scheme="first"), "prepend_scheme 'always'"),
    (huggingface(T5, pre_tokenizer__pretokenizers__1__split=False), "with split only"),
    (huggingface(T5, pre_tokenizer__pretokenizers__0={"type": "Whitespace"}), "Whitespace, Metaspace"),
    (huggingface(T5, normalizer__precompiled_charsmap=CHARSMAP[:400]), "charsmap of 300 bytes is cut off"),
    (huggingface(T5, normalizer__precompiled_charsmap="\u00e9"), "base64"),
    (huggingface(LLAMA, normalizer={"type": "Replace", "pattern": {"Regex": " +"}, "content": " "}), "Replace"),
    (huggingface(BPE, pre_tokenizer={"type": "Digits", "individual_digits": True}), "pre_tokenizer 'Digits'"),
    (huggingface(BPE, pre_tokenizer__add_prefix_space=True), "add_prefix_space"),
    (huggingface(CL100K, pre_tokenizer__pretokenizers__0__behavior="Removed"), "'Removed'"),
    (huggingface(CL100K, pre_tokenizer__pretokenizers__0__pattern={"Regex": r"^a|\h+"}), "Split"),
    (huggingface(CL100K, pre_tokenizer__pretokenizers__0__pattern={"Regex": r"[^\s[\p{N}]]+"}), "Split"),
    (huggingface(CL100K, pre_tokenizer__pretokenizers__0__pattern={"Regex": "(?:{1,2}?" * 60 + "."}), "Split"),
    (huggingface(CL100K, pre_tokenizer__pretokenizers__1={"type": "Punctuation"}), "Split, Punctuation|damaged"),
    (huggingface(UNIGRAM, pre_tokenizer__replacement="_"), "replacement"),
    (huggingface(UNIGRAM, pre_tokenizer__prepend_scheme="often"), "often"),
    (huggingface(WORDPIECE, pre_tokenizer={"type": "Whitespace"}), "'Whitespace'"),
    (huggingface(WORDPIECE, pre_tokenizer=None), "BertPreTokenizer"),
    (huggingface(BPE, decoder={"type": "CTC"}), "decoder 'CTC'"),
    (huggingface(BPE, post_processor={"type": "Rhyme"}), "post_processor 'Rhyme'"),
    (huggingface(BPE, model__type="WordLevel"), "model 'WordLevel'"),
    (huggingface(BPE, model__dropout=0.1), "dropout"),
    (huggingface(BPE, model__continuing_subword_prefix="##"), "continuing_subword_prefix"),
    (huggingface(BPE, model__end_of_word_suffix="</w>"), "end_of_word_suffix"),
    (huggingface(BPE, model__heads=8), "'heads'"),
    (huggingface(LLAMA, model__ignore_merges=True), "ignore_merges"),
    (huggingface(LLAMA, model__vocab={"a": 0}), "missing"),
    (huggingface(BPE, model__vocab={}), "no ordinary token"),
    (huggingface(BPE, model__vocab={"a": 0}, model__merges=[]), "255 of the 256 bytes"),
    (huggingface(BPE, model__merges=[["t", "h", "e"]]), "merge 0"),
    (huggingface(BPE, model__merges=[["zz", "z"]]), "merge 0"),
    (huggingface(UNIGRAM, model__unk_id=10**6), "unk_id 1000000"),
    (huggingface(UNIGRAM, model__vocab=[["a"]]), "piece 0|damaged"),
    (huggingface(WORDPIECE, model__continuing_subword_prefix="@@"), "prefix"),
    (huggingface(WORDPIECE, model__vocab={"a": 0, "b": 0, "[UNK]": 1}), "same id"),
    ({"model": 5}, "version"),
    (huggingface(BPE, added_tokens=added(id=400)), f"'<s>' has id 400, but {S}"),
    (huggingface(UNIGRAM, model__unk_id=-1), "unk_id -1"),
    (huggingface(WORDPIECE, decoder__prefix="@@"), "WordPiece with prefix '@@'"),
    (huggingface(LLAMA, decoder__decoders__0__content="X"), "Replace with content 'X'"),
    (huggingface(LLAMA, decoder__decoders__3__start=2), "Strip with start 2"),
]


@pytest.mark.parametrize(("data", "message"), REFUSED, ids=range(len(REFUSED)))
def test_what_is_not_supported_is_refused_by_name(data, message, tmp_path):
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(data))
    with pytest.raises(FormatError, match=message) as caught:
        formats.read(path)
    assert "tokenizer.json" in str(caught.value)


def test_the_same_special_tokens_come_back_or_the_file_is_not_written(tmp_path):
    # No merge makes "xyz", so the two files of GPT-2 would read it as special.
    vocabulary = BPEVocabulary([*(bytes([n]) for n in range(256)), b"ab", b"xyz"], [(97, 98, 256)])
    with pytest.raises(FormatError, match=r"'xyz', 257.*ignore=\{'special_tokens'\}"):
        formats.write(BPETokenizer(vocabulary), tmp_path, "gpt2")
    # Hugging Face gives the id after the last piece to an added token, whatever the file says.
    gap = UnigramTokenizer(UNIGRAM.pieces, special_tokens={**UNIGRAM.special_tokens, "<x>": 99})
    with pytest.raises(FormatError, match="without a token"):
        formats.write(gap, tmp_path / "tokenizer.json", "huggingface")
    assert os.listdir(tmp_path) == []


def test_cleanup_is_found_in_a_sequence_of_decoders(tmp_path):
    path = tmp_path / "tokenizer.json"
    parts = [{"type": "WordPiece", "prefix": "##", "cleanup": False}]
    path.write_text(json.dumps(huggingface(WORDPIECE, decoder={"type": "Sequence", "decoders": parts})))
    assert not formats.read(path).cleanup


def test_what_may_be_left_out_is_left_out_when_asked(tmp_path):
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(huggingface(BPE, truncation={"max_length": 5}, added_tokens=added(special=False))))
    tokenizer = formats.read(path, ignore={"truncation", "special"})
    assert tokenizer.encode("<s>", allowed_special="all") == [S]
    assert S not in tokenizer.encode("<s>")
    with pytest.raises(TypeError, match="set of names"):
        formats.read(path, ignore="special")
    path.write_text(json.dumps(huggingface(BPE, normalizer={"type": "NFC"})))
    assert len(formats.read(path).normalizers) == 1 and not formats.read(path, ignore={"normalizer"}).normalizers


def test_older_spellings_are_read(tmp_path):
    path = tmp_path / "tokenizer.json"
    data = huggingface(LLAMA)
    del data["model"]["type"], data["model"]["ignore_merges"]
    data["model"]["merges"] = [" ".join(merge) for merge in data["model"]["merges"]]
    data["normalizer"], data["pre_tokenizer"] = (
        None,
        {"type": "Metaspace", "replacement": "\u2581", "add_prefix_space": True},
    )
    path.write_text(json.dumps(data))
    tokenizer = formats.read(path)
    assert tokenizer.split == "metaspace" and tokenizer.normalizers == (normalizers.Metaspace(),)
    assert tokenizer.decode(tokenizer.encode("the cat")) == "the cat"


def test_tiktoken_files_need_their_pattern_and_are_checked_line_by_line(tmp_path):
    path = tmp_path / "t.tiktoken"
    formats.write(RANKS, path, "tiktoken", ignore={"special_tokens"})
    with pytest.raises(FormatError, match="pattern="):
        formats.read(path)
    tokenizer = formats.read(path, pattern="o200k", special_tokens=["<s>"])
    assert tokenizer.to_dict() == RANKS.to_dict()
    good = path.read_bytes()
    for line, message in (
        (b"!!! 3\n", rf"line {S + 1}\b"),
        (b"YQ== x\n", rf"line {S + 1}\b"),
        (b"YQ== 999\n", "occurs twice"),
        (b"enp6 0\n", "rank"),
    ):
        path.write_bytes(good + line)
        with pytest.raises(FormatError, match=message):
            formats.read(path, "tiktoken", pattern=None)
    path.write_bytes(base64.b64encode(b"a") + b" 0\n")
    with pytest.raises(FormatError, match="bytes have no token"):
        formats.read(path, pattern=None)


def test_gpt2_files_are_read_from_either_file_or_the_folder(tmp_path):
    formats.write(BPE, tmp_path, "gpt2")
    for path in (tmp_path, tmp_path / "vocab.bpe", tmp_path / "encoder.json"):
        assert formats.read(path).to_dict() == BPE.to_dict()
    (tmp_path / "vocab.bpe").write_text("#version: 0.2\nt h e\n")
    with pytest.raises(FormatError, match="line 2"):
        formats.read(tmp_path)
    (tmp_path / "encoder.json").unlink()
    with pytest.raises(FormatError, match=r"encoder\.json"):
        formats.read(tmp_path)


def test_vocab_txt_keeps_odd_lines(tmp_path):
    path = tmp_path / "vocab.txt"
    path.write_bytes("[PAD]\r\n[UNK]\r\n\u2028\r\na\r\n##b".encode())
    assert formats.read(path).vocabulary == ["[PAD]", "[UNK]", "\u2028", "a", "##b"]
    with pytest.raises(FormatError, match="settings"):
        formats.write(WordPieceTokenizer(["[UNK]", "a"], longest_word=5), path, "wordpiece-vocab")
    with pytest.raises(FormatError, match="no token"):
        formats.write(WordPieceTokenizer(["[UNK]", None, "a"]), path, "wordpiece-vocab")


@pytest.mark.parametrize(
    ("tokenizer", "format"),
    [
        (LLAMA, "tiktoken"),
        (LLAMA, "gpt2"),
        (RANKS, "gpt2"),
        (BPE, "wordpiece-vocab"),
        (CharTokenizer("a"), "huggingface"),
    ],
)
def test_a_format_that_cannot_hold_the_tokenizer_says_so(tokenizer, format, tmp_path):
    with pytest.raises(FormatError, match="hold|cannot say|no model"):
        formats.write(tokenizer, tmp_path / "t", format)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("content", [b"", b"{", b"{}", b"\xff\xfe\x00", b"hello world\n", b"[1, 2]"])
def test_unknown_files_are_not_guessed(content, tmp_path):
    path = tmp_path / "what.bin"
    path.write_bytes(content)
    with pytest.raises(FormatError, match=r"what\.bin"):
        formats.read(path)
    with pytest.raises(FormatError, match="unknown format"):
        formats.read(path, "zip")
    for format in ("own", "huggingface", "wordpiece-vocab"):
        with pytest.raises(FormatError, match=r"what\.bin"):
            formats.read(path, format)
