"""`tgl tokenizer train`: a tokenizer from text, and what it is like."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

import tokenizer as tokenizers
from tokenizer.corpus import read_texts

from . import tokenizer_files as files
from .run_view import quoted
from .screen import Screen
from .tokenizer_view import token_names, tokens_text

VOCAB_SIZE = 4096
SAMPLE = 1_000_000  # characters of the training text, to measure on
SHOWN, LONGEST = 60, 12  # tokens

console = Screen()
errors = Screen(stderr=True)


def train(
    texts: Annotated[list[Path] | None, typer.Argument(metavar="FILES", help="Text files and folders. Without any, or for -, standard input.")] = None,
    kind: Annotated[str, typer.Option(help="One of bpe, wordpiece, char.")] = "bpe",
    vocab_size: Annotated[int | None, typer.Option(help="Tokens in all, special ones included. Default: 4096.")] = None,
    pattern: Annotated[str | None, typer.Option(help="How text is cut before merging: gpt2, cl100k, o200k, none, or a regular expression. Default: gpt2.")] = None,
    special: Annotated[list[str] | None, typer.Option(help="A special token; may be given several times. They get ids of their own, and no text becomes one.")] = None,
    tie_break: Annotated[str | None, typer.Option(help="Of pairs that are equally frequent: lowest-id or greatest-bytes. Default: lowest-id.")] = None,
    byte_fallback: Annotated[bool | None, typer.Option("--byte-fallback", help="Of char: spell unknown characters by their bytes.")] = None,
    cased: Annotated[bool | None, typer.Option("--cased", help="Of wordpiece: keep capitals and accents.")] = None,
    out: Annotated[Path, typer.Option(help="Where to write the tokenizer.")] = Path("tokenizer.json"),
    trace: Annotated[Path | None, typer.Option(help="Write a record of each merge there: its pair, the count, the runner-up. explain shows it.")] = None,
    continue_from: Annotated[Path | None, typer.Option(help="A tokenizer whose merges are kept, and learning goes on.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace files that exist.")] = False,
):  # fmt: skip
    """Learn a tokenizer from text.

    The same text and options give the same tokenizer on every machine.
    """
    given = {name: value for name, value in locals().items() if value is not None}
    if kind not in KINDS:
        raise ValueError(f"--kind must be one of {', '.join(KINDS)}, got {kind!r}")
    learn, options = KINDS[kind]
    for name in OF_KINDS & given.keys() - options:
        raise ValueError(f"--{name.replace('_', '-')} is not for --kind {kind}: leave it out")
    files.refuse_to_overwrite(out, force)
    files.refuse_to_overwrite(trace, force, "--trace")
    corpus = _corpus(texts or [Path(files.STDIN)])
    with files.stoppable():
        made = learn(corpus, given)
        made.save(out)
    _say_what_was_made(made, corpus, given)


def _corpus(paths: list[Path]) -> list[Path | bytes]:
    """The paths, with what comes from standard input read into memory."""
    missing = [path for path in paths if str(path) != files.STDIN and not path.exists()]
    if missing:
        raise ValueError(f"there is no file {missing[0]}")
    return [files.stdin().read() if str(path) == files.STDIN else path for path in paths]


def _learn_bpe(corpus: list, given: dict) -> tokenizers.Tokenizer:
    pattern = given.get("pattern", "gpt2")
    tie_break = given.get("tie_break", "lowest-id")
    record = [] if "trace" in given else None
    base = files.read_tokenizer(given["continue_from"]) if "continue_from" in given else None
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=errors, transient=True, disable=not errors.is_terminal) as progress:
        task = progress.add_task("Counting", total=None)
        made = tokenizers.BPETokenizer.train(
            corpus,
            given.get("vocab_size", VOCAB_SIZE),
            pattern=None if pattern == "none" else pattern,
            special_tokens=given.get("special", ()),
            tie_break=tie_break,
            progress=lambda done, of: progress.update(task, description="Merging", completed=done, total=of),
        )
    if record is not None:
        from tokenizer.trace import TrainingTrace

        TrainingTrace.of(made, record, tie_break, base).save(given["trace"])
    return made


def _learn_wordpiece(corpus: list, given: dict) -> tokenizers.Tokenizer:
    from tokenizer.normalizers import Bert
    from tokenizer.wordpiece import BERT_SPECIAL_TOKENS, WordPieceTokenizer

    names = [*BERT_SPECIAL_TOKENS, *given.get("special", ())]
    with errors.status("Learning"):
        return WordPieceTokenizer.train(
            corpus,
            given.get("vocab_size", VOCAB_SIZE),
            special_tokens=names,
            normalizers=(Bert(lowercase=not given.get("cased", False)),),
        )


def _learn_char(corpus: list, given: dict) -> tokenizers.Tokenizer:
    with errors.status("Reading the text"):
        return tokenizers.CharTokenizer.train(
            corpus, byte_fallback=given.get("byte_fallback", False), special_tokens=given.get("special", ())
        )


KINDS = {  # how each is learnt, and the options that it has for itself
    "bpe": (_learn_bpe, {"vocab_size", "pattern", "tie_break", "trace", "continue_from"}),
    "wordpiece": (_learn_wordpiece, {"vocab_size", "cased"}),
    "char": (_learn_char, {"byte_fallback"}),
}
OF_KINDS = set().union(*(options for _, options in KINDS.values()))


def _say_what_was_made(made: tokenizers.Tokenizer, corpus: list, given: dict):
    text = _sample(corpus)
    ids = made.encode_to_array(text)
    special = set(made.special_tokens.values())
    console.say(f"{made.vocab_size:,} tokens, {len(text) / len(ids):.2f} bytes each on the training text.")
    if "vocab_size" in KINDS[given["kind"]][1] and made.vocab_size < given.get("vocab_size", VOCAB_SIZE):
        console.say(f"The text gives no more: {given.get('vocab_size', VOCAB_SIZE):,} tokens were asked for.")
    name = token_names(made)
    longest = sorted(set(range(made.vocab_size)) - special, key=lambda n: (-len(name(n)), n))[:LONGEST]
    for title, shown in ("Text", ids[:SHOWN].tolist()), ("Longest", longest):
        console.print(f"{title}: ", tokens_text(((name(n), False) for n in shown), console), sep="")
    written = [str(given[name]) for name in ("out", "trace") if name in given]
    words = " ".join(text[:200].decode("utf-8", "ignore").split()[:6]) or "text"
    console.say(
        f"Written: {' and '.join(written)}. Try:",
        f"tgl tokenizer explain --tokenizer {quoted(given['out'])} {quoted(words)}",
    )


def _sample(corpus: list) -> bytes:
    """The beginning of the training text."""
    raw = b""
    for text in read_texts(corpus):
        raw += text[: SAMPLE - len(raw)].encode("utf-8", "surrogateescape")
        if len(raw) >= SAMPLE:
            break
    return raw
