"""`tgl tokenizer train`: a tokenizer from text, and what it is like."""

from __future__ import annotations

import codecs
from collections.abc import Iterable
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

import tokenizer as tokenizers
from tokenizer.corpus import read_blocks
from tokenizer.visible import visible

from . import tokenizer_files as files
from .run_view import quoted
from .screen import Screen
from .tokenizer_view import token_names, tokens_text

VOCAB_SIZE = 4096
SAMPLE = 1_000_000  # bytes of the training text, to measure on
SHOWN, LONGEST = 60, 12  # tokens
LONG = 40  # bytes of a token that are shown

console = Screen()
errors = Screen(stderr=True)


def train(
    texts: Annotated[list[Path] | None, typer.Argument(metavar="FILES", help="Text files and folders. Without any, or for -, standard input.")] = None,
    kind: Annotated[str, typer.Option(help="One of bpe, sentencepiece, unigram, wordpiece, char.")] = "bpe",
    vocab_size: Annotated[int | None, typer.Option(help="Tokens in all, special ones included. Default: 4096.")] = None,
    pattern: Annotated[str | None, typer.Option(help="How text is cut before merging: gpt2, cl100k, o200k, none, or a regular expression. Default: gpt2.")] = None,
    special: Annotated[list[str] | None, typer.Option(help="A special token; may be given several times. They get ids of their own, and no text becomes one.")] = None,
    tie_break: Annotated[str | None, typer.Option(help="Of pairs that are equally frequent: lowest-id or greatest-bytes. Default: lowest-id.")] = None,
    byte_fallback: Annotated[bool | None, typer.Option("--byte-fallback/--no-byte-fallback", help="Spell unknown characters by their bytes. Default: of sentencepiece and unigram yes, of char no.")] = None,
    cased: Annotated[bool | None, typer.Option("--cased", help="Of wordpiece: keep capitals and accents.")] = None,
    invalid_utf8: Annotated[str | None, typer.Option("--invalid-utf8", help="Of bpe: keep, replace or ignore bytes that are no UTF-8. Default: they are an error, and such files in folders are left out.")] = None,
    out: Annotated[Path, typer.Option(help="Where to write the tokenizer.")] = Path("tokenizer.json"),
    trace: Annotated[Path | None, typer.Option(help="Write a record of each merge there: its pair, the count, the runner-up. explain shows it.")] = None,
    continue_from: Annotated[Path | None, typer.Option(help="A tokenizer whose merges are kept, and learning goes on.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace files that exist.")] = False,
):  # fmt: skip
    """Learn a tokenizer from text.

    The same text and options give the same tokenizer on every machine.
    A named file must be UTF-8; in a folder, what is hidden or not UTF-8
    is left out.
    """
    given = {name: value for name, value in locals().items() if value is not None}
    if kind not in KINDS:
        raise ValueError(f"--kind must be one of {', '.join(KINDS)}, got {kind!r}")
    learn, options = KINDS[kind]
    for name in OF_KINDS & given.keys() - options:
        raise ValueError(f"--{name.replace('_', '-')} is not for --kind {kind}: leave it out")
    files.refuse_to_overwrite(out, force)
    files.refuse_to_overwrite(trace, force, "--trace")
    for path in filter(None, (out, trace)):
        if not path.parent.is_dir():  # now, and not after hours of learning
            raise ValueError(f"there is no folder {path.parent} for {path.name}: make it first")
    with files.stoppable():
        corpus = _corpus(texts or [Path(files.STDIN)], any_bytes=invalid_utf8 is not None)
        made = learn(corpus, given)
        made.save(out)
    _say_what_was_made(made, corpus, given)


def _corpus(paths: list[Path], any_bytes: bool) -> list[Path | bytes]:
    """The files, those of folders among them, and what comes from standard input; all are UTF-8, or any_bytes is true.

    A file that was named must be; of a folder's, those that are not are left out, and so are hidden ones.
    """
    corpus: list[Path | bytes] = []
    left_out = []
    with errors.status("Looking for text"):
        for path in paths:
            if str(path) == files.STDIN:
                corpus.append(files.stdin().read())
                wrong = None if any_bytes else not_utf8([corpus[-1]])
            elif path.is_dir():
                for file in files_below(path):
                    found = corpus if any_bytes or not_utf8(files.chunks(file)) is None else left_out
                    found.append(file)
                continue
            elif not path.exists():
                raise ValueError(f"there is no file {path}")
            else:
                corpus.append(path)
                wrong = None if any_bytes else not_utf8(files.chunks(path))
            if wrong is not None:
                raise ValueError(
                    f"{path} is not UTF-8 ({wrong}): convert it; or for --kind bpe choose --invalid-utf8 keep, replace "
                    "or ignore"
                )
    if left_out:
        more = f", and {len(left_out) - 1:,} more" if len(left_out) > 1 else ""
        errors.say(f"Left out, since it is not UTF-8 text: {left_out[0]}{more}.")
    return corpus


def files_below(folder: Path) -> list[Path]:
    """In the order of their paths; without what is hidden."""
    found = [(file.relative_to(folder).parts, file) for file in folder.rglob("*") if file.is_file()]
    return [file for parts, file in sorted(found) if not any(part.startswith(".") for part in parts)]


def not_utf8(chunks: Iterable[bytes]) -> str | None:
    """Why these bytes are no text in UTF-8; None if they are."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    place = 0
    try:
        for chunk in chunks:
            decoder.decode(chunk)
            place += len(chunk)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        return f"{error.reason} near byte {max(place + error.start, 0):,}"
    return None


def _learn_bpe(corpus: list, given: dict) -> tokenizers.Tokenizer:
    pattern = given.get("pattern", "gpt2")
    tie_break = given.get("tie_break", "lowest-id")
    record = [] if "trace" in given else None
    base = files.read_tokenizer(given["continue_from"]) if "continue_from" in given else None
    if base is not None and not isinstance(base, tokenizers.BPETokenizer):
        raise ValueError(f"--continue-from must be byte-level BPE, and {given['continue_from']} is of kind {base.kind}")
    if base is not None and "pattern" in given and given["pattern"] != (base.pattern or "none"):
        raise ValueError(
            f"--continue-from has the pattern {base.pattern or 'none'}, which is kept: leave --pattern out"
        )
    with _progress() as (count, merge):
        made = tokenizers.BPETokenizer.train(
            corpus,
            given.get("vocab_size", VOCAB_SIZE),
            pattern=None if pattern == "none" else pattern,
            special_tokens=given.get("special", ()),
            tie_break=tie_break,
            continue_from=base,
            invalid_utf8=given.get("invalid_utf8", "strict"),  # a file may have changed since it was looked at
            progress=merge,
            count_progress=count,
            record=record,
        )
    if record is not None:
        from tokenizer.trace import TrainingTrace

        TrainingTrace.of(made, record, tie_break, base).save(given["trace"])
    return made


def _learn_sentencepiece(corpus: list, given: dict) -> tokenizers.Tokenizer:
    from tokenizer.sentencepiece import SentencePieceTokenizer as Kind

    with _progress() as (_, learn):
        return Kind.train(corpus, given.get("vocab_size", VOCAB_SIZE), special_tokens=_sentencepiece_names(given),
                          byte_fallback=given.get("byte_fallback", True), progress=learn)  # fmt: skip


def _learn_unigram(corpus: list, given: dict) -> tokenizers.Tokenizer:
    from tokenizer.unigram import UnigramTokenizer as Kind

    with _progress("Pruning") as (_, learn):
        return Kind.train(corpus, given.get("vocab_size", VOCAB_SIZE), special_tokens=_sentencepiece_names(given),
                          byte_fallback=given.get("byte_fallback", True), progress=learn)  # fmt: skip


def _sentencepiece_names(given: dict) -> list[str]:
    return ["<unk>", "<s>", "</s>", *given.get("special", ())]


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


KINDS = {  # how each is learnt, and the options that not all have
    "bpe": (_learn_bpe, {"vocab_size", "pattern", "tie_break", "trace", "continue_from", "invalid_utf8"}),
    "sentencepiece": (_learn_sentencepiece, {"vocab_size", "byte_fallback"}),
    "unigram": (_learn_unigram, {"vocab_size", "byte_fallback"}),
    "wordpiece": (_learn_wordpiece, {"vocab_size", "cased"}),
    "char": (_learn_char, {"byte_fallback"}),
}
OF_KINDS = set().union(*(options for _, options in KINDS.values()))


@contextmanager
def _progress(doing: str = "Merging"):
    """A bar on a terminal: gives what to call with the bytes counted, and with the tokens done and wanted."""
    columns = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[done]}"), TimeRemainingColumn()
    with Progress(*columns, console=errors, transient=True, disable=not errors.is_terminal) as bar:
        task = bar.add_task("Counting", total=None, done="")
        yield (
            lambda size: bar.update(task, done=f"{size / 1e6:,.0f} MB"),
            lambda done, of: bar.update(task, description=doing, completed=done, total=of, done=f"{done:,} of {of:,}"),
        )


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
        names = (name(n)[:LONG] + "\u2026".encode() * (len(name(n)) > LONG) for n in shown)
        line = tokens_text(((token, False) for token in names), console, breaks=title == "Text")
        console.print(f"{title}: ", line, sep="")
    written = [str(given[name]) for name in ("out", "trace") if name in given]
    words = text[:200].decode("utf-8", "ignore").split()
    words = " ".join([word for word in words if visible(word) == word][:6]) or "text"  # nothing that a terminal obeys
    console.say(
        f"Written: {' and '.join(written)}. Try:",
        f"tgl tokenizer explain --tokenizer {quoted(given['out'])} {quoted(words)}",
    )


def _sample(corpus: list) -> bytes:
    """The beginning of the training text."""
    blocks = chain.from_iterable(read_blocks(corpus))  # of bytes, since the corpus is paths and bytes
    raw = b""
    while len(raw) < SAMPLE and (block := next(blocks, None)) is not None:
        raw += block[: SAMPLE - len(raw)]
    return raw
