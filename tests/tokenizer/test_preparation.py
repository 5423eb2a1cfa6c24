"""Byte-level BPE with added tokens and normalisers: held to a plain rule, and to itself in other ways of asking."""

import pickle
import tracemalloc
import unicodedata

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tokenizer import (
    AddedToken,
    BPETokenizer,
    BPEVocabulary,
    CharTokenizer,
    FormatError,
    SpecialTokenError,
    TokenizerError,
    TrainingError,
    Trusted,
    Untrusted,
    formats,
    load,
    streaming,
)
from tokenizer import normalizers as n
from tokenizer.explain import explain
from tokenizer.normalizer_chain import chain_cut
from tokenizer.preparation import Preparation

BARE = BPETokenizer.train("the cat's caf\u00e9 \ud55c\uad6d  <t> the cat\n" * 9, 300)
FIRST = {"<t>": 400, "<t": 401, "t><": 402, "<s>x": 403, "ab": 404, "abc": 405, "\u0301": 406, "e\u0301z": 407}
LATER = {"bcd": 410, "cd": 411, "  ": 412, "   ": 413, "\u00e9z": 414, "o\u0308": 415, "<s": 416, "\u1112\u1161": 417}
SPECIAL = {"<s>": 420, "</s>": 421}
ADDED = [
    *(AddedToken(text, token_id) for text, token_id in FIRST.items()),
    *(AddedToken(text, token_id, normalized=True) for text, token_id in LATER.items()),
]


def made(added=(), normalizers=(), special=SPECIAL):
    return BPETokenizer(BARE.vocabulary, special_tokens=special, added_tokens=added, normalizers=normalizers)


NFC = made(ADDED, [n.Unicode("NFC")])
TOKENIZERS = {
    "added": made(ADDED),
    **{form: made(ADDED, [n.Unicode(form)]) for form in ("NFC", "NFD", "NFKC", "NFKD")},
    "normal form alone": made(normalizers=[n.Unicode("NFC")]),
    "chain": made(ADDED, [n.Unicode("NFKD"), n.StripAccents(), n.Lowercase()]),
    "not local": made([token for token in ADDED if token.text.strip()], [n.Replace("t ", "x"), n.Strip()]),
    "prepend": made(ADDED, [n.Prepend("_")]),
}
COMMON = st.sampled_from(
    [
        *"abcdet oxz<>s\n'1_\u0301\u0308\u0327\u0338\u00e9\u1112\u1161\u11ab\ud55c\u200d\u2126\u4e2d",
        *("  ", "<s>", "</s>", "<s", "<t>", "<t", "t><", "the", "e\u0301z", "o\u0308", "abcd", "\ufb01", "\U0001f600"),
    ]
)
TEXTS = st.lists(COMMON, max_size=24).map("".join)


def cut_out(names, text):
    """Plain texts and ids: at each place the longest name, the leftmost first."""
    parts, plain, place = [], "", 0
    while place < len(text):
        name = max((name for name in names if text.startswith(name, place)), key=len, default=None)
        if name is None:
            plain += text[place]
            place += 1
            continue
        parts += [plain, names[name]]
        plain = ""
        place += len(name)
    return [part for part in [*parts, plain] if part != ""]


def plainly(form, text, allowed):
    normal = lambda part: unicodedata.normalize(form, part) if form else part
    later = {normal(name): token_id for name, token_id in LATER.items()}
    ids = []
    for part in cut_out({**FIRST, **{name: SPECIAL[name] for name in allowed}}, text):
        for piece in [part] if isinstance(part, int) else cut_out(later, normal(part)):
            ids += [piece] if isinstance(piece, int) else BARE.encode(piece)
    return ids


@pytest.mark.parametrize("form", [None, "NFC", "NFD", "NFKC", "NFKD"])
@pytest.mark.parametrize("allowed", [(), ("<s>",), ("<s>", "</s>")])
def test_ids_are_those_of_the_plain_rule(form, allowed):
    tokenizer = TOKENIZERS[form or "added"]

    @settings(derandomize=True, max_examples=60, deadline=None)
    @given(TEXTS)
    @example("<s>\u0338 e\u0301z<t><t>  \u1112\u1161\u11ab")
    def compare(text):
        assert tokenizer.encode(text, allowed_special=allowed) == plainly(form, text, allowed)

    compare()


@pytest.mark.parametrize("kind", TOKENIZERS)
@settings(derandomize=True, max_examples=60, deadline=None)
@given(chunks=st.lists(st.one_of(COMMON, st.sampled_from(["\ud83d", "\ude00"])), max_size=20))
def test_chunks_of_str_give_the_ids_of_the_text(kind, chunks):
    tokenizer = TOKENIZERS[kind]
    for allowed in ((), "all"):
        expected = tokenizer.encode("".join(chunks), allowed_special=allowed)
        for characters in (1, 4):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(streaming, "_CHARACTERS", characters)
                assert list(tokenizer.encode_iterable(chunks, allowed_special=allowed)) == expected


@pytest.mark.parametrize("kind", TOKENIZERS)
@settings(derandomize=True, max_examples=40, deadline=None)
@given(text=st.lists(st.one_of(COMMON.map(str.encode), st.binary(max_size=2))).map(b"".join), size=st.integers(1, 4))
def test_bytes_in_chunks_and_in_batches_give_the_ids_of_the_text(kind, text, size):
    tokenizer = TOKENIZERS[kind]
    expected = tokenizer.encode(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streaming, "_CHARACTERS", 3)
        chunks = [text[start : start + size] for start in range(0, len(text), size)]
        assert list(tokenizer.encode_iterable(chunks)) == expected
    assert tokenizer.encode_batch([text, b"<t>", text], threads=2) == [expected, tokenizer.encode("<t>"), expected]
    assert tokenizer.encode_to_array(text).tolist() == expected


def test_every_cut_of_a_text_gives_the_same_ids(monkeypatch):
    monkeypatch.setattr(streaming, "_CHARACTERS", 1)
    text = "cafe\u0301z  \u1112\u1161\u11ab<s>\u0338<t><t>e\u0301\u0327 abcd "
    for kind, tokenizer in TOKENIZERS.items():
        expected = tokenizer.encode(text, allowed_special="all")
        for cut in range(len(text) + 1):
            found = list(tokenizer.encode_iterable([text[:cut], text[cut:]], allowed_special="all"))
            assert found == expected, (kind, cut)


def test_memory_of_a_stream_does_not_grow_without_spaces():
    def peak(count):
        tracemalloc.start()
        for _ in NFC.encode_iterable("\u4e2d\u6587u\u0308\u3002<t>" * 100 for _ in range(count)):
            pass
        result = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return result

    peak(1)  # makes the tokenizer's tables
    assert peak(240) < 1.2 * peak(60)


@pytest.mark.parametrize("form", ["NFC", "NFD", "NFKC", "NFKD"])
@settings(derandomize=True, max_examples=100, deadline=None)
@given(
    st.text(st.one_of(st.characters(), st.sampled_from("e\u0301\u0327\u1112\u1161\u11ab\uff76\uff9e")), max_size=9),
    st.text(max_size=3),
)
def test_normal_forms_can_be_made_apart_at_the_last_border(form, text, after):
    step = n.Unicode(form)
    cut = step.last_border(text)
    assert step.apply(text[:cut]) + step.apply(text[cut:] + after) == step.apply(text + after)


@settings(derandomize=True, max_examples=100, deadline=None)
@given(TEXTS, TEXTS)
def test_chains_can_be_applied_apart_at_their_last_cut(text, after):
    chain = [n.Replace("t", "ab"), n.Unicode("NFKC"), n.Bert(), n.CollapseSpaces(), n.Replace(" ", " -")]

    def apply(part):
        for step in chain:
            part = step.apply(part)
        return part

    cut = chain_cut(chain, text)
    assert apply(text[:cut]) + apply(text[cut:] + after) == apply(text + after)
    assert chain_cut([*chain, n.Prepend("x")], text) == chain_cut([n.Strip()], text) == 0


@pytest.mark.parametrize("kind", TOKENIZERS)
@settings(derandomize=True, max_examples=60, deadline=None)
@given(text=TEXTS)
def test_offsets_say_where_in_the_original_a_token_comes_from(kind, text):
    tokenizer = TOKENIZERS[kind]
    ids, offsets = tokenizer.encode_with_offsets(text, allowed_special="all")
    assert ids == tokenizer.encode(text, allowed_special="all")
    assert [start for start, _ in offsets] == sorted(start for start, _ in offsets)
    for token_id, (start, stop) in zip(ids, offsets, strict=True):
        assert 0 <= start <= stop <= len(text)
        if token_id in FIRST.values() or token_id in SPECIAL.values():
            assert tokenizer.token_bytes(token_id).decode() == text[start:stop]
        elif kind == "added":
            assert tokenizer.token_bytes(token_id) in text[start:stop].encode()
        elif kind in ("NFC", "NFD", "NFKC", "NFKD"):
            assert tokenizer.token_bytes(token_id) in unicodedata.normalize(kind, text[start:stop]).encode()
    if not tokenizer.normalizers:
        return  # then each byte of a character has its own place
    in_bytes = tokenizer.encode_with_offsets(text.encode(), allowed_special="all")
    places = [len(text[:place].encode()) for place in range(len(text) + 1)]
    assert in_bytes == (ids, [(places[start], places[stop]) for start, stop in offsets])


def test_offsets_count_surrogates_and_bytes_as_they_came():
    text = "\ud83d\ude00<t>e\u0301z\ud800o\u0308"
    ids, offsets = NFC.encode_with_offsets(text)
    assert ids == NFC.encode(text) and ids[-1] == LATER["o\u0308"]
    assert offsets[4:6] == [(2, 5), (5, 8)] and offsets[-1] == (9, 11) and offsets[-2] == (8, 9)
    ids, offsets = NFC.encode_with_offsets(b"\xff<t>o\xcc\x88\xcc")
    assert offsets == [(0, 1), (1, 4), (4, 7), (7, 8)]
    assert made(normalizers=[n.Prepend("_")]).encode_with_offsets("a")[1] == [(0, 0), (0, 1)]
    assert NFC.encode_with_offsets("") == ([], [])


def test_decoding_gives_the_normalised_text_and_the_added_tokens_as_text():
    text = "Cafo\u0308 <t>  <s>x\u1112\u1161\u11ab"
    ids = NFC.encode(text)
    assert NFC.decode(ids) == unicodedata.normalize("NFC", text)
    decoder = NFC.stream_decoder()
    assert "".join(map(decoder.feed, ids)) + decoder.flush() == NFC.decode(ids)
    lower = made([AddedToken("ABC", 400, normalized=True)], [n.Lowercase()])
    assert lower.encode("aBc") == [400] and lower.decode([400]) == "abc"  # as the peer
    assert NFC.decode_bytes(NFC.encode(b"u\xcc\x88\xff\x80")) == "\u00fc".encode() + b"\xff\x80"


def test_bytes_that_are_no_text_cannot_become_it_where_a_normaliser_removes_something():
    tokenizer = made(normalizers=[n.StripAccents()])
    assert tokenizer.decode(tokenizer.encode(b"\xc3\xcc\x81\xa9")) == "\ufffd\ufffd"


def test_text_makes_added_tokens_and_never_special_ones():
    for tokenizer in TOKENIZERS.values():
        ids = tokenizer.encode("<s></s><s>x")
        assert not set(ids) & set(SPECIAL.values())
    assert FIRST["<s>x"] in NFC.encode("<s><s>x") and LATER["<s"] in NFC.encode("<s>")
    assert NFC.encode("<s><s>x", allowed_special="all") == [SPECIAL["<s>"], FIRST["<s>x"]]
    wide = made(normalizers=[n.Unicode("NFKC")])
    assert SPECIAL["<s>"] not in wide.encode("\uff1cs\uff1e", allowed_special="all")


def test_spans_find_added_tokens_within_what_is_joined():
    assert NFC.encode([Untrusted("<"), Untrusted("t>"), Trusted("<s>"), Untrusted("x")]) == [400, 420, *NFC.encode("x")]
    with pytest.raises(SpecialTokenError, match="not a special token"):
        NFC.encode([Trusted("<t>")])
    with pytest.raises(SpecialTokenError, match="'<t>' at position 2"):
        NFC.encode("a <t>", disallowed_special={"<t>"})
    with pytest.raises(SpecialTokenError, match="'<t>' at position 2"):
        list(NFC.encode_iterable(["a <", "t>"], disallowed_special={"<t>"}))


def test_ascii_is_not_normalised_character_by_character(monkeypatch):
    def fail(*_):
        pytest.fail("normalised what stays as it is")

    monkeypatch.setattr(n.Unicode, "apply", fail)
    monkeypatch.setattr(n.Unicode, "pieces", fail)
    assert NFC.decode(NFC.encode("the cat <t>")) == "the cat <t>"
    assert NFC.encode_with_offsets("a <t>")[1][-1] == (2, 5)


@pytest.mark.parametrize("kind", TOKENIZERS)
@settings(derandomize=True, max_examples=30, deadline=None)
@given(text=TEXTS)
def test_explanations_are_of_the_same_tokens_at_the_same_places(kind, text):
    tokenizer = TOKENIZERS[kind]
    explanation = explain(tokenizer, text, allowed_special="all")
    ids, offsets = tokenizer.encode_with_offsets(text, allowed_special="all")
    assert [token.token_id for token in explanation.tokens] == ids
    assert [(token.start, token.stop) for token in explanation.tokens] == offsets


def test_explanations_name_added_tokens_and_what_was_normalised():
    explanation = explain(NFC, "cafu\u0308 <t><s>", allowed_special="all")
    assert "normalised (NFC)" in " ".join(explanation.about)
    cafe, _, added, special = explanation.pieces
    assert cafe.note.startswith("normalised to caf\u00fc (5 code points, now 4)") and (cafe.start, cafe.stop) == (0, 5)
    assert (added.note, added.special) == ("an added token, found in any text", False)
    assert special.special and special.tokens[0].token_id == SPECIAL["<s>"]
    assert "<s> at 4 to 7 stayed" in " ".join(explain(NFC, "<t>a<s>").about)


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_tokenizers_are_saved_whole(kind, tmp_path):
    tokenizer = TOKENIZERS[kind]
    text = " cafe\u0301z <t>  abcd <s> \ufb01 "
    tokenizer.save(tmp_path / "own.json")
    formats.write(tokenizer, tmp_path / "tokenizer.json", "huggingface")
    formats.convert(tmp_path / "tokenizer.json", tmp_path / "again.json", "own")
    copies = [load(tmp_path / "own.json"), pickle.loads(pickle.dumps(tokenizer)), load(tmp_path / "again.json")]
    for copy in [*copies, formats.read(tmp_path / "tokenizer.json")]:
        assert (copy.added_tokens, copy.normalizers) == (tokenizer.added_tokens, tokenizer.normalizers)
        assert copy.encode(text) == tokenizer.encode(text)
    assert tokenizer.to_dict()["version"] == 3 and BARE.to_dict()["version"] == 2


def test_added_tokens_that_would_be_lost_keep_a_file_from_being_written(tmp_path, monkeypatch):
    write = formats.huggingface.files
    monkeypatch.setattr(formats.huggingface, "files", lambda tokenizer, ignore: write(made(), ignore))
    with pytest.raises(FormatError, match="differ on '<t>'"):
        formats.write(made([AddedToken("<t>", 400)]), tmp_path / "tokenizer.json", "huggingface")


@pytest.mark.parametrize("format", ["gpt2", "tiktoken"])
def test_formats_without_a_place_for_them_refuse(format, tmp_path):
    for tokenizer, what in ((made(ADDED), "added tokens"), (made(normalizers=[n.Unicode("NFC")]), "normalisers")):
        with pytest.raises(FormatError, match=f"cannot hold {what}"):
            formats.write(tokenizer, tmp_path, format)


def test_what_hugging_face_would_number_otherwise_is_not_written(tmp_path):
    whole = BPETokenizer(
        BPEVocabulary(BARE.vocabulary.tokens, BARE.vocabulary.merges, take_whole=True), added_tokens=ADDED
    )
    with pytest.raises(FormatError, match="numbers those that are not in the vocab in order"):
        formats.write(whole, tmp_path / "tokenizer.json", "huggingface")
    for wrong in (AddedToken("\u0120", 300), AddedToken("\u00e9", 256)):
        taken = BPETokenizer([(127, 102)], added_tokens=[wrong])  # 256 is \u00e9, written otherwise
        assert taken.encode(wrong.text) == [wrong.token_id]
        with pytest.raises(FormatError, match="that another token has"):
            formats.write(taken, tmp_path / "tokenizer.json", "huggingface")


def test_an_added_token_may_be_an_ordinary_one():
    the = BARE.encode("the")
    assert len(the) == 1
    tokenizer = made([AddedToken("the", the[0]), AddedToken("a", BARE.encode("a")[0], normalized=True)])
    assert tokenizer.encode("other cats") == [*BARE.encode("o"), *the, *BARE.encode("r c"), *BARE.encode("a"),
                                              *BARE.encode("ts")]  # fmt: skip
    assert tokenizer.vocab_size == 422


def test_ids_of_special_tokens_follow_the_added_ones():
    tokenizer = made([AddedToken("<t>", 310)], special=["<s>"])
    assert tokenizer.special_tokens == {"<s>": 311} and tokenizer.vocab_size == 312
    assert made([AddedToken("<t>", 310)], special={"<s>": 305}).encode("<t>") == [310]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: AddedToken("", 1), "non-empty"),
        (lambda: AddedToken("\ud800", 1), "surrogate"),
        (lambda: AddedToken("a", -1), "id -1"),
        (lambda: AddedToken("a", True), "id True"),
        (lambda: AddedToken("a", 1, "no"), "normalized"),
        (lambda: made(["<t>"]), "AddedToken"),
        (lambda: made([AddedToken("a", 400), AddedToken("a", 401)]), "the text 'a'"),
        (lambda: made([AddedToken("a", 400), AddedToken("b", 400)]), "the token_id 400"),
        (lambda: made([AddedToken("<s>", 400)]), "special token"),
        (lambda: made([AddedToken("<t>", 420)]), "420|special"),
        (lambda: made([AddedToken("\u00e9", 5)]), "belongs to the ordinary token"),
        (lambda: made([AddedToken(" ", 400, True)], [n.Strip()]), "' ' nothing"),
        (lambda: made([AddedToken("A", 400, True), AddedToken("a", 401, True)], [n.Lowercase()]), "as of another"),
        (lambda: made(normalizers=[n.Metaspace()]), "by words"),
        (lambda: made(normalizers=["NFC"]), "tokenizer.normalizers"),
        (lambda: BPETokenizer.from_dict({**NFC.to_dict(), "added_tokens": [["a"]]}), "damaged"),
        (lambda: BPETokenizer.from_dict({**NFC.to_dict(), "normalizers": [{"type": "NFX"}]}), "NFX"),
        (lambda: BPETokenizer.from_dict({**NFC.to_dict(), "version": 4}), "version 2 or 3, found 4"),
    ],
)
def test_what_is_wrong_is_refused(wrong, message):
    with pytest.raises(TokenizerError, match=message):
        wrong()


def test_training_does_not_go_on_from_what_it_would_not_keep():
    with pytest.raises(TrainingError, match="added tokens or normalisers"):
        BPETokenizer.train("abc" * 9, 500, continue_from=NFC)


def test_without_added_tokens_and_normalisers_a_preparation_changes_nothing():
    nothing = Preparation((), (), SPECIAL)
    assert nothing.does_nothing and nothing.prepared(["a", 420, "b"]) == ["a", 420, "b"]
    assert CharTokenizer("ab").added_tokens == BARE.added_tokens == ()
