"""The click models of torch-rechub on our rows: DIN, DeepFM and DCNv2 as the library has them, fed from the same batches as ours.

What each model is given:

- history and candidate share one table per token feature (item, attributes, time gap), with the padding index set: DIN attends to the
  history under the candidate, DeepFM and DCNv2 average it;
- categorical context and user attributes are sparse features;
- as-of statistics come as quantile bins with an embedding each (a null has its own), or in the piecewise linear encoding that our
  models have (:class:`ctr_kd.models.layers.PiecewiseLinear`), or both; a trial says which. DIN drops dense features and the FM part of
  DeepFM takes none, so these two see the bins, always.

They train in the loop of ours: AdamW with warm-up and a cosine, clipped gradients, the same shares of ids and statistics hidden, the
checkpoint of the best validation AUC restored. Batches are random rows, not rows of similar length, because the library's layers
normalise over the batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits
from torch_rechub.basic.features import DenseFeature, SequenceFeature, SparseFeature
from torch_rechub.basic.initializers import RandomNormal
from torch_rechub.models.ranking import DIN, DCNv2, DeepFM

from ctr_kd.config_training import TrainingConfig
from ctr_kd.data.batching import Batch, part_of
from ctr_kd.data.samples import Signature
from ctr_kd.models.layers import PiecewiseLinear
from ctr_kd.training.finetune import validation_figures
from ctr_kd.training.job import TrainingJob, TrainingRows
from ctr_kd.training.learning_curve import LearningCurve
from ctr_kd.training.loop import fit, training_batch
from feature_store.config_types import is_auto
from feature_store.special_tokens import PAD

PEERS = ("DIN", "DeepFM", "DCNv2")
LARGEST_LOGIT_AT = 1e-6  # the models return probabilities; nearer to 0 and 1 than this they hold no more information
CROSS_LAYERS = 3


@dataclass(frozen=True)
class Trial:
    """One setting of a peer.

    Attributes
    ----------
    width : int
        Of every embedding.
    hidden : tuple of int
        Widths of the MLP's layers.
    dropout : float
        Of the MLP.
    statistics : str
        ``"bins"``, ``"encoded"`` or ``"both"``.
    embedding_std : float
        Of the initial embeddings; the library's default is 1e-4.
    epochs, batch_size, learning_rate, weight_decay, embedding_decay, unknown_rate
        Of :class:`ctr_kd.config_training.TrainingConfig`.
    """

    width: int = 16
    hidden: tuple[int, ...] = (128, 64)
    dropout: float = 0.1
    statistics: str = "both"
    embedding_std: float = 0.05
    epochs: float = 2
    batch_size: int = 1024
    learning_rate: float = 2e-3
    weight_decay: float = 0.01
    embedding_decay: float = 0.0
    unknown_rate: float = 0.2

    def training(self) -> TrainingConfig:
        """The training loop; validation is measured as often per epoch as in fine-tuning."""
        names = ("epochs", "batch_size", "learning_rate", "weight_decay", "embedding_decay", "unknown_rate")
        return TrainingConfig(**{name: getattr(self, name) for name in names}, validations=max(1, round(2 * self.epochs)))

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


# The first is as near as can be to what our student has by default; the others go from it in every direction that a peer offers.
TRIALS = (
    Trial(),
    Trial(width=8, embedding_std=1e-4, dropout=0.3),
    Trial(width=8, statistics="encoded", learning_rate=1e-3, batch_size=512),
    Trial(dropout=0.3, embedding_decay=3.0, learning_rate=4e-3),
    Trial(width=32, epochs=1),
    Trial(statistics="bins", embedding_std=1e-4, learning_rate=4e-3, epochs=1),
    Trial(statistics="encoded", hidden=(256, 128), learning_rate=1e-3, epochs=1),
    Trial(width=8, unknown_rate=0.0, batch_size=512, learning_rate=1e-3),
)


def trials_beside(student: TrainingConfig) -> tuple[Trial, ...]:
    """Settings to try where our student trains so: first with its epochs, batches, rate and unknown ids, then ``TRIALS``.

    What is ``auto`` for our student follows its own rules, which say nothing of a peer; there the usual setting stays.

    Examples
    --------
    >>> own, usual = trials_beside(TrainingConfig(epochs=4, batch_size=1024, learning_rate=1e-2, unknown_rate=0.2))[:2]
    >>> own.epochs, own.learning_rate, usual == TRIALS[0]
    (4.0, 0.01, True)
    """
    own = {name: getattr(student, name) for name in ("epochs", "batch_size", "learning_rate", "unknown_rate")}
    given = {name: value for name, value in own.items() if not is_auto(value)}
    return tuple(dict.fromkeys((replace(TRIALS[0], **given), *TRIALS)))


class Peer(nn.Module):
    """A model of torch-rechub that takes our batches and returns logits.

    Parameters
    ----------
    kind : str
        One of ``PEERS``.
    signature : Signature
    trial : Trial
    """

    def __init__(self, kind: str, signature: Signature, trial: Trial) -> None:
        super().__init__()
        self.token_names, self.categorical_names, self.dense_names = (
            list(signature.tokens),
            list(signature.categorical),
            list(signature.dense),
        )
        self.encode = PiecewiseLinear(list(signature.dense.values()))
        common = {"embed_dim": trial.width, "initializer": RandomNormal(0, trial.embedding_std)}
        # A candidate has no time gap: that feature embeds to zero, and is there because the history's table must be somebody's.
        candidate = [SparseFeature(f"candidate {name}", size, padding_idx=PAD, **common) for name, size in signature.tokens.items()]
        history = [
            SequenceFeature(
                f"history {name}",
                size,
                pooling="concat" if kind == "DIN" else "mean",
                shared_with=f"candidate {name}",
                padding_idx=PAD,
                **common,
            )
            for name, size in signature.tokens.items()
        ]
        context = [SparseFeature(f"context {name}", size, padding_idx=PAD, **common) for name, size in signature.categorical.items()]
        bins = [SparseFeature(f"bin {name}", self.encode.low.shape[1] + 1, **common) for name in self.dense_names]
        encoded = [DenseFeature("statistics", embed_dim=self.encode.size)] if self.dense_names and trial.statistics != "bins" else []
        mlp = {"dims": list(trial.hidden), "dropout": trial.dropout}
        if kind == "DIN":
            self.model: nn.Module = DIN([*context, *bins], history, candidate, mlp_params=mlp, attention_mlp_params={"dims": [36]})
        elif kind == "DeepFM":
            sparse = [*candidate, *history, *context, *bins]
            self.model = DeepFM([*sparse, *encoded], sparse, mlp_params=mlp)
        else:
            sparse = [*candidate, *history, *context, *(bins if trial.statistics != "encoded" else [])]
            self.model = DCNv2([*sparse, *encoded], n_cross_layers=CROSS_LAYERS, mlp_params=mlp)

    def inputs(self, batch: Batch) -> dict[str, Tensor]:
        """The library's form of a batch: one tensor by name, each row with a history of its own."""
        history, candidate = batch.segment_a.index_select(0, batch.segment_of_row), batch.segment_b[:, 0]
        null = torch.isnan(batch.dense)
        bins = (batch.dense.unsqueeze(-1) >= self.encode.low).sum(-1).clamp(min=1).masked_fill(null, 0)  # (rows, statistics)
        named = {"statistics": self.encode(batch.dense)}
        for i, name in enumerate(self.token_names):
            named |= {f"candidate {name}": candidate[:, i], f"history {name}": history[:, :, i]}
        named |= {f"context {name}": batch.categorical[:, i] for i, name in enumerate(self.categorical_names)}
        return named | {f"bin {name}": bins[:, i] for i, name in enumerate(self.dense_names)}

    def forward(
        self, segment_a: Tensor, segment_a_length: Tensor, segment_of_row: Tensor, segment_b: Tensor, categorical: Tensor, dense: Tensor
    ) -> Tensor:
        """Logits (rows, 1) of a :class:`ctr_kd.data.batching.Batch`."""
        inputs = self.inputs(Batch(segment_a, segment_a_length, segment_of_row, segment_b, categorical, dense))
        rows = len(segment_b)
        if rows == 1:  # DCNv2 loses the axis of a single row
            inputs = {name: value.repeat(2, *[1] * (value.ndim - 1)) for name, value in inputs.items()}
        return torch.logit(self.model(inputs)[:rows], LARGEST_LOGIT_AT).unsqueeze(1)


def random_batches(rows: int, batch_size: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Shuffled rows in batches of one size; what is left over waits for another epoch, unless there is nothing else.

    Examples
    --------
    >>> [len(batch) for batch in random_batches(7, 3, np.random.default_rng(0))]
    [3, 3]
    """
    order = rng.permutation(rows)
    return np.split(order[: rows // batch_size * batch_size], rows // batch_size) if rows >= batch_size else [order]


def train_peer(kind: str, rows: TrainingRows, trial: Trial, job: TrainingJob) -> tuple[Peer, LearningCurve]:
    """Train one peer on the labels.

    Returns
    -------
    model : Peer
        With the weights of the highest validation AUC, in eval mode.
    curve : LearningCurve
    """
    torch.manual_seed(job.seed)
    train = rows.train
    model, config, label = Peer(kind, rows.signature, trial), trial.training(), torch.from_numpy(train.label)

    def loss(chosen: np.ndarray, rng: np.random.Generator, progress: float) -> Callable[[slice], Tensor]:
        batch, labels = training_batch(train, chosen, rng, config), label[chosen]
        return lambda part: binary_cross_entropy_with_logits(model(*part_of(batch, part))[:, 0], labels[part])

    def validate() -> dict[str, float]:
        figures = validation_figures(model, rows.validation)
        return figures | {"score": figures["auc"]}

    curve = fit(
        model,
        config,
        job,
        plan=lambda rng: random_batches(len(train), config.batch_size, rng),
        loss=loss,
        validate=validate,
    )
    return model, curve
