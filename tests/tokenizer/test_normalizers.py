"""Normalisers: held to Hugging Face's, and each character keeps the way back to the original."""

import random
import time
import unicodedata

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tokenizer import TokenizerError
from tokenizer import normalizers as n

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
]
TEXTS = st.text(
    st.one_of(
        st.characters(exclude_categories=["Cs"]), st.sampled_from(" a\u0301\u0327\u1100\u1161\u11a8\u4e00\u00c5A")
    )
)


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
    return None


@pytest.mark.parametrize("step", [step for step in ALL if not isinstance(step, n.Metaspace)], ids=str)
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
@pytest.mark.parametrize("step", [step for step in ALL if not isinstance(step, n.Metaspace)], ids=str)
def test_results_are_those_of_hugging_face_for_every_code_point(step):
    peer = peer_of(step)
    characters = [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000]
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
    found, starts, stops = n.align(chain, text)
    assert found == expected
    assert len(starts) == len(stops) == len(found)
    assert all(0 <= start <= stop <= len(text) for start, stop in zip(starts, stops))
    assert sorted(starts) == list(starts) and sorted(stops) == list(stops)


def test_alignment_points_at_what_a_character_comes_from():
    text, starts, stops = n.align([n.Bert()], "\u00c9\u0000\u4e2dX")
    assert text == "e \u4e2d x"
    assert list(zip(starts, stops)) == [(0, 1), (2, 3), (2, 3), (2, 3), (3, 4)]
    text, starts, stops = n.align([n.Unicode("NFC"), n.Metaspace()], "e\u0301 b")
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
    "wrong", [lambda: n.Unicode("NFX"), lambda: n.Metaspace("sometimes"), lambda: n.Replace("", "a")]
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
