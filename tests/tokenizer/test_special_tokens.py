"""Special tokens are plain text until the caller says otherwise."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenizer import BPETokenizer, CharTokenizer, SpecialTokenError, Trusted, Untrusted

NAMES = ["<|end|>", "<|end|><|end|>", "<s>"]


FORGED = {
    "bpe": BPETokenizer.train("<s> some text <s> <|end|", 300, special_tokens=NAMES),
    "char": CharTokenizer("<s>|", special_tokens=NAMES, byte_fallback=True),
}


@pytest.fixture(params=["bpe", "char"])
def tokenizer(request):
    if request.param == "bpe":
        return BPETokenizer.train("<|end|> some text", 300, special_tokens=NAMES)
    return CharTokenizer.train("<|end|><s> some text", special_tokens=NAMES, byte_fallback=True)


def test_a_name_in_text_is_plain_text_by_default(tokenizer):
    ids = tokenizer.encode("a<|end|>b<s>")
    assert not set(ids) & set(tokenizer.special_tokens.values())
    assert tokenizer.decode(ids) == "a<|end|>b<s>"


def test_allowed_names_become_special_and_the_others_stay_text(tokenizer):
    end, s = tokenizer.special_tokens["<|end|>"], tokenizer.special_tokens["<s>"]
    ids = tokenizer.encode("a<|end|>b<s>", allowed_special={"<|end|>"})
    assert ids == [*tokenizer.encode("a"), end, *tokenizer.encode("b<s>")]
    ids = tokenizer.encode("<s>a<|end|>", allowed_special="all")
    assert ids == [s, *tokenizer.encode("a"), end]
    assert tokenizer.encode_to_array("<s>a<|end|>", allowed_special="all").tolist() == ids
    assert tokenizer.decode(ids) == "<s>a<|end|>"


def test_the_longest_allowed_name_wins(tokenizer):
    text = "<|end|>" * 3
    end, double = tokenizer.special_tokens["<|end|>"], tokenizer.special_tokens["<|end|><|end|>"]
    assert tokenizer.encode(text, allowed_special="all") == [double, end]
    assert tokenizer.encode(text, allowed_special={"<|end|>"}) == [end] * 3


def test_disallowed_names_raise_and_say_where(tokenizer):
    with pytest.raises(SpecialTokenError, match="'<s>' at position 2"):
        tokenizer.encode("ab<s>", disallowed_special={"<s>"})
    with pytest.raises(SpecialTokenError, match="<s>"):
        tokenizer.encode("ab<s>", disallowed_special="all")
    assert (
        tokenizer.encode("ab<s>", allowed_special="all", disallowed_special="all")[-1]
        == tokenizer.special_tokens["<s>"]
    )
    assert tokenizer.encode("plain", disallowed_special="all") == tokenizer.encode("plain")


def test_unknown_names_and_bare_strings_are_refused(tokenizer):
    with pytest.raises(SpecialTokenError, match="not a special token"):
        tokenizer.encode("a", allowed_special={"<nope>"})
    with pytest.raises(SpecialTokenError, match="set of names"):
        tokenizer.encode("a", allowed_special="<s>")
    with pytest.raises(SpecialTokenError, match="set of names"):
        tokenizer.encode("a", disallowed_special="<s>")
    with pytest.raises(SpecialTokenError, match="not a special token"):
        tokenizer.encode([Trusted("<nope>")])


def test_spans_make_special_tokens_only_from_trusted(tokenizer):
    ids = tokenizer.encode([Trusted("<s>"), Untrusted("a<s>"), Trusted("<|end|>")])
    special = tokenizer.special_tokens
    assert ids == [special["<s>"], *tokenizer.encode("a<s>"), special["<|end|>"]]
    assert tokenizer.encode_to_array([]).tolist() == []


@settings(derandomize=True, max_examples=60, deadline=None)
@given(parts=st.lists(st.sampled_from(["<s>", "<|", "end|>", "a", " b", "\u00e9"]), max_size=8))
def test_how_untrusted_text_is_cut_does_not_matter(parts):
    tokenizer = BPETokenizer.train("<|end|> some text", 300, special_tokens=NAMES)
    assert tokenizer.encode([Untrusted(part) for part in parts]) == tokenizer.encode("".join(parts))


def test_spans_take_disallowed_but_not_allowed_names(tokenizer):
    with pytest.raises(SpecialTokenError, match="Trusted"):
        tokenizer.encode([Untrusted("a")], allowed_special="all")
    with pytest.raises(SpecialTokenError, match="forbids"):
        tokenizer.encode([Untrusted("<s>")], disallowed_special="all")


def test_names_can_come_from_any_iterable(tokenizer):
    expected = tokenizer.encode("a<s>", allowed_special={"<s>"})
    assert expected != tokenizer.encode("a<s>")
    assert tokenizer.encode("a<s>", allowed_special=iter(["<s>"])) == expected
    with pytest.raises(SpecialTokenError, match="forbids"):
        tokenizer.encode("a<s>", disallowed_special=iter(["<s>"]))


@pytest.mark.parametrize("wrong", [None, 5, [5], [["<s>"]], {"<s>": 1, 5: 2}])
@pytest.mark.parametrize("argument", ["allowed_special", "disallowed_special"])
def test_names_that_are_no_strings_are_refused(tokenizer, argument, wrong):
    with pytest.raises(SpecialTokenError, match=argument):
        tokenizer.encode("a", **{argument: wrong})


def test_the_first_of_several_disallowed_names_is_reported(tokenizer):
    with pytest.raises(SpecialTokenError, match="'<s>' at position 1,"):
        tokenizer.encode("a<s><|end|>", disallowed_special="all")


@settings(derandomize=True, max_examples=200, deadline=None)
@given(
    parts=st.lists(
        st.sampled_from(["<s>", "<|end|>", "<", "s>", "|end|>", " ", "x", "\u00e9", b"<s", b">", b"\xc3", b"\xa9"])
    ),
    kind=st.sampled_from(["bpe", "char"]),
)
def test_no_untrusted_text_makes_a_special_token(parts, kind):
    tokenizer = FORGED[kind]
    spans = [Trusted("<s>"), *map(Untrusted, parts), Trusted("<|end|>")]
    ids = tokenizer.encode(spans)
    assert [n for n in ids if n in tokenizer.special_tokens.values()] == [ids[0], ids[-1]]
    written = b"".join(part if isinstance(part, bytes) else part.encode() for part in parts)
    assert tokenizer.decode_bytes(ids) == b"<s>" + written + b"<|end|>"


def test_untrusted_bytes_and_surrogate_halves_are_joined_across_spans(tokenizer):
    for halves in (["\ud83d", "\ude00"], [b"\xf0\x9f", b"\x98\x80"], ["\U0001f600", b""]):
        assert tokenizer.encode([Untrusted(half) for half in halves]) == tokenizer.encode("\U0001f600")
    with pytest.raises(TypeError, match="str or bytes in Untrusted"):
        tokenizer.encode([Untrusted(5)])
    with pytest.raises(SpecialTokenError, match="not a special token"):
        tokenizer.encode([Trusted(["<s>"])])


@pytest.mark.parametrize("wrong", [5, None, ["text"], bytearray(b"a")])
def test_other_inputs_are_refused_by_type(tokenizer, wrong):
    with pytest.raises(TypeError, match=r"Untrusted|spans"):
        tokenizer.encode(wrong)
