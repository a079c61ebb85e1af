import numpy as np

from feature_store.text.tokenizers.words import Words, cutter


def test_a_literal_case() -> None:
    tokenizer = Words(["清华大学", "bert", "北京"], max_length=4)
    indices, offsets = tokenizer.encode(["北京 清华大学\nＢＥＲＴ 模型 BERT", "", " "])
    assert (indices.tolist(), offsets.tolist()) == ([7, 5, 6, 1], [0, 4, 4, 4])
    assert (indices.dtype, offsets.dtype) == (np.int32, np.int64)


def test_words_are_those_of_jieba_and_no_file_is_left(tmp_path: object) -> None:
    assert cutter().cache_file is None and Words([], max_length=9).cut("小明硕士毕业于中国科学院计算所") == [
        "小明",
        "硕士",
        "毕业",
        "于",
        "中国科学院",
        "计算所",
    ]


def test_fitting_counts_words() -> None:
    texts = ["北京 北京 上海", "上海 天津", "Bert bert"]
    tokenizer = Words.fit(texts, min_count=2, max_size=9, max_length=9)
    assert tokenizer.tokens == ["bert", "上海", "北京"]
    assert Words.fit(texts, min_count=2, max_size=2, max_length=9).tokens == ["bert", "上海"]
    again = Words.from_dict(tokenizer.to_dict(), tokenizer.tokens)
    assert again.encode(texts)[0].tolist() == tokenizer.encode(texts)[0].tolist() == [7, 7, 6, 6, 1, 5, 5]


def test_odd_texts() -> None:
    indices, offsets = Words(["a"], max_length=5).encode(["\0", "\ud83d a", "😀😀", "字" * 10_000])
    assert offsets.tolist()[-1] == len(indices) and (np.diff(offsets) <= 5).all() and indices[1:3].tolist() == [1, 5]
