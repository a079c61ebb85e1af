import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from ctr_kd.config import EncoderConfig, PretrainConfig
from ctr_kd.config_training import TrainingConfig
from ctr_kd.data.samples import Assembly
from ctr_kd.models.bert import Bert, MaskedItemModel
from ctr_kd.training import pretrain as pretraining
from ctr_kd.training.devices import device_of
from ctr_kd.training.pretrain import LastItems, beside_the_obvious, pretrain
from feature_store.special_tokens import SPECIALS
from tests.ctr_kd.trainings import job_at
from tests.ctr_kd.worlds import write_assembly

FIRST = len(SPECIALS)


def test_popularity_and_the_last_click_need_no_encoder() -> None:
    counts = np.array([9] * FIRST + [5, 1, 0])  # of the special tokens too, which nobody asks for
    target, before = np.array([FIRST, FIRST, FIRST + 2, FIRST + 1]), np.array([FIRST, FIRST + 1, FIRST + 2, FIRST])
    found = LastItems(target, before, loss=np.full(4, 0.5), right=np.zeros(4, bool))
    known = beside_the_obvious(found, counts)
    losses = [-math.log(share) for share in (6 / 9, 6 / 9, 1 / 9, 2 / 9)]
    assert known["popularity_loss"] == pytest.approx(np.mean(losses))
    assert (known["popularity_accuracy"], known["last_click_accuracy"]) == (0.5, 0.5)
    half = 1.96 * np.std(losses) / 2
    assert [known[name] for name in ("gain", "gain_low", "gain_high")] == pytest.approx(
        [np.mean(losses) - 0.5, np.mean(losses) - 0.5 - half, np.mean(losses) - 0.5 + half]
    )
    assert beside_the_obvious(LastItems(target[:0], before[:0], np.zeros(0), np.zeros(0, bool)), counts) == {}


@pytest.mark.parametrize(("epochs", "warns"), [(0.01, True), (60, False)])
def test_an_encoder_that_learned_nothing_says_so(epochs, warns, tmp_path) -> None:
    folder = write_assembly(tmp_path / "assembly", users=90, items=12)
    clicks = pq.read_table(folder / "clicks.parquet")
    one_after_the_other = pa.array((np.arange(len(clicks)) % 8).astype(np.int32))  # what comes next is certain
    pq.write_table(clicks.set_column(clicks.schema.get_field_index("item"), "item", one_after_the_other), folder / "clicks.parquet")
    assembly = Assembly(folder, 5)
    said: list[str] = []
    training = TrainingConfig(epochs=epochs, batch_size=32, learning_rate=5e-3, unknown_rate=0.0)
    config = PretrainConfig(encoder=EncoderConfig(width=16, layers=1, heads=1, dropout=0.0), training=training, validation_share=0.3)
    _, _, facts = pretrain(assembly, config, job_at(tmp_path / "c.pt", report=said.append))
    assert (facts["gain_low"] <= 0) == warns == any("predicts no better than popularity does" in line for line in said)
    assert facts["masked_item_loss"] == pytest.approx(facts["popularity_loss"] - facts["gain"])


def test_the_encoder_is_given_lengths_that_it_need_not_wait_for(tmp_path, monkeypatch) -> None:
    """So it sees where no sequence is padded; everything else lies where the model does."""
    assembly, padded = Assembly(write_assembly(tmp_path / "assembly"), 5), []
    make_mask = Bert._mask

    def spied(bert, length, longest, known):
        padded.append(known)
        return make_mask(bert, length, longest, known)

    monkeypatch.setattr(Bert, "_mask", spied)

    def fit_elsewhere(model, config, job, *, plan, loss, **how):
        model.to("meta")
        for rows in plan(np.random.default_rng(0)):
            loss(rows, np.random.default_rng(0), 0.0)(slice(0, len(rows)))
        raise KeyboardInterrupt

    monkeypatch.setattr(pretraining, "fit", fit_elsewhere)
    config = PretrainConfig(encoder=EncoderConfig(width=16, layers=1, heads=1), training=TrainingConfig(batch_size=4), validation_share=0.3)
    with pytest.raises(KeyboardInterrupt):
        pretrain(assembly, config, job_at(tmp_path / "c.pt"))
    assert set(padded) == {True, False}


def test_smoothing_is_of_the_softmax_over_all_items(tmp_path) -> None:
    """It changes what is learned there, and elsewhere it says that it does not."""
    assembly = Assembly(write_assembly(tmp_path / "assembly", users=60, items=12), 5)
    training = TrainingConfig(epochs=1, batch_size=32, learning_rate=5e-3, unknown_rate=0.0)

    def train(**settings: object) -> tuple[float, list[str]]:
        said: list[str] = []
        config = PretrainConfig(encoder=EncoderConfig(width=16, layers=1, heads=1), training=training, **settings)
        name = "-".join(map(str, settings.values()))
        _, curve, _ = pretrain(assembly, config, job_at(tmp_path / f"{name}.pt", report=said.append))
        assert curve is not None
        return curve.points[-1]["train_loss"], [line for line in said if "label_smoothing" in line]

    plain, smooth = train(items="softmax"), train(items="softmax", label_smoothing=0.3)
    assert plain[0] != pytest.approx(smooth[0], rel=1e-3) and not plain[1] and not smooth[1]
    sampled, told = train(items="sampled"), train(items="sampled", label_smoothing=0.3)
    assert sampled[0] == told[0] and not sampled[1]
    assert told[1] == [
        "warning: pretrain.label_smoothing has no effect: it is of the softmax over all items (pretrain.items), and this is sampled"
    ]


def test_what_was_learned_is_measured_once_and_where_the_training_computed(tmp_path, monkeypatch) -> None:
    """A training leaves its encoder on the processor, on which a large one takes minutes for thousands of sequences."""
    assembly = Assembly(write_assembly(tmp_path / "assembly", users=60, items=12), 5)
    moved, measured = [], []
    to, predict = MaskedItemModel.to, pretraining.predict_last_items
    monkeypatch.setattr(MaskedItemModel, "to", lambda model, *where: moved.append(where) or to(model, *where))
    monkeypatch.setattr(pretraining, "predict_last_items", lambda *given: measured.append(len(moved)) or predict(*given))
    config = PretrainConfig(
        encoder=EncoderConfig(width=16, layers=1, heads=1), training=TrainingConfig(epochs=1, batch_size=32, validations=1)
    )
    model, curve, facts = pretrain(assembly, config, job_at(tmp_path / "c.pt"))
    assert curve is not None and len(curve.points) == 1
    assert measured == [1, 2] and moved == [(torch.device("cpu"),)] * 2 and device_of(model).type == "cpu"
    assert facts["masked_item_loss"] == curve.points[0]["masked_item_loss"]
