"""Which byte has which id: the order of the 256 single-byte tokens.

The order is GPT-2's (Radford et al. 2019): first the bytes that are visible characters in Latin-1, then the others,
both ascending. tiktoken's rank files and the tokenizers that Hugging Face's library trains have it too. So GPT-2's
merges give GPT-2's published ids, and the tie-break by the lowest ids learns the merges that Hugging Face's learns.
"""

VISIBLE_BYTES = bytes([*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)])

BYTE_ORDER = VISIBLE_BYTES + bytes(sorted(set(range(256)) - set(VISIBLE_BYTES)))
"""Token n, below 256, is the byte BYTE_ORDER[n]."""

ID_OF_BYTE = bytes.maketrans(BYTE_ORDER, bytes(range(256)))
"""For bytes.translate: turns bytes into their ids (which are below 256, so they are bytes again)."""
