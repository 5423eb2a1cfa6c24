"""Training of byte-pair encoding over characters, or over any other symbols: for WordPiece, and SentencePiece's way.

Words are rewritten one at a time when one of their pairs is joined; a heap, whose entries may be out of date, finds the
next pair. Plain Python: a corpus has some hundred thousand distinct words, and each joined pair touches a few of them.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from heapq import heapify, heappop, heappush
from itertools import groupby, pairwise

from .bpe_readable import replace_pair
from .errors import TrainingError
from .special import MAX_IDS, as_integer, check_special_tokens

Progress = Callable[[int, int], None]


def learn_tokens(
    words: Mapping[tuple[str, ...], int],
    size: int,
    join: Callable[[str, str], str],
    *,
    alphabet: Collection[str] = (),
    reserved: Collection[str] = (),
    progress: Progress | None = None,
) -> tuple[list[str], list[tuple[str, str]]]:
    """The tokens, symbols first and then what was joined, and the merges.

    The most frequent pair is joined; of several that with the lowest ids, as Hugging Face's trainer does. The symbols
    have ids in the order of their length, then of code points. A token that two merges make has one id.

    Args:
        words: symbols of each word, and how often it occurs.
        size: how many tokens are wanted; fewer come back if every word has become one token.
        join: makes the name of a pair's token of the names of its parts.
        alphabet: symbols to have in any case.
        reserved: names that no token may have: a pair that would make one is not joined.
        progress: called after each new token with how many there are and size.

    Raises:
        TrainingError: no words, or size is below the number of symbols.
    """
    if not words:
        raise TrainingError("expected some training text, got none; check that the corpus was read")
    symbols = {symbol for word in words for symbol in word} | set(alphabet)
    tokens = sorted(symbols - set(reserved), key=lambda symbol: (len(symbol), symbol))
    if size < len(tokens):
        raise TrainingError(
            f"the vocabulary has room for {size} tokens beside the special ones, but the text has {len(tokens)} "
            "different symbols; ask for a larger vocabulary, or for less coverage of rare characters where that is offered"
        )
    id_of = {token: token_id for token_id, token in enumerate(tokens)}
    spellings = [[id_of[symbol] for symbol in word if symbol in id_of] for word in words]
    weights = list(words.values())
    counts: Counter[tuple[int, int]] = Counter()
    places: defaultdict[tuple[int, int], set[int]] = defaultdict(set)
    for number, spelling in enumerate(spellings):
        for pair in pairwise(spelling):
            counts[pair] += weights[number]
            places[pair].add(number)
    heap = [(-count, pair) for pair, count in counts.items()]
    heapify(heap)
    merges: list[tuple[str, str]] = []
    barred = set(reserved)
    while heap and len(tokens) < size:
        negative, pair = heappop(heap)
        if counts[pair] != -negative:
            if counts[pair]:
                heappush(heap, (-counts[pair], pair))
            continue
        name = join(*(tokens[part] for part in pair))
        if name in barred:
            continue
        if name not in id_of:
            id_of[name] = len(tokens)
            tokens.append(name)
        merges.append((tokens[pair[0]], tokens[pair[1]]))
        changed: set[tuple[int, int]] = set()
        for number in places.pop(pair):
            before = spellings[number]
            after = replace_pair(before, pair, id_of[name])
            if len(after) == len(before):
                continue
            changed |= _recount(before, -weights[number], counts)
            fresh = _recount(after, weights[number], counts)
            changed |= fresh
            for made in fresh:
                places[made].add(number)
            spellings[number] = after
        for made in changed:
            if counts[made] > 0:
                heappush(heap, (-counts[made], made))
        if progress is not None:
            progress(len(tokens), size)
    return tokens, merges


def _recount(spelling: Sequence[int], weight: int, counts: Counter[tuple[int, int]]) -> set[tuple[int, int]]:
    pairs = set(pairwise(spelling))
    for pair in pairwise(spelling):
        counts[pair] += weight
    return pairs


def names_and_size(special_tokens, vocab_size: int, unknown: str) -> tuple[list[str], int]:
    """What training is asked for, checked: the special tokens, the unknown one among them, and the number of ids.

    Raises TrainingError or, for the special tokens themselves, SpecialTokenError.
    """
    names = list(check_special_tokens(special_tokens, 0))
    if unknown not in names:
        raise TrainingError(f'expected "{unknown}" among the special tokens, got {names!r}')
    wanted = as_integer(vocab_size)
    if wanted is None or not 0 < wanted <= MAX_IDS:
        raise TrainingError(f"expected vocab_size from 1 to {MAX_IDS}, got {vocab_size!r}")
    return names, wanted


def frequent_characters(words: Mapping[str, int], coverage: float) -> set[str]:
    """The most frequent characters that make up this part of the words, 1.0 for all; bytes that were not UTF-8 never.

    Raises:
        TrainingError: coverage is not above 0 and at most 1.
    """
    if not isinstance(coverage, int | float) or not 0 < coverage <= 1:
        raise TrainingError(f"expected character_coverage above 0 and at most 1, got {coverage!r}")
    counts: Counter[str] = Counter()
    for word, count in words.items():
        for character in word:
            if not "\ud800" <= character <= "\udfff":
                counts[character] += count
    left = coverage * sum(counts.values())
    kept: set[str] = set()
    for character, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        if left <= 0:
            break
        kept.add(character)
        left -= count
    return kept


def known_runs(words: Mapping[str, int], characters: Collection[str]) -> Counter[str]:
    """The words, each parted at the characters that are not among these, so that nothing is learnt across them."""
    runs: Counter[str] = Counter()
    for word, count in words.items():
        for known, run in groupby(word, characters.__contains__):
            if known:
                runs["".join(run)] += count
    return runs
