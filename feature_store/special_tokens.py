"""The five tokens that every vocabulary begins with, of items and of texts, so that one embedding layout serves all features.

Files that are copied beside an exported student (the tokenizers, the scorers) import nothing of this project and repeat what they need.
"""

SPECIALS = ("[PAD]", "[UNK]", "[MASK]", "[CLS]", "[SEP]")
PAD, UNKNOWN, MASK, CLS, SEP = range(len(SPECIALS))
