"""`tgl tokenizer`: make tokenizers, use them, look into them, compare them."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Annotated

import typer

import tokenizer as tokenizers

from . import tokenizer_files as files
from .screen import Screen
from .tokenizer_train import train
from .tokenizer_view import print_explanation, token_names, tokens_text

console = Screen()
errors = Screen(stderr=True)

tokenizer = typer.Typer(no_args_is_help=True, help="Make tokenizers, look into them, compare them.")

DEFAULT = Path("tokenizer.json")
FORMATS = "own, huggingface, tiktoken, gpt2, wordpiece-vocab"
Which = Annotated[Path, typer.Option("--tokenizer", "-t", help="The tokenizer's file, or a training run's directory.")]
Files = Annotated[list[Path] | None, typer.Option("--file", "-f", help="Text files in place of TEXT; - is standard input.")]  # fmt: skip
Allowed = Annotated[
    list[str] | None,
    typer.Option("--allow-special", help="A special token to recognise in the text, or all; only for text you trust."),
]
Force = Annotated[bool, typer.Option("--force", help="Replace files that exist.")]


@tokenizer.callback()
def _group():
    """`tgl tokenizer` alone says which commands there are."""


tokenizer.command()(train)


@tokenizer.command()
def encode(
    text: Annotated[list[str] | None, typer.Argument(help="The text. Without it and --file: standard input.")] = None,
    which: Which = DEFAULT,
    file: Files = None,
    out: Annotated[Path | None, typer.Option(help="Write the ids there: .npy, .bin (bare numbers, little-endian) or .txt.")] = None,
    offsets: Annotated[bool, typer.Option("--offsets", help="A line for each token: id, start, stop, the token.")] = False,
    show: Annotated[bool, typer.Option("--show", help="The tokens in colours in place of their ids.")] = False,
    allow_special: Allowed = None,
    refuse_special: Annotated[bool, typer.Option("--refuse-special", help="End with an error where the text holds a special token's name that is not allowed.")] = False,
    before: Annotated[list[str] | None, typer.Option(help="A special token to put before the text.")] = None,
    after: Annotated[list[str] | None, typer.Option(help="A special token to put after the text.")] = None,
    force: Force = False,
):  # fmt: skip
    """Turn text into ids.

    Special tokens in the text are plain text, unless --allow-special names
    them. Files and standard input are read a part at a time.
    """
    tok = files.read_tokenizer(which)
    allowed = "all" if allow_special and "all" in allow_special else allow_special or ()
    policy = {"allowed_special": allowed, "disallowed_special": "all" if refuse_special else ()}
    ends = [[tok.encode([tokenizers.Trusted(name)])[0] for name in names or ()] for names in (before, after)]
    if out is not None:
        files.check_ids_file(out)
        files.refuse_to_overwrite(out, force)
    if offsets or show:
        if out is not None:
            raise ValueError("--offsets and --show are for the screen; leave out --out")
        whole = files.text_of(text or [], file or [])
        ids, spans = tok.encode_with_offsets(whole, **policy)
        size = len(whole)
        ids = [*ends[0], *ids, *ends[1]]
        spans = [*[(0, 0)] * len(ends[0]), *spans, *[(size, size)] * len(ends[1])]
        name, special = token_names(tok), set(tok.special_tokens.values())
        if show:
            console.print(tokens_text(((name(i), i in special) for i in ids), console))
        else:
            from tokenizer.visible import visible

            for token_id, (start, stop) in zip(ids, spans, strict=True):
                print(f"{token_id}\t{start}\t{stop}\t{visible(name(token_id), console.encoding)}")
        return
    if text:
        parts = [files.text_of(text, file or [])]
    else:
        parts = chain.from_iterable(files.chunks(path) for path in file or [Path(files.STDIN)])
    with files.stoppable():
        ids = chain(ends[0], tok.encode_iterable(parts, **policy), ends[1])
        if out is not None:
            with errors.status("Encoding"):
                count = files.write_ids(out, ids, tok.encode_to_array("").dtype)
            errors.say(f"{count:,} ids in {out}.")
            return
        first = True
        for token_id in ids:
            sys.stdout.write(f"{'' if first else ' '}{token_id}")
            first = False
        sys.stdout.write("\n")


@tokenizer.command()
def decode(
    ids: Annotated[list[str] | None, typer.Argument(help="Token ids. Without them and --file: from standard input.")] = None,
    which: Which = DEFAULT,
    file: Annotated[Path | None, typer.Option("--file", "-f", help="Ids in a .npy or .bin file as encode writes it, or in text.")] = None,
    out: Annotated[Path | None, typer.Option(help="Write the text there and not to the screen.")] = None,
    force: Force = False,
):  # fmt: skip
    """Turn ids into the exact bytes they stand for."""
    tok = files.read_tokenizer(which)
    files.refuse_to_overwrite(out, force)
    if ids and file is not None:
        raise ValueError("give the ids themselves or --file, not both")
    if ids:
        groups = files.parse_ids([" ".join(ids)])
    else:
        groups = files.read_ids(file or Path(files.STDIN), tok.encode_to_array("").dtype)
    raw = _decoded(tok, groups)
    with files.stoppable():
        if out is not None:
            from tokenizer.serialize import write_bytes

            with errors.status("Decoding"):
                write_bytes(out, raw)
            return
        stream, last = typer.get_binary_stream("stdout"), b"\n"
        for part in raw:
            stream.write(part)
            last = part[-1:] or last
        if sys.stdout.isatty() and last != b"\n":
            stream.write(b"\n")
        stream.flush()


def _decoded(tok: tokenizers.Tokenizer, groups: Iterator[list[int]]) -> Iterator[bytes]:
    decoder = tok.stream_decoder("surrogateescape")
    for group in groups:
        yield "".join(map(decoder.feed, group)).encode("utf-8", "surrogateescape")
    yield decoder.flush().encode("utf-8", "surrogateescape")


@tokenizer.command()
def explain(
    text: Annotated[list[str] | None, typer.Argument(help="The text. Without it and --file: standard input.")] = None,
    which: Which = DEFAULT,
    file: Files = None,
    trace: Annotated[Path | None, typer.Option(help="What train --trace kept: shows the counts of the pairs and the ties. Default: the tokenizer's name with .trace.jsonl, where that exists.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write one HTML page there, to look at in a browser.")] = None,
    allow_special: Allowed = None,
    force: Force = False,
):  # fmt: skip
    """Show why a text becomes these tokens.

    Where it is cut and by which rule, and for each token the merges that
    made it, in order, with the counts of the pairs in training.
    """
    from tokenizer.explain import explain
    from tokenizer.trace import TrainingTrace

    files.refuse_to_overwrite(html, force, "--html")
    tok = files.read_tokenizer(which)
    beside = which.with_suffix(".trace.jsonl")
    if trace is None and beside.exists():
        trace = beside
    loaded = None if trace is None else TrainingTrace.load(trace)
    whole = files.text_of(text or [], file or [])
    allowed = "all" if allow_special and "all" in allow_special else allow_special or ()
    explanation = explain(tok, whole, trace=loaded, allowed_special=allowed)
    if html is not None:
        from tokenizer.explain_html import to_html
        from tokenizer.serialize import write_bytes

        write_bytes(html, [to_html(explanation).encode("utf-8")])
        errors.say(f"Open {html} in a browser.")
        return
    print_explanation(explanation, console)


@tokenizer.command()
def compare(
    which: Annotated[list[Path], typer.Argument(metavar="TOKENIZERS", help="Files of tokenizers, or training runs' directories.")],
    text: Annotated[list[Path], typer.Option("--text", help="The text to compare on: a file, or - for standard input; may be given several times.")],
    plot: Annotated[Path | None, typer.Option(help="Draw the table as a PNG there.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The figures as one line of JSON in place of the table.")] = False,
    force: Force = False,
):  # fmt: skip
    """Compare tokenizers on the same text.

    Bytes a token, tokens a word, the share of the vocabulary that occurs,
    and speed on one thread.
    """
    from .tokenizer_compare import compare_all, draw, table

    files.refuse_to_overwrite(plot, force, "--plot")
    with files.stoppable():
        found = compare_all(which, files.text_of([], text), errors)
        if as_json:
            print(json.dumps([one.to_dict() for one in found]))
        else:
            for line in table(found):
                console.print(line)
        if plot is not None:
            draw(found, plot)
            errors.say(f"The plot is in {plot}.")


@tokenizer.command()
def convert(
    source: Annotated[Path, typer.Argument(metavar="IN", help="A tokenizer's file; of GPT-2's two files either, or their folder.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="The file to write; for gpt2 a folder.")],
    to: Annotated[str, typer.Option(help=f"The format to write: {FORMATS}.")],
    of: Annotated[str | None, typer.Option("--from", help="The format of IN. Default: what the file looks like.")] = None,
    pattern: Annotated[str | None, typer.Option(help="How text is cut, where IN does not say: gpt2, cl100k, o200k, none, or a regular expression.")] = None,
    special: Annotated[list[str] | None, typer.Option(help="Of tiktoken files: a special token and its id, as NAME=ID.")] = None,
    ignore: Annotated[list[str] | None, typer.Option(help="Leave out this of what IN asks for or OUT cannot hold, by the name that the error gives.")] = None,
    text: Annotated[list[Path] | None, typer.Option("--text", help="Compare both on this text, too.")] = None,
    force: Force = False,
):  # fmt: skip
    """Write a tokenizer in another library's format.

    What was written is read again, and must give the same ids on a set of
    texts that bring differences out. What the other format cannot hold is
    refused by name.
    """
    from tokenizer import formats

    given = of or formats.recognise(source)
    options = {}
    if pattern is not None:
        if given not in ("tiktoken", "gpt2"):
            raise ValueError(f"--pattern is for tiktoken and gpt2 files: a {given} file says itself how text is cut")
        options["pattern"] = None if pattern == "none" else pattern
    elif given == "tiktoken":
        raise ValueError(
            f"{source} has ranks, but not the pattern that cuts text: say which with --pattern, cl100k say"
        )
    if special:
        if given != "tiktoken":
            raise ValueError(f"--special is for tiktoken files: a {given} file has its own special tokens")
        options["special_tokens"] = dict(map(_name_and_id, special))
    files.refuse_to_overwrite(target, force, "OUT")
    probes = [*formats.check.PROBES, *(files.text_of([], [path]) for path in text or ())]
    new_folder = to == "gpt2" and not target.exists()
    with files.stoppable(), errors.status("Converting and comparing"):
        try:
            if new_folder:
                target.mkdir()
            tok = formats.convert(
                source, target, to, source_format=given, ignore=ignore or (), probes=probes, **options
            )
        except BaseException:
            if new_folder and not any(target.iterdir()):
                target.rmdir()
            raise
    console.say(
        f"{target}: {tok.kind}, {tok.vocab_size:,} tokens, from {given} to {to}. Both give the same ids on "
        f"{len(probes):,} texts."
    )


def _name_and_id(text: str) -> tuple[str, int]:
    name, _, number = text.rpartition("=")
    if not name or not number.isdecimal():
        raise ValueError(f"--special must be a name and an id, <|endoftext|>=50256 say, got {text!r}")
    return name, int(number)
