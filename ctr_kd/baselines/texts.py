"""Linear models of texts, over TF-IDF of character n-grams; the first of them is one below which no student should fall.

On short texts a linear support vector machine is hard to beat (Wang and Manning 2012, Baselines and Bigrams). As a teacher it makes other
mistakes than a BERT, and naive Bayes, which models each class by itself, makes other ones than both. With words beside the n-grams they
are teachers alone: a student of n-grams learns from them what a dictionary knows, and needs none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, hstack
from scipy.special import log_softmax
from sklearn.base import ClassifierMixin
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.model_selection import GroupKFold
from sklearn.naive_bayes import ComplementNB
from sklearn.pipeline import FeatureUnion
from sklearn.svm import LinearSVC

from ctr_kd.training.calibration import fit_class_scale
from feature_store.text.tokenizers.words import Words

NGRAMS = (1, 3)  # characters
FOLDS = 5
LONGEST = 1000  # words that a vectorizer reads of a text


@dataclass(frozen=True)
class LinearModel:
    """A fitted linear model.

    Attributes
    ----------
    vectorizer : TfidfVectorizer or FeatureUnion
    machine : LinearSVC or ComplementNB
    scale : float
        By which distances from the separating planes, or naive Bayes' sums of evidence, become logits; the one with the least log loss
        out of fold.
    out_of_fold : float
        Accuracy of machines on training rows that they were not trained on, nor on an equal text.
    """

    vectorizer: TfidfVectorizer | FeatureUnion
    machine: ClassifierMixin
    scale: float
    out_of_fold: float

    @classmethod
    def fit(
        cls, texts: Sequence[str], texts_b: Sequence[str] | None, label: NDArray[np.int64], seed: int = 0, kind: str = "linear"
    ) -> LinearModel:
        """Fit on training rows.

        Parameters
        ----------
        texts : sequence of str
        texts_b : sequence of str, optional
            Second texts, of pairs.
        label : int array (rows,)
            Class indices; every class from 0 to the largest must occur.
        seed : int
        kind : str
            ``linear``: a support vector machine over n-grams; ``linear_words``: one with words, as jieba cuts them, beside the n-grams;
            ``naive_bayes``: complement naive Bayes over the same (Rennie et al. 2003, Tackling the Poor Assumptions of Naive Bayes Text
            Classifiers, section 3.1).

        Raises
        ------
        ValueError
            When there are fewer than two classes, or two distinct texts.
        """
        if len(np.unique(label)) < 2:
            raise ValueError(f"the linear model needs two classes, and all {len(label):,} training rows are of one")
        vectorizer = _vectorizer(words=kind != "linear")
        vectorizer.fit([*texts, *(texts_b or [])])
        inputs = _inputs(vectorizer, texts, texts_b)
        distance = np.zeros((len(label), int(label.max()) + 1))
        for learned, asked in folds(texts):
            machine = _machine(kind, seed).fit(inputs[learned], label[learned])
            distance[np.ix_(asked, machine.classes_)] = _distances(machine, inputs[asked])
        scale = fit_class_scale(distance, label)
        machine = _machine(kind, seed).fit(inputs, label)
        return cls(vectorizer, machine, scale, float((distance.argmax(1) == label).mean()))

    def predict(self, texts: Sequence[str], texts_b: Sequence[str] | None = None) -> NDArray[np.float32]:
        """Logits (rows, classes): logarithms of the classes' probabilities."""
        if not len(texts):
            return np.zeros((0, len(self.machine.classes_)), np.float32)
        distance = _distances(self.machine, _inputs(self.vectorizer, texts, texts_b))
        return log_softmax(self.scale * distance, axis=1).astype(np.float32)


def folds(texts: Sequence[str]) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Rows to learn from and rows to judge, so that each row is judged once, and never by what learned an equal text."""
    group = np.unique(np.array(texts, object).astype(str), return_inverse=True)[1]
    return GroupKFold(min(FOLDS, int(group.max()) + 1)).split(group, groups=group)


def _vectorizer(words: bool) -> TfidfVectorizer | FeatureUnion:
    if not words:
        return TfidfVectorizer(analyzer="char", ngram_range=NGRAMS)
    of_words = TfidfVectorizer(analyzer=Words([], max_length=LONGEST).cut, sublinear_tf=True)
    return FeatureUnion([("ngrams", TfidfVectorizer(analyzer="char", ngram_range=NGRAMS, sublinear_tf=True)), ("words", of_words)])


def _inputs(vectorizer: TfidfVectorizer | FeatureUnion, texts: Sequence[str], texts_b: Sequence[str] | None) -> csr_matrix:
    """TF-IDF (rows, n-grams) of the texts; of pairs what both have and what only one has."""
    a = vectorizer.transform(texts)
    if texts_b is None:
        return a
    b = vectorizer.transform(texts_b)
    return hstack([a.minimum(b), abs(a - b)], format="csr")


def _machine(kind: str, seed: int) -> ClassifierMixin:
    if kind == "naive_bayes":
        return ComplementNB(alpha=0.3)
    # words and their n-grams say the same twice, so the machine must trust each less
    return LinearSVC(C=0.1 if kind == "linear_words" else 1.0, random_state=seed)


def _distances(machine: ClassifierMixin, inputs: csr_matrix) -> NDArray[np.float64]:
    """Distances (rows, classes) from the separating planes, or the evidence for each class; two classes share a plane."""
    if isinstance(machine, ComplementNB):
        return machine.predict_joint_log_proba(inputs)
    distance = machine.decision_function(inputs)
    return np.stack([-distance / 2, distance / 2], axis=1) if distance.ndim == 1 else distance
