"""Saving and loading: nothing is lost, no partial file stays, and every damage is named."""

import json
import os
import pickle

import pytest

from tokenizer import (
    BPETokenizer,
    CharTokenizer,
    FormatError,
    SentencePieceTokenizer,
    Tokenizer,
    UnigramTokenizer,
    WordPieceTokenizer,
    load,
    normalizers,
)

TOKENIZERS = [
    BPETokenizer.train("the cat sat on the mat", 270, special_tokens=["<s>", "\u00e9nd"]),
    BPETokenizer.train("the cat", 258, pattern=None),
    BPETokenizer([(97, 98)], pattern=r"\p{L}+| ", special_tokens={"<s>": 300}),
    CharTokenizer.train("h\u00e9llo \U0001f600", special_tokens=["<s>"]),
    CharTokenizer('\n"\\', byte_fallback=True),
    WordPieceTokenizer(["[PAD]", None, "[UNK]", "a", "##b"], special_tokens={"[UNK]": 2, "[PAD]": 0, "<s>": 1}),
    SentencePieceTokenizer.train(
        "the cat sat " * 9, 290, normalizers=[normalizers.Unicode("NFC"), normalizers.Metaspace("first")]
    ),
    UnigramTokenizer(
        [("<unk>", 0.0), ("a", -1.25), ("\u2581a", -1e-9)], normalizers=[normalizers.Strip(), normalizers.Metaspace()]
    ),
]


@pytest.mark.parametrize("tokenizer", TOKENIZERS, ids=range(len(TOKENIZERS)))
def test_loading_gives_back_the_same_tokenizer(tokenizer, tmp_path):
    path = tmp_path / "tokenizer.json"
    tokenizer.save(path)
    through_json = json.loads(json.dumps(tokenizer.to_dict()))
    copies = (load(path), load(str(path)), type(tokenizer).load(path), Tokenizer.from_dict(through_json))
    for copy in (*copies, pickle.loads(pickle.dumps(tokenizer))):
        assert type(copy) is type(tokenizer)
        assert copy.to_dict() == tokenizer.to_dict()
        assert copy.vocab_size == tokenizer.vocab_size
    assert os.listdir(tmp_path) == ["tokenizer.json"]


def test_saved_file_is_the_same_every_time(tmp_path):
    for name in ("a.json", "b.json"):
        TOKENIZERS[0].save(tmp_path / name)
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


def test_failed_save_keeps_the_old_file_and_leaves_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "tokenizer.json"
    path.write_text("old")

    def fail(*_):
        raise OSError("disk full")

    for step in ("replace", "fsync"):
        with monkeypatch.context() as patch:
            patch.setattr(os, step, fail)
            with pytest.raises(OSError, match="disk full"):
                TOKENIZERS[0].save(path)
        assert path.read_text(encoding="utf-8") == "old"
        assert os.listdir(tmp_path) == ["tokenizer.json"]


def test_saving_through_a_link_replaces_the_file_and_keeps_the_link(tmp_path):
    (tmp_path / "real.json").write_text("old")
    link = tmp_path / "link.json"
    try:
        link.symlink_to(tmp_path / "real.json")
    except OSError:
        pytest.skip("links cannot be made here")
    TOKENIZERS[0].save(link)
    assert link.is_symlink()
    assert load(tmp_path / "real.json").to_dict() == TOKENIZERS[0].to_dict()


def test_missing_folder_and_missing_file_are_os_errors(tmp_path):
    with pytest.raises(FileNotFoundError):
        TOKENIZERS[0].save(tmp_path / "no" / "tokenizer.json")
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "no.json")


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 100_000])
def test_file_that_is_no_json_is_named(content, tmp_path):
    path = tmp_path / "bad.json"
    path.write_bytes(content)
    with pytest.raises(FormatError, match=r"bad\.json"):
        load(path)


def damaged(number, **changes):
    data = {**TOKENIZERS[number].to_dict(), **changes}
    return {key: value for key, value in data.items() if value != "drop"}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "expected a JSON object"),
        ({"model": {"type": "BPE"}}, "expected format"),
        (damaged(0, version=1), "expected version 2 or 3, found 1"),
        (damaged(0, version="drop"), "found None"),
        (damaged(0, kind="drop"), "kind"),
        (damaged(0, kind="morse"), r"'bpe', 'char', .*, found 'morse'"),
        (damaged(0, merges="drop"), "lacks the field 'merges'"),
        (damaged(0, merges=[[97, 5000]]), "merge 0"),
        (damaged(0, merges=[[97, 98, 99]]), "merge 0"),
        (damaged(0, merges=7), "damaged"),
        (damaged(0, merges=[["a", "b"]]), "merge 0"),
        (damaged(0, merges=[[64, 64], *([256 + n] * 2 for n in range(60))], special_tokens={}), "bytes"),
        (damaged(0, pattern="("), "pattern"),
        (damaged(0, pattern="(" * 50_000), "pattern"),
        (damaged(0, pattern="p50k"), "unknown pattern name 'p50k'"),
        (damaged(0, special_tokens={"<s>": 10}), "id 10"),
        (damaged(0, special_tokens=None), "damaged"),
        (damaged(3, characters="aa"), "once"),
        (damaged(3, characters=[1]), "damaged"),
        (damaged(3, byte_fallback="no"), "byte_fallback"),
        (damaged(5, normalizers=[{"type": "Rot13"}]), "Rot13"),
        (damaged(5, normalizers=[{"type": "Bert", "speed": 3}]), "damaged"),
        (damaged(5, split="words"), "expected split"),
        (damaged(6, merges=[["a", "zz"]]), "not in the vocabulary"),
        (damaged(7, pieces=[["a", "b"]]), "finite number"),
    ],
)
def test_damaged_data_is_named(data, message, tmp_path):
    with pytest.raises(FormatError, match=message):
        Tokenizer.from_dict(data)
    path = tmp_path / "bad.json"
    path.write_text(json.dumps(data))
    with pytest.raises(FormatError, match=message):
        load(path)


def test_loading_through_the_wrong_class_is_refused(tmp_path):
    TOKENIZERS[0].save(tmp_path / "t.json")
    with pytest.raises(FormatError, match="expected a CharTokenizer"):
        CharTokenizer.load(tmp_path / "t.json")


def test_a_subclass_loads_as_itself_and_does_not_take_over_the_kind():
    class Quiet(CharTokenizer):
        pass

    data = CharTokenizer("ab").to_dict()
    assert type(Quiet.from_dict(data)) is Quiet
    assert type(Tokenizer.from_dict(data)) is CharTokenizer
