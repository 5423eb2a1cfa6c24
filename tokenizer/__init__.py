"""Tokenizers: text to ids and back. Stands alone; needs NumPy, Numba and ``regex``.

Example:
    from tokenizer import BPETokenizer, load

    tokenizer = BPETokenizer.train(open("corpus.txt", encoding="utf-8").read(), vocab_size=1024)
    ids = tokenizer.encode("hello")
    tokenizer.save("corpus.json")
    assert load("corpus.json").decode(ids) == "hello"
"""

from .added import AddedToken
from .base import StreamDecoder, Tokenizer, load
from .bpe import BPETokenizer
from .bpe_vocabulary import BPEVocabulary
from .char import CharTokenizer
from .errors import (
    FormatError,
    SpecialTokenError,
    TokenIdError,
    TokenizerError,
    TrainingError,
    UnknownCharacterError,
)
from .sentencepiece import SentencePieceTokenizer
from .special import Trusted, Untrusted
from .unigram import UnigramTokenizer
from .wordpiece import WordPieceTokenizer

__all__ = [
    "AddedToken",
    "BPETokenizer",
    "BPEVocabulary",
    "CharTokenizer",
    "FormatError",
    "SentencePieceTokenizer",
    "SpecialTokenError",
    "StreamDecoder",
    "TokenIdError",
    "Tokenizer",
    "TokenizerError",
    "TrainingError",
    "Trusted",
    "UnigramTokenizer",
    "UnknownCharacterError",
    "Untrusted",
    "WordPieceTokenizer",
    "load",
]
