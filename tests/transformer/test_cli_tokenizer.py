"""`tgl tokenizer` as a newcomer types it."""

import io
import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

import tokenizer as tokenizers
from tokenizer.explain import explain
from tokenizer.normalizers import Bert
from tokenizer.sentencepiece import SentencePieceTokenizer
from tokenizer.trace import TrainingTrace, check, replay
from tokenizer.unigram import UnigramTokenizer
from tokenizer.wordpiece import BERT_SPECIAL_TOKENS, WordPieceTokenizer
from transformer.cli import tokenizer_files, tokenizer_train
from transformer.cli.app import app
from transformer.cli.screen import Screen
from transformer.cli.tokenizer_compare import short_names
from transformer.cli.tokenizer_view import COLOURS, SPECIAL, print_explanation, tokens_text

TEXT = "the cat sat on the mat, the dog at the door: that hat, that cat! \n" * 20


@pytest.fixture(scope="module", autouse=True)
def commands_built_once():
    """Building them takes longer than most of them do."""
    command = typer.main.get_command(app)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(typer.testing, "_get_command", lambda app: command, raising=False)
        yield


def run(*args, stdin=None):
    return CliRunner().invoke(app, list(map(str, args)), input=stdin)


def invoke(*args, stdin=None):
    return run("tokenizer", *args, stdin=stdin)


def tgl(*args, stdin=None):
    result = invoke(*args, stdin=stdin)
    assert result.exit_code == 0, (result.output, result.exception)
    return result.stdout


def refused(*args, stdin=None):
    """The message of a command that must not run."""
    result = invoke(*args, stdin=stdin)
    assert isinstance(result.exception, ValueError | OSError) and result.stdout == "", result.output
    return str(result.exception)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """(folder, tokenizer file): the folder has the text, too."""
    folder = tmp_path_factory.mktemp("tokenizers")
    (folder / "text.txt").write_text(TEXT)
    out = folder / "small.json"
    tgl("train", folder / "text.txt", "--vocab-size", 280, "--special", "<end>", "--out", out)
    return folder, out


def test_training_writes_a_tokenizer_and_says_what_to_do_with_it(tmp_path):
    (tmp_path / "text.txt").write_text(TEXT)
    output = tgl("train", tmp_path / "text.txt", "--vocab-size", 270, "--out", tmp_path / "new.json")
    expected = tokenizers.BPETokenizer.train(TEXT, 270)
    assert tokenizers.load(tmp_path / "new.json").to_dict() == expected.to_dict()
    per_token = len(TEXT) / len(expected.encode(TEXT))
    assert f"270 tokens, {per_token:.2f} bytes each on the training text." in output
    command = re.search(r"^ +tgl tokenizer (explain --tokenizer .*)$", output, re.M).group(1)
    assert str(tmp_path / "new.json") in command and "the cat sat" in command
    assert sorted(file.name for file in tmp_path.iterdir()) == ["new.json", "text.txt"]


def test_the_training_text_cannot_command_the_terminal(tmp_path):
    output = tgl(
        "train", "--vocab-size", 260, "--out", tmp_path / "new.json", stdin="one \x1b]0;title\x07 two\u202e three"
    )
    assert "\x1b" not in output and "\u202e" not in output and "'one three'" in output


def test_only_the_beginning_of_a_large_text_is_read_to_measure_on(tmp_path, monkeypatch):
    monkeypatch.setattr(tokenizer_train, "SAMPLE", 10)
    (tmp_path / "a").write_bytes(b"1234")
    (tmp_path / "b").write_bytes(b"\xff" * 20)
    monkeypatch.setattr(tokenizers.corpus.Path, "read_bytes", None)  # a file of any size would be in memory as a whole
    assert tokenizer_train._sample([tmp_path / "a", tmp_path / "b"]) == b"1234" + b"\xff" * 6


@pytest.mark.parametrize("options, expected", [
    (["--kind", "char"], lambda: tokenizers.CharTokenizer.train(TEXT)),
    (["--kind", "char", "--byte-fallback"], lambda: tokenizers.CharTokenizer.train(TEXT, byte_fallback=True)),
    (["--kind", "sentencepiece", "--vocab-size", "320", "--special", "<a>"],
     lambda: SentencePieceTokenizer.train(TEXT, 320, special_tokens=["<unk>", "<s>", "</s>", "<a>"])),
    (["--kind", "unigram", "--vocab-size", "320"], lambda: UnigramTokenizer.train(TEXT, 320, byte_fallback=True)),
    (["--kind", "unigram", "--vocab-size", "60", "--no-byte-fallback"], lambda: UnigramTokenizer.train(TEXT, 60)),
    (["--kind", "wordpiece", "--vocab-size", "60"], lambda: WordPieceTokenizer.train(TEXT, 60)),
    (["--kind", "wordpiece", "--vocab-size", "60", "--cased", "--special", "<a>"], lambda: WordPieceTokenizer.train(
        TEXT, 60, normalizers=(Bert(lowercase=False),), special_tokens=[*BERT_SPECIAL_TOKENS, "<a>"])),
    (["--pattern", "none", "--vocab-size", "280"], lambda: tokenizers.BPETokenizer.train(TEXT, 280, pattern=None)),
    (["--pattern", r"\w+", "--vocab-size", "280", "--tie-break", "greatest-bytes", "--special", "<a>", "--special", "<b>"],
     lambda: tokenizers.BPETokenizer.train(TEXT, 280, pattern=r"\w+", tie_break="greatest-bytes", special_tokens=["<a>", "<b>"])),
])  # fmt: skip
def test_training_does_what_the_options_ask_for_from_standard_input(tmp_path, options, expected):
    tgl("train", *options, "--out", tmp_path / "new.json", stdin=TEXT)
    assert tokenizers.load(tmp_path / "new.json").to_dict() == expected().to_dict()


def test_training_reads_folders_and_says_when_the_text_gives_fewer_tokens(tmp_path):
    (tmp_path / "texts" / "more").mkdir(parents=True)
    (tmp_path / "texts" / "a.txt").write_text("abab")
    (tmp_path / "texts" / "more" / "b.txt").write_text("cdcd")
    output = tgl("train", tmp_path / "texts", "--out", tmp_path / "new.json")
    assert "The text gives no more: 4,096 tokens were asked for." in output
    assert b"cdcd" in [tokenizers.load(tmp_path / "new.json").token_bytes(n) for n in range(256, 260)]


def test_what_is_not_text_is_left_out_of_folders_and_refused_by_name(tmp_path):
    (tmp_path / "texts" / ".git").mkdir(parents=True)
    (tmp_path / "texts" / "a.txt").write_text("abab")
    (tmp_path / "texts" / ".git" / "b").write_text("xyxyxy")
    (tmp_path / "texts" / "c").write_bytes(b"\x00zz" * 30000 + b"\xff")
    result = invoke("train", tmp_path / "texts", "--out", tmp_path / "new.json")
    assert f"Left out, since it is not UTF-8 text: {tmp_path / 'texts' / 'c'}." in result.stderr
    assert tokenizers.load(tmp_path / "new.json").to_dict() == tokenizers.BPETokenizer.train("abab", 300).to_dict()
    message = refused("train", tmp_path / "texts" / "c", "--out", tmp_path / "other.json")
    assert "c is not UTF-8 (invalid start byte near byte 90,000)" in message
    tgl(
        "train",
        tmp_path / "texts" / "c",
        "--out",
        tmp_path / "other.json",
        "--invalid-utf8",
        "keep",
        "--pattern",
        "none",
    )
    assert tokenizers.load(tmp_path / "other.json").vocab_size > 260


def test_a_trace_of_the_training_is_kept_and_explained(tmp_path):
    (tmp_path / "text.txt").write_text(TEXT)
    trace = tmp_path / "new.trace.jsonl"
    output = tgl("train", tmp_path / "text.txt", "--vocab-size", 275, "--out", tmp_path / "new.json", "--trace", trace)
    assert f"Written: {tmp_path / 'new.json'} and {trace}." in output
    loaded = TrainingTrace.load(trace)
    assert replay(loaded).to_dict() == tokenizers.load(tmp_path / "new.json").to_dict()
    check(loaded, TEXT)
    beside = tgl("explain", "the cat", "-t", tmp_path / "new.json")
    trace.rename(tmp_path / "elsewhere")
    assert "ranks only" in tgl("explain", "the cat", "-t", tmp_path / "new.json")
    named = tgl("explain", "the cat", "-t", tmp_path / "new.json", "--trace", tmp_path / "elsewhere")
    first = loaded.records[0]
    assert named == beside and f"rank 0: {first.count} times in training; next was " in named and "a tie with" in named
    tgl("train", tmp_path / "text.txt", "--vocab-size", 278, "--continue-from", tmp_path / "new.json", "--out",
        tmp_path / "more.json", "--trace", tmp_path / "more.trace.jsonl")  # fmt: skip
    more = tokenizers.load(tmp_path / "more.json")
    assert more.merges[:19] == tokenizers.load(tmp_path / "new.json").merges and more.vocab_size == 278
    assert replay(TrainingTrace.load(tmp_path / "more.trace.jsonl")).to_dict() == more.to_dict()
    args = ("explain", "a", "-t", tmp_path / "new.json", "--trace", tmp_path / "more.trace.jsonl")
    assert "the trace is that of another training" in refused(*args)


def test_what_would_fail_after_the_learning_or_be_ignored_is_refused_before_it(made, tmp_path, monkeypatch):
    monkeypatch.setattr(tokenizers.BPETokenizer, "train", None)
    for place in (
        ["--out", tmp_path / "no" / "x.json"],
        ["--out", tmp_path / "x.json", "--trace", tmp_path / "no" / "t"],
    ):
        assert "there is no folder" in refused("train", *place, stdin=TEXT)
    message = refused("train", "--continue-from", made[1], "--pattern", "o200k", "--out", tmp_path / "x", stdin=TEXT)
    assert "--continue-from has the pattern gpt2" in message


def test_a_pattern_that_is_the_default_is_not_ignored_for_that_of_the_tokenizer_gone_on_from(tmp_path):
    tgl("train", "--pattern", "cl100k", "--vocab-size", 260, "--out", tmp_path / "old.json", stdin=TEXT)
    options = ["--continue-from", tmp_path / "old.json", "--pattern", "gpt2", "--out", tmp_path / "new.json"]
    assert "has the pattern cl100k" in refused("train", *options, stdin=TEXT)


@pytest.mark.parametrize("options, message", [
    (["--kind", "sentence"], "--kind must be one of bpe,"),
    (["--kind", "char", "--vocab-size", "300"], "--vocab-size is not for --kind char"),
    (["--cased"], "--cased is not for --kind bpe"),
    (["--vocab-size", "10"], "expected vocab_size of at least 256"),
    (["--tie-break", "first"], "expected tie_break as one of"),
    (["--pattern", "gpt5"], "unknown pattern name 'gpt5'"),
])  # fmt: skip
def test_training_that_cannot_be_is_refused_and_leaves_nothing_behind(tmp_path, options, message):
    assert message in refused("train", *options, "--out", tmp_path / "new.json", stdin=TEXT)
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_replaced_only_when_asked(made, tmp_path):
    folder, out = made
    before = out.read_bytes()
    for args in (["train", folder / "text.txt", "--out", out], ["encode", "x", "-t", out, "--out", folder / "text.txt.txt"],
                 ["explain", "x", "-t", out, "--html", out], ["compare", out, "--text", folder / "text.txt", "--plot", out],
                 ["decode", "1", "-t", out, "--out", out]):  # fmt: skip
        (folder / "text.txt.txt").touch()
        assert "exists" in refused(*args) and out.read_bytes() == before
    tgl("train", folder / "text.txt", "--vocab-size", 260, "--out", tmp_path / "a.json")
    tgl("train", folder / "text.txt", "--vocab-size", 261, "--out", tmp_path / "a.json", "--force")
    assert tokenizers.load(tmp_path / "a.json").vocab_size == 261


def test_a_stopped_training_writes_nothing(tmp_path, monkeypatch):
    def stop(*args, **settings):
        raise KeyboardInterrupt

    monkeypatch.setattr(tokenizers.BPETokenizer, "train", stop)
    result = invoke("train", "--out", tmp_path / "new.json", stdin=TEXT)
    assert result.exit_code == 130 and "stopped; nothing was written" in result.stderr and not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["the cat <end>!", "é 漢 🙂 \x00", "", " "])
def test_ids_on_the_screen_are_those_of_the_library_and_come_back(made, text):
    tok = tokenizers.load(made[1])
    output = tgl("encode", "-t", made[1], stdin=text)
    assert output == " ".join(map(str, tok.encode(text))) + "\n"
    assert tgl("decode", "-t", made[1], stdin=output) == text
    if text:
        assert tgl("encode", text, "-t", made[1]) == output
        assert tgl("decode", "-t", made[1], *output.split()) == text


def test_special_tokens_are_text_unless_allowed_and_trusted_ones_are_put_around(made):
    tok = tokenizers.load(made[1])
    end = tok.special_tokens["<end>"]
    ids = lambda *options: [int(n) for n in tgl("encode", "a<end>b", "-t", made[1], *options).split()]
    assert end not in ids() and ids("--allow-special", "all") == ids("--allow-special", "<end>")
    assert ids("--allow-special", "<end>") == [*tok.encode("a"), end, *tok.encode("b")]
    assert ids("--before", "<end>", "--after", "<end>") == [end, *tok.encode("a<end>b"), end]
    assert "holds '<end>' at position 1" in refused("encode", "a<end>b", "-t", made[1], "--refuse-special")
    assert "'<x>' is not a special token" in refused("encode", "a", "-t", made[1], "--before", "<x>")


@pytest.mark.parametrize("suffix", [".npy", ".bin", ".txt"])
def test_ids_go_to_a_file_and_back_byte_for_byte(made, tmp_path, suffix):
    data = (TEXT * 3 + "é漢").encode() + b"\xff\xfe\n"
    (tmp_path / "in").write_bytes(data)
    ids = tokenizers.load(made[1]).encode_to_array(data)
    file = tmp_path / f"ids{suffix}"
    result = invoke("encode", "-t", made[1], "--file", tmp_path / "in", "--out", file)
    assert result.exit_code == 0 and f"{len(ids):,} ids" in result.stderr
    read = {
        ".npy": np.load,
        ".bin": lambda f: np.fromfile(f, "<u2"),
        ".txt": lambda f: np.array(f.read_text().split(), "<u2"),
    }
    assert np.array_equal(read[suffix](file), ids) and read[suffix](file).dtype == np.uint16
    tgl("decode", "-t", made[1], "--file", file, "--out", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == data
    assert invoke("decode", "-t", made[1], "-f", file).stdout_bytes == data


def test_no_ids_make_a_file_too(made, tmp_path):
    tgl("encode", "-t", made[1], "--out", tmp_path / "ids.npy", stdin="")
    assert np.load(tmp_path / "ids.npy").shape == (0,)
    tgl("decode", "-t", made[1], "-f", tmp_path / "ids.npy", "--out", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == b""


def test_what_fails_half_way_leaves_no_file_behind(made, tmp_path):
    text = TEXT * 1000 + "<end>"
    assert "forbids" in refused("encode", "-t", made[1], "--out", tmp_path / "x.npy", "--refuse-special", stdin=text)
    assert "out of range" in refused("decode", "-t", made[1], "--out", tmp_path / "x", stdin="1 2 " * 9000 + "999999")
    assert list(tmp_path.iterdir()) == []


def test_any_notation_of_ids_is_read_wherever_the_text_is_cut():
    for text in ("1 22 333", "[1, 22, 333]\n", "1,22,333", "1\n22\n\n333\n"):
        for cut in range(len(text)):
            groups = tokenizer_files.parse_ids([text[:cut], text[cut:]])
            assert [n for group in groups for n in group] == [1, 22, 333]


@pytest.mark.parametrize("content, suffix, message", [
    (b"1 2 three", ".txt", "expected token ids as whole numbers, got 'three'"), (b"\x01", ".bin", "no whole number of uint16"),
    (b"rubbish", ".npy", "expected an array of ids"), (None, ".txt", "No such file"),
])  # fmt: skip
def test_files_of_ids_that_are_none_are_refused(made, tmp_path, content, suffix, message):
    file = tmp_path / f"ids{suffix}"
    if content is not None:
        file.write_bytes(content)
    assert message in str(invoke("decode", "-t", made[1], "--file", file).exception)


def test_offsets_are_printed_by_line(made):
    tok = tokenizers.load(made[1])
    lines = tgl("encode", "the 🙂\n", "-t", made[1], "--offsets").splitlines()
    ids, spans = tok.encode_with_offsets("the 🙂\n")
    assert [tuple(map(int, line.split("\t")[:3])) for line in lines] == [(n, *span) for n, span in zip(ids, spans)]
    assert lines[0].endswith("\tthe") and lines[-1].endswith("\t↵") and "\\xF0" in "".join(lines)


def test_tokens_are_parted_by_borders_where_there_are_no_colours(made):
    assert tgl("encode", "the cat<end>\nx│", "-t", made[1], "--show", "--allow-special", "<end>") == (
        "the│·cat│[<end>]│↵\nx│\\u2502\n"
        if b"\xe2\x94\x82" in _tokens(made)
        else "the│·cat│[<end>]│↵\nx│\\xE2│\\x94│\\x82\n"
    )


def _tokens(made):
    tok = tokenizers.load(made[1])
    return {tok.token_bytes(n) for n in range(tok.vocab_size)}


def test_neighbours_have_different_colours_on_a_terminal(made):
    screen = Screen(file=io.StringIO(), force_terminal=True, color_system="standard", width=80)
    text = tokens_text([(b"a", False), (b" b", False), (b"<end>", True), (b"\n", False), (b"|", False)], screen)
    assert text.plain == "a·b<end>↵\n|"
    styles = [str(span.style) for span in text.spans if span.style]
    assert styles == [COLOURS[0], COLOURS[1], SPECIAL, COLOURS[3], COLOURS[0]]
    screen.print(text)
    assert "\x1b[30;46ma\x1b[0m" in screen.file.getvalue()


@pytest.mark.parametrize("settings", [{"no_color": True}, {"color_system": None}, {"force_terminal": False}])
def test_no_colours_where_they_are_not_wanted(settings):
    screen = Screen(
        **{"file": io.StringIO(), "force_terminal": True, "color_system": "standard", "width": 80, **settings}
    )
    screen.print(tokens_text([(b"a", False), (b"b", False)], screen))
    assert screen.file.getvalue() == "a│b\n"


def test_an_explanation_names_cuts_merges_and_what_stayed_text(made):
    output = tgl("explain", "the cat<end>", "-t", made[1])
    assert "280 tokens, 23 merges" in output and "<end> at 7 to 12 stayed plain text" in output
    assert re.search(r"^·cat  letters, with the space before them:  / \?\\p\{L\}\+/$", output, re.M)
    steps = [step for token in explain(tokenizers.load(made[1]), "the cat<end>").tokens for step in token.steps]
    assert len(steps) > 3 and all(f"rank {step.rank}\n" in output for step in steps)
    assert output == tgl("explain", "-t", made[1], stdin="the cat<end>")


@pytest.mark.parametrize("width", [40, 100])
def test_an_explanation_is_laid_out_by_the_width_of_its_signs(width):
    tok = tokenizers.BPETokenizer.train("漢字漢字漢字 ab ab", 266)
    screen = Screen(file=io.StringIO(), force_terminal=True, color_system="standard", width=width)
    print_explanation(explain(tok, "漢字 ab"), screen)
    plain = re.sub(r"\x1b\[[0-9;]*m", "", screen.file.getvalue())
    from rich.cells import cell_len

    places = {cell_len(line[: line.index("rank")]) for line in plain.splitlines() if "rank " in line and "漢" in line}
    assert len(places) == 1


def test_the_page_is_written_whole(made, tmp_path):
    tgl("explain", "the cat", "-t", made[1], "--html", tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>") and page.endswith("</html>\n") and page.count("<button ") == 2


def test_tokenizers_are_compared_in_a_table_in_json_and_in_a_picture(made, tmp_path):
    folder, out = made
    tgl("train", folder / "text.txt", "--kind", "char", "--out", tmp_path / "char.json")
    args = ("compare", out, tmp_path / "char.json", "--text", folder / "text.txt")
    table = tgl(*args, "--plot", tmp_path / "plot.png").splitlines()
    assert len(table) == 3 and len({len(line) for line in table}) == 1
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG") and len(list(tmp_path.iterdir())) == 2
    first, second = json.loads(tgl(*args, "--json"))
    ids = tokenizers.load(out).encode(TEXT)
    assert (first["name"], first["tokens"], first["used"]) == ("small.json", len(ids), len(set(ids)))
    assert first["bytes_per_token"] == pytest.approx(len(TEXT) / len(ids))
    assert first["tokens_per_word"] == pytest.approx(len(ids) / len(TEXT.split()))
    assert first["used_share"] == pytest.approx(len(set(ids)) / 280) and first["lossless"] and first["mb_per_s"] > 0
    assert second["tokens"] == len(TEXT) and second["used_share"] == 1


def test_what_cannot_be_compared_is_named(made, tmp_path):
    folder, out = made
    tgl("train", "--kind", "char", "--out", tmp_path / "char.json", stdin="abc")
    message = refused("compare", out, tmp_path / "char.json", "--text", folder / "text.txt")
    assert "char.json: character 't'" in message
    assert "empty" in refused("compare", out, "--text", "-", stdin="")
    assert "not UTF-8" in refused("compare", out, "--text", "-", stdin=b"\xff")


def test_names_are_as_long_as_tells_them_apart():
    from pathlib import Path

    assert short_names([Path("a/x.json"), Path("b/y.json")]) == ["x.json", "y.json"]
    assert short_names([Path("r/a/x.json"), Path("r/b/x.json")]) == [
        os.path.join("a", "x.json"),
        os.path.join("b", "x.json"),
    ]
    assert short_names([Path("x.json"), Path("x.json")]) == ["x.json", "x.json"]


def test_a_missing_tokenizer_is_named_with_the_way_to_make_one(tmp_path):
    assert "there is no tokenizer" in refused("encode", "x", "-t", tmp_path / "none.json")


@pytest.mark.parametrize("to, name, back", [
    ("huggingface", "tokenizer.json", []), ("gpt2", "folder", []),
    ("tiktoken", "x.tiktoken", ["--pattern", "gpt2", "--special", "<end>=279"]),
])  # fmt: skip
def test_a_tokenizer_is_written_in_another_format_and_read_back(made, tmp_path, to, name, back):
    folder, out = made
    lost = ["--ignore", "special_tokens"] if to == "tiktoken" else []
    output = tgl("convert", out, tmp_path / name, "--to", to, "--text", folder / "text.txt", *lost)
    assert f"280 tokens, from own to {to}. Both give the same ids on 22 texts." in output
    tgl("convert", tmp_path / name, tmp_path / "back.json", "--to", "own", *back)
    again, tok = tokenizers.load(tmp_path / "back.json"), tokenizers.load(out)
    text = TEXT + "é漢<end>"
    assert again.encode(text, allowed_special="all") == tok.encode(text, allowed_special="all")
    if to != "tiktoken":  # a file of any format will do as --tokenizer
        assert tgl("encode", "the cat", "-t", tmp_path / name) == tgl("encode", "the cat", "-t", out)
        assert "rank " in tgl("explain", "the cat", "-t", tmp_path / name)
    else:
        assert "--pattern P" in refused("encode", "the cat", "-t", tmp_path / name)


@pytest.mark.parametrize("args, message", [
    (["--to", "wordpiece-vocab"], "BPE"), (["--to", "sentencepiece"], "unknown format 'sentencepiece'"),
    (["--to", "tiktoken"], "does not hold special tokens"), (["--to", "own", "--pattern", "gpt2"], "--pattern is for tiktoken"),
    (["--to", "own", "--special", "<x>=1"], "--special is for tiktoken"), (["--to", "own", "--from", "gpt2"], "vocab.bpe"),
    (["--to", "own", "--from", "tiktoken"], "say which with --pattern"),
    (["--to", "own", "--from", "tiktoken", "--pattern", "gpt2", "--special", "x"], "--special must be a name and an id"),
])  # fmt: skip
def test_a_conversion_that_cannot_be_is_refused_and_leaves_nothing_behind(made, tmp_path, args, message):
    assert message in refused("convert", made[1], tmp_path / "out", *args)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_made_for_nothing_is_removed(tmp_path):
    tgl("train", "--kind", "char", "--out", tmp_path / "char.json", stdin="abc")
    assert "byte-level BPE" in refused("convert", tmp_path / "char.json", tmp_path / "new", "--to", "gpt2")
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
def test_a_model_is_trained_on_the_ids_of_a_tokenizers_file_and_keeps_it(made, tmp_path):
    folder, out = made
    size = "--layers 1 --heads 2 --channels 16 --block-size 16 --batch-size 4"
    small = (*size.split(), "--out", tmp_path / "run")
    result = run("train", "--data", folder / "text.txt", "--tokenizer", out, "--steps", 2, *small)
    assert result.exit_code == 0 and "of 280 kinds" in result.output, result.output
    assert tgl("encode", "the cat", "-t", tmp_path / "run") == tgl("encode", "the cat", "-t", out)
    result = run("train", "--resume", "--steps", 3, "--out", tmp_path / "run")
    assert result.exit_code == 0, result.output
    assert "there is no tokenizer none.json" in str(run("train", "--tokenizer", "none.json", *small).exception)


def test_help_names_every_command():
    output = tgl("--help")
    assert all(name in output for name in ("train", "encode", "decode", "explain", "convert", "compare"))


def test_the_output_is_the_same_where_a_terminal_has_few_characters(made):
    command = [
        sys.executable,
        "-m",
        "transformer.cli.main",
        "tokenizer",
        "encode",
        "--show",
        "-t",
        str(made[1]),
        "the é\n",
    ]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    done = subprocess.run(command, capture_output=True, env=environment, text=True, check=True)
    assert done.stdout == "the| |\\xC3|\\xA9|\\n\n" and done.stderr == ""
