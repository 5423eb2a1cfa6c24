"""Normalisers: held to Hugging Face's, and each character keeps the way back to the original."""

import base64
import random
import time
import unicodedata

import pytest
import regex
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tokenizer import TokenizerError
from tokenizer import normalizers as n
from tokenizer.alignment import align
from tokenizer.scan import MARK, class_table

from .charsmaps import CHARSMAP, write_charsmap

ALL = [
    *map(n.Unicode, ("NFC", "NFD", "NFKC", "NFKD")),
    n.Lowercase(),
    n.StripAccents(),
    n.Prepend("ab"),
    n.Replace("a ", "c"),
    n.Strip(),
    n.Strip(left=True, right=False),
    n.Strip(left=False, right=True),
    n.Metaspace(),
    n.Metaspace("never"),
    n.Bert(),
    n.Bert(lowercase=False),
    n.Bert(clean_text=False, handle_chinese_chars=False, strip_accents=True, lowercase=False),
    n.Precompiled(CHARSMAP),
    n.CollapseSpaces(),
    n.CollapseSpaces("\u2581"),
    n.WhitespaceSplit(),
]
WITH_PEER = [step for step in ALL if not isinstance(step, n.Metaspace | n.WhitespaceSplit)]  # those pre-tokenise there
TEXTS = st.text(
    st.one_of(
        st.characters(exclude_categories=["Cs"]),
        st.sampled_from(" a\u0301\u0327\u1100\u1161\u11a8\u4e00\u00c5A\r\n\t\u2581\u00e9\u200d\u0600\U0001f600"),
    )
)


def _name(step):
    return type(step).__name__ if isinstance(step, n.Precompiled) else str(step)


def peer_of(step):
    hf = pytest.importorskip("tokenizers", reason="the comparison with Hugging Face's tokenizers needs it installed")
    peers = hf.normalizers
    match step:
        case n.Unicode(form):
            return getattr(peers, form)()
        case n.Lowercase() | n.StripAccents():
            return getattr(peers, type(step).__name__)()
        case n.Prepend(text):
            return peers.Prepend(text)
        case n.Replace(pattern, content):
            return peers.Replace(pattern, content)
        case n.Strip(left, right):
            return peers.Strip(left, right)
        case n.Bert(clean, chinese, accents, lower):
            return peers.BertNormalizer(
                clean_text=clean, handle_chinese_chars=chinese, strip_accents=accents, lowercase=lower
            )
        case n.CollapseSpaces(content):
            return peers.Replace(hf.Regex(" {2,}"), content)
        case n.Precompiled(charsmap):
            return peers.Precompiled(base64.b64decode(charsmap))
    return None


@pytest.mark.parametrize("step", WITH_PEER, ids=_name)
def test_results_are_those_of_hugging_face(step):
    peer = peer_of(step)

    @settings(derandomize=True, max_examples=100, deadline=None)
    @given(TEXTS)
    @example("\u1df6\u0301 \u0327\u1df6")  # marks that the peers' tables do not know
    @example("\u0391\u03a3 \u0130 \u01c5 \u1e9e")
    @example("\ufb01\uff21\u2460\u00a0\ufdfa")
    def check(text):
        assert step.apply(text) == peer.normalize_str(text)

    check()


@pytest.mark.parametrize("form", ["NFC", "NFD", "NFKC", "NFKD"])
def test_long_runs_of_marks_are_sorted_as_short_ones_and_in_little_time(form):
    chance = random.Random(0)
    marks = "\u0301\u0327\u0344\u0f73\u0f71\u3099\uff9e\u05b0\u0300\u00e9"
    for _ in range(20):
        text = "".join(chance.choices(marks, weights=[9] * 9 + [0.2], k=400)) + "a\u0327\u0301"
        assert n.Unicode(form).apply(text) == unicodedata.normalize(form, text)
    begin = time.perf_counter()
    assert len(n.Unicode(form).apply("a" + "\u0301\u0327" * 100_000)) >= 200_000
    assert time.perf_counter() - begin < 5  # 0.1 s; sorted by insertion, 40 s


@pytest.mark.slow
@pytest.mark.parametrize("step", WITH_PEER, ids=_name)
def test_results_are_those_of_hugging_face_for_every_code_point(step):
    peer = peer_of(step)
    characters = [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000]
    if isinstance(step, n.Precompiled):  # which marks join graphemes, regex and the peer learn at different times
        known = class_table() == MARK
        characters = [c for c in characters if known[ord(c)] or not regex.match(r"\p{M}", c)]
    chance = random.Random(0)
    chance.shuffle(characters)
    for start in range(0, len(characters), 200):
        text = "".join(
            c + chance.choice(" \n\u0301\u0327a\u1161\u11a8\u3099A") for c in characters[start : start + 200]
        )
        assert step.apply(text) == peer.normalize_str(text)


@settings(derandomize=True, max_examples=150, deadline=None)
@given(TEXTS, st.lists(st.sampled_from(ALL), max_size=3))
def test_alignment_gives_the_same_text_and_ranges_in_order(text, chain):
    expected = text
    for step in chain:
        expected = step.apply(expected)
    found, starts, stops = align(chain, text)
    assert found == expected
    assert len(starts) == len(stops) == len(found)
    assert all(0 <= start <= stop <= len(text) for start, stop in zip(starts, stops))
    assert sorted(starts) == list(starts) and sorted(stops) == list(stops)


def test_alignment_points_at_what_a_character_comes_from():
    text, starts, stops = align([n.Bert()], "\u00c9\u0000\u4e2dX")
    assert text == "e \u4e2d x"
    assert list(zip(starts, stops)) == [(0, 1), (2, 3), (2, 3), (2, 3), (3, 4)]
    text, starts, stops = align([n.Unicode("NFC")], "q\u0327\u0301q\u0301\u0327")  # one stays, one is put in order
    assert list(zip(starts, stops)) == [(0, 1), (1, 2), (2, 3), (3, 6), (3, 6), (3, 6)]
    text, starts, stops = align([n.Unicode("NFC"), n.Metaspace()], "e\u0301 b")
    assert text == "\u2581\u00e9\u2581b"
    assert list(zip(starts, stops)) == [(0, 0), (0, 2), (2, 3), (3, 4)]


@settings(derandomize=True, max_examples=150, deadline=None)
@given(
    TEXTS,
    TEXTS,
    st.sampled_from([step for step in ALL if step.local and not isinstance(step, n.Prepend | n.Metaspace)]),
)
def test_local_steps_can_be_applied_apart_before_a_space_after_a_letter(left, right, step):
    left, right = left + "x", " " + right
    assert step.apply(left) + step.apply(right) == step.apply(left + right)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: n.Unicode("NFX"),
        lambda: n.Metaspace("sometimes"),
        lambda: n.Replace("", "a"),
        lambda: n.Replace("a", None),
        lambda: n.Replace(["a"], "a"),
        lambda: n.CollapseSpaces(1),
        lambda: n.Prepend({}),
    ],
)
def test_wrong_arguments_are_refused(wrong):
    with pytest.raises(TokenizerError, match="expected|needs"):
        wrong()


@pytest.mark.parametrize(
    ("pattern", "content", "local"),
    [
        (" ", "\u2581", True),
        ("``", '"', True),
        ("t\u2581", "z", False),
        ("t ", "z", False),
        (" t", "z", False),
        ("t", " ", False),
        ("t", "", False),
    ],
)
def test_a_replacement_at_a_space_is_not_local(pattern, content, local):
    assert n.Replace(pattern, content).local is local


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "0 bytes is cut off"),
        (b"\x08\0\0\0" + bytes(7), "trie of 8 bytes"),
        (b"\x03\0\0\0" + bytes(7), "trie of 3 bytes"),
        (b"\x04\0\0\0" + bytes(4) + b"a\xff\0", "not UTF-8"),
    ],
)
def test_a_damaged_charsmap_is_refused(data, message):
    with pytest.raises(TokenizerError, match=message):
        n.Precompiled(base64.b64encode(data).decode())


@settings(derandomize=True, max_examples=200, deadline=None)
@given(st.binary(min_size=4, max_size=200), st.text(max_size=20))
def test_a_charsmap_of_any_bytes_maps_text_to_text(data, text):
    units = data[: len(data) // 4 * 4]
    encoded = base64.b64encode(len(units).to_bytes(4, "little") + units + b"ab\0c").decode()
    step = n.Precompiled(encoded)
    found = step.apply(text)
    assert found == "".join(output for _, output in step.pieces(text))
    assert found.encode("utf-8").decode("utf-8") == found  # what is put in is text, whatever the bytes were


def test_a_grapheme_is_looked_up_before_its_characters():
    step = n.Precompiled(write_charsmap({"a": "b", "a\u0301": "c", "\r": " ", "\u0301": "d"}))
    # As the peers do: the shortest beginning that the map knows stands for a grapheme of up to five bytes.
    assert step.apply("aa\u0301a\u0301\u0327\r\nx\u0301\u0301\u0301") == "bbb xddd"
    assert list(step.pieces("a\u0301x\r\n")) == [(2, "b"), (1, "x"), (2, " ")]


def test_ranges_do_not_go_back_where_one_character_becomes_several_words():
    step = n.Precompiled(write_charsmap({"\u2460": "a b"}))
    text, starts, stops = align([step, n.WhitespaceSplit()], "x \u2460y")
    assert text == " x a by"
    assert list(zip(starts, stops)) == [(0, 0), (0, 1), (2, 2), (2, 3), (2, 3), (2, 3), (3, 4)]


def test_words_get_one_space_before_them():
    step = n.WhitespaceSplit()
    assert step.apply("\t the  cat\u3000\u2581sat \n") == " the cat\u2581sat"
    text, starts, stops = align([step, n.Metaspace()], " a  b")
    assert text == "\u2581a\u2581b" and list(zip(starts, stops)) == [(1, 1), (1, 2), (4, 4), (4, 5)]


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["nmt_nfkc", "nmt_nfkc_cf"])
def test_the_maps_of_sentencepiece_give_what_the_peer_makes_of_them(rule, tmp_path):
    reason = "the comparison with SentencePiece's own maps needs sentencepiece, protobuf and tokenizers installed"
    sentencepiece = pytest.importorskip("sentencepiece", reason=reason)
    pytest.importorskip("google.protobuf", reason=reason)
    hf = pytest.importorskip("tokenizers", reason=reason)
    from sentencepiece.sentencepiece_model_pb2 import ModelProto

    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["some words to learn from, and more of them"] * 20),
        model_prefix=str(tmp_path / "made"),
        vocab_size=20,
        normalization_rule_name=rule,
        minloglevel=2,
    )
    charsmap = ModelProto.FromString((tmp_path / "made.model").read_bytes()).normalizer_spec.precompiled_charsmap
    peer, step = hf.normalizers.Precompiled(charsmap), n.Precompiled(base64.b64encode(charsmap).decode())
    characters = [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000]
    for start in range(0, len(characters), 4096):
        text = " ".join(characters[start : start + 4096])
        assert step.apply(text) == peer.normalize_str(text)
    chance = random.Random(0)
    alphabet = [
        *map(chr, range(0x250)),
        *"\u0300\u0301\u0308\u0327\u0345\u3099\u200d\ufe0f\uff76\uff9e\uac00\u2460\ufb01",
    ]
    for _ in range(5_000):
        text = "".join(chance.choices(alphabet, k=chance.randrange(1, 12)))
        assert step.apply(text) == peer.normalize_str(text)
