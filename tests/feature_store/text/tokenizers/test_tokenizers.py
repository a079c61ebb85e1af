import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from feature_store.config import TokenizerConfig
from feature_store.special_tokens import UNKNOWN
from feature_store.text.tokenizers import TOKENIZERS, fit_tokenizer
from tests.programs import HANGS

FILES = sorted(Path(sys.modules["feature_store.text.tokenizers"].__file__ or "").parent.glob("[!_]*.py"))


def test_every_tokenizer_that_a_configuration_may_name_exists() -> None:
    assert {*TOKENIZERS, "auto"} == set(get_args(TokenizerConfig.model_fields["kind"].annotation))
    assert all(tokenizer.kind == kind for kind, tokenizer in TOKENIZERS.items())  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", sorted(TOKENIZERS))
def test_a_tokenizer_is_rebuilt_from_its_file_alone(kind: str, tmp_path: Path) -> None:
    """As beside an exported student: one file, nothing of the project, no torch."""
    tokenizer = fit_tokenizer(TokenizerConfig(kind=kind, min_count=1, max_length=20), ["中国新闻 news", "国际新闻"])
    text = "中国 News，新\ud83d闻"
    source = Path(sys.modules[TOKENIZERS[kind].__module__].__file__ or "")
    (tmp_path / "tokenizer.py").write_text(source.read_text(encoding="utf-8"), encoding="utf-8")
    program = (
        "import sys, tokenizer; values, tokens, text = eval(sys.stdin.buffer.read().decode())\n"
        "print(tokenizer.KINDS[values['kind']].from_dict(values, tokens).encode([text])[0].tolist())\n"
        "assert not {'torch', 'feature_store', 'tokenizers', 'transformers'} & set(sys.modules)"
    )
    given = ascii((tokenizer.to_dict(), tokenizer.tokens, text)).encode()
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, input=given, capture_output=True, check=True, env={}, timeout=HANGS
    )
    assert done.stdout.decode().strip() == str(tokenizer.encode([text])[0].tolist())


def test_the_options_of_the_configuration_arrive() -> None:
    config = TokenizerConfig(kind="ngrams", lengths=(2, 2), buckets=8, max_length=3, lowercase=False)
    assert fit_tokenizer(config, []).to_dict() == {
        "kind": "ngrams",
        "max_length": 3,
        "lowercase": False,
        "shortest": 2,
        "longest": 2,
        "buckets": 8,
    }


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"kind": "words", "vocabulary": "vocab.txt"}, "vocabulary has no effect with kind: words"),
        ({"kind": "characters", "buckets": 8}, "lengths and buckets have no effect"),
        ({"kind": "ngrams", "buckets": 8, "min_count": 3}, "min_count and max_size have no effect"),
        ({"kind": "ngrams", "lengths": (1, 4)}, "two numbers from 1 to 3"),
        ({"kind": "ngrams", "buckets": 8, "vectors": "w.txt"}, "a bucket has no word vector"),
        ({"kind": "letters"}, "kind"),
    ],
)
def test_what_contradicts_itself_is_refused(keys: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TokenizerConfig.model_validate(keys)


@pytest.mark.parametrize("kind", ["words", "ngrams"])
def test_unknown_tokens_can_be_left_out(kind: str) -> None:
    texts, asked = ["中国新闻 news", "国际新闻"], ["中国 x 新闻", "中x国", "", "zzz", "新闻"]
    config = TokenizerConfig(kind=kind, min_count=1, max_length=20)
    kept, left_out = fit_tokenizer(config, texts), fit_tokenizer(config.model_copy(update={"keep_unknown": False}), texts)
    assert "keep_unknown" not in kept.to_dict()  # as earlier releases wrote it
    again = TOKENIZERS[kind].from_dict(left_out.to_dict(), left_out.tokens)
    known = [[index for index in kept.encode([text])[0].tolist() if index != UNKNOWN] for text in asked]
    tokens, offsets = again.encode(asked)
    assert [tokens[start:end].tolist() for start, end in pairwise(offsets)] == known
    assert known[3] == [] and known[4] and (tokens.dtype, offsets.dtype) == (np.int32, np.int64)


@pytest.mark.parametrize("changes", [{"kind": "characters"}, {"kind": "wordpiece"}, {"kind": "ngrams", "buckets": 8}])
def test_where_nothing_is_unknown_or_order_counts_unknown_tokens_stay(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="keep_unknown: false is of kinds words and ngrams with a vocabulary"):
        TokenizerConfig(**changes, keep_unknown=False)
