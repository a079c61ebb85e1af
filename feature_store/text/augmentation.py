"""More texts like those at hand, for a teacher to label: the rules of Tang et al. 2019 (arXiv:1903.12136, section 4.3).

Masking hides a word, which shows the student how much the word counts; guided by parts of speech, a word is replaced by another that the
same part of speech has; n-gram sampling keeps a few words in a row and drops the others. Of a pair the first text is changed, the
second, or both, in turn. Words and their parts of speech are those of jieba.
"""

from __future__ import annotations

from bisect import bisect
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from functools import cache
from itertools import accumulate
from typing import Any

import numpy as np

from feature_store.config import AugmentationConfig
from feature_store.text.tokenizers.words import cutter

MASKED = "\U0002a6d6"  # in place of a hidden word: an ideograph of 64 strokes, which reads as unknown to every tokenizer
LONGEST_NGRAM = 5  # words

Tagged = list[tuple[str, str]]  # words and their parts of speech; white space is a word too, so that they join to the text


class Augmenter:
    """Draws new texts from given ones.

    Parameters
    ----------
    texts : sequence of str
        Texts to start from; a part of speech has the words that it has in them, as often.
    texts_b : sequence of str, optional
        Second texts, of pairs.
    config : AugmentationConfig
        The rates.

    Examples
    --------
    >>> Augmenter(["我爱北京"], None, AugmentationConfig(mask_rate=1, replace_rate=0, ngram_rate=0)).draw(1, 0)
    [(0, '𪛖𪛖𪛖', None)]
    """

    def __init__(self, texts: Sequence[str], texts_b: Sequence[str] | None, config: AugmentationConfig) -> None:
        self._texts, self._texts_b, self._config = texts, texts_b, config
        tagger = _tagger()
        self._sides: list[list[Tagged]] = [
            [[(pair.word, pair.flag) for pair in tagger.cut(text)] for text in side] for side in (texts, texts_b) if side is not None
        ]
        counts: dict[str, Counter[str]] = defaultdict(Counter)
        for side in self._sides:
            for text in side:
                for word, part in text:
                    counts[part][word] += 1
        # Words of each part of speech, and the running sum of how often each occurs.
        self._words = {part: (list(count), list(accumulate(count.values()))) for part, count in counts.items()}

    def draw(self, wanted: int, seed: int, forbidden: Collection[str] = ()) -> list[tuple[int, str, str | None]]:
        """Draw so many texts; those that equal a given one, an earlier draw or a forbidden text are left out.

        Parameters
        ----------
        wanted : int
            Every given text is drawn from as often, give or take one.
        seed : int
        forbidden : collection of str
            Texts that no draw may hold.

        Returns
        -------
        list of (int, str, str or None)
            Position of the text that each was made from, the new text, and of pairs the second one.
        """
        rng = np.random.default_rng(seed)
        second_texts: Sequence[str | None] = [None] * len(self._texts) if self._texts_b is None else self._texts_b
        seen: set[tuple[str, str | None]] = set(zip(self._texts, second_texts, strict=True))
        order = rng.permutation(len(self._texts)).tolist()
        drawn: list[tuple[int, str, str | None]] = []
        for attempt in range(wanted if order else 0):
            place = order[attempt % len(order)]
            first, second = self._texts[place], second_texts[place]
            which = 0 if second is None else (attempt // len(order) + place) % 3  # the first text, the second, or both
            if which != 1:
                first = self._changed(self._sides[0][place], rng)
            if which != 0:
                second = self._changed(self._sides[1][place], rng)
            if first.strip() and (first, second) not in seen and first not in forbidden and second not in forbidden:
                seen.add((first, second))
                drawn.append((place, first, second))
        return drawn

    def _changed(self, text: Tagged, rng: np.random.Generator) -> str:
        config = self._config
        fate, choice = rng.random((2, len(text)))
        words = []
        for (word, part), drawn, which in zip(text, fate.tolist(), choice.tolist(), strict=True):
            if word.isspace() or drawn >= config.mask_rate + config.replace_rate:
                words.append(word)
            elif drawn < config.mask_rate:
                words.append(MASKED)
            else:
                known, running = self._words[part]
                words.append(known[bisect(running, which * running[-1])])
        if len(words) > 1 and rng.random() < config.ngram_rate:
            size = int(rng.integers(1, min(LONGEST_NGRAM, len(words)) + 1))
            begin = int(rng.integers(0, len(words) - size + 1))
            words = words[begin : begin + size]
        return "".join(words)


@cache
def _tagger() -> Any:
    """jieba's tagger over the dictionary of :func:`feature_store.text.tokenizers.words.cutter`, which it reads once more."""
    import jieba.posseg

    return jieba.posseg.POSTokenizer(cutter())
