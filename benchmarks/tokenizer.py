"""Byte-level BPE against Hugging Face's tokenizers and tiktoken: training, encoding, ids, memory, the worst cases.

    python -m benchmarks.tokenizer [--part NAME ...] [--rounds 5] [--data shared/data]

Contestants take turns, each in a process of its own. Each timed pass has a fresh tokenizer with an empty cache and gives
the type that its peer gives: a list against encode_ordinary, an array against encode_to_numpy. The texts are the source
of the standard library (31 MB, all files joined; the batch is the files one by one) and tinyshakespeare; GPT-2's ids are
those of its published files, read from --data; for the patterns of cl100k and o200k the ranks are learnt here.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path

import numpy as np

from .pair import Side, take_turns
from .report import last_line, number, table

THREADS = 2
VOCABULARY = 16_384
PARTS = ("train", "encode", "batch", "ids", "long", "start", "stream", "memory")


def standard_library() -> list[str]:
    root = Path(sysconfig.get_path("stdlib"))
    files = sorted(path for path in root.rglob("*.py") if "site-packages" not in path.parts)
    return [path.read_bytes().decode("utf-8", "ignore") for path in files]


def read_texts(corpus: str, data: str) -> list[str]:
    if corpus == "stdlib":
        return standard_library()
    return [(Path(data) / corpus).read_text(encoding="utf-8")]


def byte_of_character() -> dict[str, int]:
    """GPT-2's files write each byte as one visible character: itself if visible, else the next one from U+0100 on."""
    visible = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [value for value in range(256) if value not in visible]
    return {chr(value): value for value in visible} | {chr(0x100 + n): value for n, value in enumerate(hidden)}


def gpt2_ranks(data: str) -> dict[bytes, int]:
    byte_of = byte_of_character()
    published = json.loads((Path(data) / "gpt2.encoder.json").read_text(encoding="utf-8"))
    return {bytes(byte_of[c] for c in name): n for name, n in published.items() if name != "<|endoftext|>"}


def gpt2_pairs(data: str) -> list[tuple[int, int]]:
    published = json.loads((Path(data) / "gpt2.encoder.json").read_text(encoding="utf-8"))
    lines = (Path(data) / "gpt2.vocab.bpe").read_text(encoding="utf-8").split("\n")[1:-1]
    return [tuple(published[part] for part in line.split(" ")) for line in lines]


def trained_ranks(pattern: str) -> dict[bytes, int]:
    from tokenizer import BPETokenizer

    learnt = BPETokenizer.train(standard_library(), VOCABULARY, pattern=pattern)
    return {learnt.token_bytes(n): n for n in range(learnt.vocab_size)}


def digest(ids) -> str:
    """Of the ids of one text, or of a list of lists."""
    rows = ids if isinstance(ids, list) and ids and isinstance(ids[0], list) else [ids]
    found = hashlib.blake2b()
    for row in rows:
        found.update(np.asarray(row, dtype=np.uint32).tobytes() + b"|")
    return found.hexdigest()


def ours(make, encode):
    """A contestant: "fresh" makes a tokenizer, "work" is what is timed, "digest" tells what came of it."""
    state = {}

    def act(step):
        if step == "fresh":
            state.clear()
            state["tokenizer"] = make()
        elif step == "work":
            state["result"] = encode(state["tokenizer"])
        else:
            return digest(state["result"])

    return act


def our_encoder(corpus, how, pattern, data):
    from tokenizer import BPETokenizer, BPEVocabulary

    texts = read_texts(corpus, data)
    vocabulary = gpt2_pairs(data) if pattern == "gpt2" else BPEVocabulary.from_ranks(trained_ranks(pattern))

    def make():
        tokenizer = BPETokenizer(vocabulary, pattern=pattern)
        tokenizer._tables  # noqa: B018  what the peer's constructor makes, too; no text has been met yet
        return tokenizer

    text = "".join(texts)
    return ours(
        make,
        {
            "list": lambda tokenizer: tokenizer.encode(text),
            "array": lambda tokenizer: tokenizer.encode_to_array(text),
            "batch": lambda tokenizer: tokenizer.encode_batch(texts, threads=THREADS),
        }[how],
    )


def tiktoken_encoder(corpus, how, pattern, data):
    import tiktoken

    from tokenizer.patterns import PATTERNS

    texts = read_texts(corpus, data)
    ranks = gpt2_ranks(data) if pattern == "gpt2" else trained_ranks(pattern)
    # As tiktoken_ext.openai_public has it: the same pieces, found faster by its engine.
    expression = {
        "gpt2": r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s",
        "cl100k": PATTERNS["cl100k"].replace(r"\Z", "$"),
        "o200k": PATTERNS["o200k"],
    }[pattern]
    text = "".join(texts)
    return ours(
        lambda: tiktoken.Encoding("peer", pat_str=expression, mergeable_ranks=ranks, special_tokens={}),
        {
            "list": lambda peer: peer.encode_ordinary(text),
            "array": lambda peer: peer.encode_to_numpy(text),
            "batch": lambda peer: peer.encode_ordinary_batch(texts, num_threads=THREADS),
        }[how],
    )


def our_trainer(data):
    from tokenizer import BPETokenizer

    texts = standard_library()

    def act(step):
        if step == "fresh":
            BPETokenizer.train("compiles the kernels, or loads them", 260)
            return None
        tokenizer = BPETokenizer.train(texts, VOCABULARY, threads=THREADS)
        return [tuple(map(tokenizer.token_bytes, pair)) for pair in tokenizer.merges]

    return act


def hugging_face_trainer(data):
    import tokenizers as hf

    texts = standard_library()
    byte_of = byte_of_character()

    def act(step):
        if step == "fresh":
            return None
        peer = hf.Tokenizer(hf.models.BPE())
        peer.pre_tokenizer = hf.pre_tokenizers.ByteLevel(add_prefix_space=False)
        alphabet = hf.pre_tokenizers.ByteLevel.alphabet()
        peer.train_from_iterator(
            texts, hf.trainers.BpeTrainer(vocab_size=VOCABULARY, initial_alphabet=alphabet, show_progress=False)
        )
        merges = json.loads(peer.to_str())["model"]["merges"]
        return [tuple(bytes(byte_of[character] for character in part) for part in merge) for merge in merges]

    return act


def turns(make_ours, make_peer, arguments, steps, timed, rounds):
    """Milliseconds of ours and of the peer in each round, and whether the last answers were the same."""
    environment = {"RAYON_NUM_THREADS": str(THREADS), "TOKENIZERS_PARALLELISM": "true"}
    sides = {
        "ours": Side(make_ours, *arguments, environment=environment),
        "peer": Side(make_peer, *arguments, environment=environment),
    }
    answers = take_turns(sides, [steps] * (rounds + 1))  # the first round warms up
    for side in sides.values():
        side.close()
    ms = {name: [one[timed][0] for one in found[1:]] for name, found in answers.items()}
    same = all(a[-1][1] == b[-1][1] for a, b in zip(answers["ours"], answers["peer"], strict=True))
    return ms["ours"], ms["peer"], same


def ratio(mine: list[float], peers: list[float]) -> float:
    """The median of the rounds' ratios: both sides of a round met the same machine."""
    return round(statistics.median(peer / our for our, peer in zip(mine, peers, strict=True)), 2)


def measure_training(options, found, rows):
    mine, peers, same = turns(our_trainer, hugging_face_trainer, (options.data,), ["fresh", "work"], 1, options.rounds)
    found |= {"train_ratio": ratio(mine, peers), "merges_identical": same}
    rows.append(["train, stdlib, HF tokenizers", statistics.median(mine), statistics.median(peers), ratio(mine, peers)])


def measure_encoding(options, found, rows, hows, corpora):
    ratios = {}
    for corpus in corpora:
        for how in hows:
            arguments = (corpus, how, "gpt2", options.data)
            mine, peers, same = turns(
                our_encoder, tiktoken_encoder, arguments, ["fresh", "work", "digest"], 1, options.rounds
            )
            name = corpus.removesuffix(".txt")
            ratios[f"{name}_{how}"] = ratio(mine, peers)
            found["ids_identical"] = found.get("ids_identical", True) and same
            rows.append(
                [
                    f"encode, {name}, {how}, tiktoken",
                    statistics.median(mine),
                    statistics.median(peers),
                    ratio(mine, peers),
                ]
            )
    return ratios


def measure_ids(options, found, rows):
    for pattern in ("gpt2", "cl100k", "o200k"):
        for corpus in ("tinyshakespeare.txt", "wikitext2.valid.txt", "wikitext2.test.txt", "stdlib"):
            arguments = (corpus, "list", pattern, options.data)
            _, _, same = turns(our_encoder, tiktoken_encoder, arguments, ["fresh", "work", "digest"], 1, 0)
            found["ids_identical"] = found.get("ids_identical", True) and same
            rows.append([f"ids, {corpus}, {pattern}: {'identical' if same else 'DIFFERENT'}", None, None, None])


def measure_long(options, found, rows):
    """Texts on which a merge of the whole, or a pattern that looks back, would take quadratic time."""
    from tokenizer import BPETokenizer

    letters = np.random.default_rng(0).integers(ord("a"), ord("z") + 1, 1_000_000).astype(np.uint8).tobytes().decode()
    texts = {"a": "a" * 1_000_000, "random letters": letters, "spaces": " " * 1_000_000, "spaces!": " " * 999_999 + "!"}
    worst = 0.0
    cases = [
        (gpt2_pairs(options.data), pattern, text) for pattern in ("gpt2", "cl100k", "o200k", None) for text in texts
    ]
    nested = [(64, 64), *((256 + n, 256 + n) for n in range(19))]  # aa, aaaa, ...: each merge of the one before
    for merges, pattern, name in [*cases, (nested, None, "a")]:
        tokenizer = BPETokenizer(merges, pattern=pattern)
        tokenizer.encode(texts[name][:10_000])
        began = time.perf_counter()
        tokenizer.encode(texts[name])
        worst = max(worst, time.perf_counter() - began)
    found["long_worst_s"] = round(worst, 3)
    rows.append(["a million of one kind, the worst", worst * 1e3, None, None])


START = """
import time; began = time.perf_counter()
import sys
from tokenizer import load
load(sys.argv[1]).encode("The first text of a process. " * int(sys.argv[2]))
print(time.perf_counter() - began)
"""


def measure_start(options, found, rows):
    from tokenizer import BPETokenizer

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "gpt2.json")
        BPETokenizer(gpt2_pairs(options.data)).save(path)
        for name, times in (("first_encode_s", 1), ("first_long_encode_s", 10_000)):
            command = [sys.executable, "-c", START, str(path), str(times)]
            seconds = []
            for _ in range(options.rounds + 1):
                began = time.perf_counter()
                subprocess.run(command, check=True, capture_output=True)
                seconds.append(time.perf_counter() - began)
            found[name] = round(statistics.median(seconds[1:]), 3)
            rows.append([f"new process to its {name.removesuffix('_s')}", found[name] * 1e3, None, None])


def measure_stream(options, found, rows):
    """What encode_iterable takes beyond the tokenizer while 5 MB go through it."""
    import tracemalloc

    from tokenizer import BPETokenizer

    text = "".join(standard_library())[:5_000_000]
    worst = 0
    for pattern in ("gpt2", "cl100k", "o200k"):
        tokenizer = BPETokenizer(gpt2_pairs(options.data), pattern=pattern)
        list(tokenizer.encode_iterable([text[:10_000]]))
        tracemalloc.start()
        for _ in tokenizer.encode_iterable(text[start : start + 4096] for start in range(0, len(text), 4096)):
            pass
        worst = max(worst, tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    found["stream_peak_mb"] = round(worst / 1e6, 3)
    rows.append([f"encode_iterable, 5 MB: {number(worst / 1e6)} MB", None, None, None])


def write_many_words(path: Path, size: int) -> None:
    """A text with some five million different words among the frequent ones, made of syllables."""
    rng = np.random.default_rng(0)
    syllables = np.array([a + b + c for a in "bcdfghjklmnprstvwz" for b in "aeiou" for c in ("", *"nrsl")])
    most = 40_000_003
    with open(path, "w", encoding="ascii") as file:
        while file.tell() < size:
            rank = (rng.pareto(0.55, 200_000) * 50).clip(0, most - 1).astype(np.int64)
            rank = np.where(rng.random(len(rank)) < 0.044, rng.integers(0, most, len(rank)), rank)
            code = rank * 2_654_435_761 % most
            first, second, third = (syllables[code // len(syllables) ** n % len(syllables)] for n in range(3))
            file.write(" ".join(np.char.add(np.char.add(first, second), third)) + "\n")


MEMORY = """
import json, resource, sys, time
from pathlib import Path
from tokenizer import bpe_train, BPETokenizer
BPETokenizer.train("compiled kernels are loaded", 260)
words = []
def counted(*arguments, **options):
    found = count(*arguments, **options)
    words.append(len(found.ends))
    return found
from tokenizer import bpe
count, bpe.count_words = bpe.count_words, counted
began = time.perf_counter()
tokenizer = BPETokenizer.train(Path(sys.argv[1]), 16384, threads=2)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(json.dumps([words[0], tokenizer.vocab_size, time.perf_counter() - began, peak]))
"""


def measure_memory(options, found, rows):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "words.txt")
        write_many_words(path, 1_000_000_000)
        result = subprocess.run([sys.executable, "-c", MEMORY, str(path)], check=True, capture_output=True, text=True)
    words, size, seconds, peak = json.loads(result.stdout)
    found |= {
        "memory_distinct_pieces": words,
        "memory_peak_gb": round(peak / 1e9, 3),
        "memory_train_s": round(seconds, 1),
    }
    text = f"train on 1 GB, {words:,} distinct pieces, {size:,} ids: peak {number(peak / 1e9)} GB"
    rows.append([text, seconds * 1e3, None, None])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", action="append", choices=PARTS, help="only this part; may be repeated")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--data", default=str(Path(__file__).parents[2] / "shared/data"))
    options = parser.parse_args()
    found: dict = {}
    rows: list[list] = []
    for part in options.part or PARTS:
        if part == "train":
            measure_training(options, found, rows)
        elif part == "encode":
            corpora = ("stdlib", "tinyshakespeare.txt")
            ratios = measure_encoding(options, found, rows, ("list", "array"), corpora)
            found |= {"encode_ratio": min(ratios.values()), "encode_ratios": ratios}
        elif part == "batch":
            ratios = measure_encoding(options, found, rows, ("batch",), ("stdlib",))
            found["batch_ratio"] = min(ratios.values())
        else:
            {
                "ids": measure_ids,
                "long": measure_long,
                "start": measure_start,
                "stream": measure_stream,
                "memory": measure_memory,
            }[part](options, found, rows)
    table(["what", "ours ms", "peer ms", "peer/ours"], rows)
    last_line(**found)


if __name__ == "__main__":
    main()
