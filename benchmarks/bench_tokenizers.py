"""Titles a second of every tokenizer on one core, beside transformers' BertTokenizer and its legacy one in Python.

    python benchmarks/bench_tokenizers.py [--texts FILE.tsv] [--vocabulary vocab.txt] [--titles 20000]

Without files it makes titles of Chinese characters, words, numbers and punctuation, and WordPiece fits its vocabulary on them. Times are
those of the process alone, which other programs on the machine disturb least; each is the best of a few rounds, so ours remembers words by
then. That WordPiece gives the same tokens as transformers is asserted on the titles that are timed. Writes results/tokenizers.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["TOKENIZERS_PARALLELISM"] = "false"  # one core for them as well
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from transformers import BertTokenizer
from transformers.models.bert.tokenization_bert_legacy import BertTokenizerLegacy

from feature_store.special_tokens import SPECIALS
from feature_store.text.tokenizers import TOKENIZERS, Tokenizer
from feature_store.text.tokenizers.wordpiece import WordPiece

GOAL = 50_000  # titles a second
ROUNDS = 5
SETTINGS: dict[str, dict[str, Any]] = {
    "characters": {},
    "ngrams": {},
    "ngrams_hashed": {"buckets": 1 << 18},
    "words": {},
}


def made_titles(count: int, seed: int = 0) -> list[str]:
    """Titles of about 22 characters, as a news portal's, from a Zipf law of characters and words."""
    rng = np.random.default_rng(seed)
    words = ["iPhone", "NBA", "2018", "5", "Élève", "AI", "vs", "😀", "CEO", "BERT"]
    titles = []
    for length in rng.integers(14, 31, count):
        characters = [chr(0x4E00 + int(place) % 5000) for place in rng.zipf(1.3, length)]
        for place in rng.integers(0, length, 2):
            characters[place] = str(rng.choice([*words, "，", "！", "？", "：", "“", " "]))
        titles.append("".join(characters))
    return titles


def rate(work: Callable[[], object], titles: int, rounds: int = ROUNDS) -> float:
    """Titles a second of the fastest round."""
    best = float("inf")
    for _ in range(rounds):
        started = time.process_time()
        work()
        best = min(best, time.process_time() - started)
    return titles / best


def measure_wordpiece(titles: list[str], lines: list[str]) -> dict[str, Any]:
    """Ours and both of transformers with one vocabulary, on titles that they cut alike."""
    ours = WordPiece.from_lines(lines, max_length=512)
    fast = BertTokenizer(vocab={token: place for place, token in enumerate(lines)})
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "vocab.txt").write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")
        legacy = BertTokenizerLegacy(str(Path(folder) / "vocab.txt"))
    names = [*SPECIALS, *ours.tokens]
    index = {token: place for place, token in enumerate(names)}
    expected = [index[lines[i]] for row in fast(titles, add_special_tokens=False)["input_ids"] for i in row]
    assert ours.encode(titles)[0].tolist() == expected
    few = titles[: max(1, len(titles) // 20)]  # it is slow
    rates = {
        "ours": rate(lambda: ours.encode(titles), len(titles)),
        "transformers": rate(
            lambda: fast(titles, add_special_tokens=False, return_attention_mask=False, return_token_type_ids=False), len(titles)
        ),
        "tokenizers": rate(
            lambda: [row.ids for row in fast.backend_tokenizer.encode_batch_fast(titles, add_special_tokens=False)], len(titles)
        ),
        "transformers_legacy": rate(lambda: [legacy.tokenize(title) for title in few], len(few), 2),
    }
    ratios = {f"ratio_to_{name}": rates["ours"] / value for name, value in rates.items() if name != "ours"}
    return {"titles_per_second": rates, **ratios, "goal_ratio": rates["ours"] / GOAL, "vocabulary": len(lines)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=Path, help="a title in the first column of every line")
    parser.add_argument("--vocabulary", type=Path, help="a vocab.txt")
    parser.add_argument("--titles", type=int, default=20_000)
    options = parser.parse_args()
    if options.texts:
        titles = [line.split("\t")[0] for line in options.texts.read_text(encoding="utf-8").split("\n") if line][: options.titles]
    else:
        titles = made_titles(options.titles)
    if options.vocabulary:
        lines = options.vocabulary.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    else:
        lines = [*SPECIALS, *WordPiece.fit(titles, min_count=2, max_size=30_000, max_length=512).tokens]
    found = measure_wordpiece(titles, lines)
    for name, value in found["titles_per_second"].items():
        print(f"WordPiece, {name:<20} {value:>10,.0f} titles/s")
    ratio, behind = found["ratio_to_transformers"], found["ratio_to_tokenizers"]
    print(f"WordPiece: {ratio:.1f} x transformers' BertTokenizer, {behind:.1f} x the library behind it")
    others = {}
    for name, settings in SETTINGS.items():
        kind = TOKENIZERS[name.removesuffix("_hashed")]
        tokenizer: Tokenizer = kind.fit(titles, min_count=2, max_size=1_000_000, max_length=256, **settings)
        others[name] = rate(lambda tokenizer=tokenizer: tokenizer.encode(titles), len(titles), 3)  # type: ignore[misc]
        print(f"{name:<31} {others[name]:>10,.0f} titles/s")
    result = {
        "command": " ".join(["python", *(Path(word).name if Path(word).is_absolute() else word for word in sys.argv)]),
        "titles": len(titles),
        "characters": float(np.mean([len(title) for title in titles])),
        "wordpiece": found,
        "others_titles_per_second": others,
        "machine": {"processor": platform.processor() or platform.machine(), "python": platform.python_version(), "numpy": np.__version__},
    }
    output = Path(__file__).parent / "results" / "tokenizers.json"
    output.parent.mkdir(exist_ok=True)
    output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(f"written to {output}")


if __name__ == "__main__":
    main()
