"""States of users: of all that was known before their time and of nothing later, made once, and joined as of a request."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from sklearn.decomposition import PCA

from ctr_kd.teacher_states import encoder as encoders
from ctr_kd.teacher_states.as_of import StatesAsOf
from ctr_kd.teacher_states.click_tokens import ClickTokens, vocabulary_of
from ctr_kd.teacher_states.encoder import StateEncoder, _pretraining, load_encoder, principal_components, train_encoder, what_it_says
from ctr_kd.teacher_states.ledger import StatesFolder, make_states
from ctr_kd.training.errors import DeviceError
from ctr_kd.training.job import TrainingJob
from ctr_kd.training.pretrain import build_encoder
from feature_store.config_teacher_state import TeacherStateConfig
from feature_store.features.click_sequences import ClickSequences
from feature_store.tables.contracts import DataError
from tests.ctr_kd.embeddings.click_worlds import HOUR, START, random_events, sequences

DAY = 24 * HOUR
UNTIL = START + 20 * HOUR
EVERY = 5 * HOUR
SMALL = TeacherStateConfig(width=4, hidden=8, layers=1, heads=2, max_length=4, epochs=2, batch_size=16, min_count=2)
CATEGORIES = {f"i{n:03d}": f"c{n % 3}" for n in range(80)}
Event = tuple[str, str, int, int]


def untrained(clicks: ClickSequences) -> StateEncoder:
    """An encoder with numbers by chance, which says as much of histories as one that learned."""
    vocabulary = {"item_id": [f"i{n:03d}" for n in range(0, 80, 2)], "category": ["c0", "c1"]}
    tokens = ClickTokens(clicks, np.zeros(0, np.int64), vocabulary, SMALL.max_length)
    torch.manual_seed(1)
    model = build_encoder(tokens, tokens.signature(), _pretraining(SMALL).encoder).eval()
    rng = np.random.default_rng(3)
    return StateEncoder(model, vocabulary, np.zeros(16, np.float32), rng.normal(size=(16, 4)).astype(np.float32), SMALL.max_length)


def made(folder: Path, events: list[Event], now: int) -> dict[tuple[str, int], list[float]]:
    """States by user and time, of the events as they are now."""
    clicks = sequences(events, CATEGORIES)
    states, _ = make_states(StatesFolder(folder), untrained(clicks), clicks, every=EVERY, since=UNTIL, now=now)
    found = {}
    for entry in states.entries:
        users, vectors = StatesFolder(folder).load(entry)
        found |= {(user, entry.until): vector.tolist() for user, vector in zip(users.to_pylist(), vectors, strict=True)}
    return found


def job(tmp_path: Path) -> TrainingJob:
    return TrainingJob(seed=5, fingerprint="test", folder=tmp_path / "checkpoints")


@pytest.mark.parametrize("seed", range(3))
def test_a_state_is_of_all_that_was_known_before_its_time_and_of_nothing_later(tmp_path: Path, seed: int) -> None:
    events = random_events(seed)
    now = START + 60 * HOUR
    found = made(tmp_path / "all", events, now)
    times = range(-(-UNTIL // EVERY) * EVERY, now + 1, EVERY)
    assert {time for _, time in found} <= set(times)
    for time in times:
        before = [one for one in events if one[3] < time]
        last = [one for one in before if one[3] >= time - EVERY or time == times[0]]
        assert {user for user, at in found if at == time} == {one[0] for one in last}  # those of whom something new is known
        clicks = sequences(before, CATEGORIES)  # a log that ends there, with codes of its own
        user, state = untrained(clicks).states(clicks, np.arange(len(before)))
        for name, vector in zip(clicks.users.take(pa.array(user)).to_pylist(), state, strict=True):
            if (name, time) in found:
                assert np.allclose(found[name, time], vector, atol=2e-3)


def test_later_clicks_change_no_state_of_before(tmp_path: Path) -> None:
    events, rng = random_events(4), np.random.default_rng(0)
    moment = START + 40 * HOUR // EVERY * EVERY
    found = made(tmp_path / "all", events, START + 60 * HOUR)
    later = [one for one in events if one[3] >= moment]
    items = rng.permutation([one[1] for one in later])
    shuffled = [*(one for one in events if one[3] < moment), *((u, str(i), t, k) for (u, _, t, k), i in zip(later, items, strict=True))]
    other = made(tmp_path / "shuffled", shuffled, START + 60 * HOUR)
    before = {key: state for key, state in found.items() if key[1] <= moment}
    assert before and before == {key: state for key, state in other.items() if key[1] <= moment}
    assert {key: state for key, state in found.items() if key[1] > moment} != {
        key: state for key, state in other.items() if key[1] > moment
    }


def test_states_that_are_made_night_by_night_are_those_that_are_made_at_once(tmp_path: Path) -> None:
    events = random_events(5)
    at_once = made(tmp_path / "at_once", events, START + 60 * HOUR)
    for hour in range(21, 61, 3):
        known = [one for one in events if one[3] < START + hour * HOUR]
        nightly = made(tmp_path / "nightly", known, START + hour * HOUR)
    assert nightly == at_once
    names = [sorted(file.name for file in (tmp_path / name).glob("*.parquet")) for name in ("at_once", "nightly")]
    assert names[0] == names[1] and len(names[0]) > 5
    untouched = {file: file.stat().st_mtime_ns for file in (tmp_path / "nightly").iterdir()}
    made(tmp_path / "nightly", events, START + 60 * HOUR)
    made(tmp_path / "nightly", [one for one in events if one[3] < START + 30 * HOUR], START + 30 * HOUR)  # an earlier logical time
    assert untouched == {file: file.stat().st_mtime_ns for file in (tmp_path / "nightly").iterdir()}


def test_what_follows_a_click_that_was_not_said_to_be_late_is_made_anew(tmp_path: Path) -> None:
    events = random_events(6)
    before = made(tmp_path / "grown", events, START + 60 * HOUR)
    moment = START + 41 * HOUR
    grown = [*events, ("u3", "i004", moment, moment)]
    after = made(tmp_path / "grown", grown, START + 60 * HOUR)
    assert after == made(tmp_path / "anew", grown, START + 60 * HOUR) != before
    assert {key: one for key, one in after.items() if key[1] <= moment} == {key: one for key, one in before.items() if key[1] <= moment}


def test_clicks_that_come_in_for_times_that_had_none_are_read_too(tmp_path: Path) -> None:
    """A scheduled run looks ahead of its log: of the hours that it had no clicks of yet, some come in with the next one."""
    events = random_events(9)
    moment = START + 31 * HOUR
    early = [one for one in events if one[3] < moment]
    made(tmp_path / "ahead", early, START + 60 * HOUR)
    assert made(tmp_path / "ahead", events, START + 60 * HOUR) == made(tmp_path / "anew", events, START + 60 * HOUR)
    assert made(tmp_path / "ahead", early, START + 60 * HOUR) != made(tmp_path / "anew", events, START + 60 * HOUR)


@pytest.mark.parametrize("delay", [0, HOUR, 7 * HOUR])
def test_a_row_reads_the_newest_state_that_was_there(tmp_path: Path, delay: int) -> None:
    events = random_events(7)
    found = made(tmp_path, events, START + 60 * HOUR)
    rng = np.random.default_rng(1)
    users = [f"u{n}" for n in rng.integers(0, 35, 500)]  # some never clicked
    moment = START + rng.integers(15 * HOUR, 70 * HOUR, 500)
    moment[:40] = -(-moment[:40] // EVERY) * EVERY + delay + rng.integers(-1, 2, 40)  # the edge, and a microsecond beside it
    states = StatesAsOf(StatesFolder(tmp_path), 4, delay)
    halves = [states.of(pa.array(users[part]), moment[part]) for part in (slice(0, 250), slice(250, 500))]
    for user, time, vector in zip(users, moment.tolist(), np.concatenate(halves), strict=True):
        there = [(at, state) for (of, at), state in found.items() if of == user and at <= time - delay]
        if there:
            assert vector.tolist() == max(there)[1]
        else:
            assert np.isnan(vector).all()
    assert np.isnan(states.of(pa.array([None, "u3"], pa.string()), np.full(2, START)).astype(float)).all()


def test_the_whole_history_is_read_in_pieces() -> None:
    clicks = sequences(
        [("long", f"i{n % 7 * 2:03d}", START + n, START + n) for n in range(11)] + [("short", "i002", START, START)], CATEGORIES
    )
    encoder = untrained(clicks)
    tokens = ClickTokens(clicks, np.arange(12), encoder.vocabulary, 4)
    assert [(int(a), int(b)) for a, b in zip(tokens.pieces().start, tokens.pieces().end, strict=True)] == [
        (0, 3),
        (3, 7),
        (7, 11),
        (11, 12),
    ]
    user, said = what_it_says(encoder.model, tokens)
    assert clicks.users.take(pa.array(user)).to_pylist() == ["long", "short"]
    pool, states = torch.from_numpy(tokens.pieces().pool), []
    with torch.no_grad():
        for start, end in ((0, 3), (3, 7), (7, 11)):
            states.append(encoder.model.bert(pool[None, start:end], torch.tensor([end - start]))[0])
        expected = encoder.model.history_state(pool[None, 7:11], torch.tensor([4]))[0]
    assert np.allclose(said[0], torch.cat([expected, torch.cat(states).mean(0)]).numpy(), atol=1e-5)


def test_an_encoder_learns_what_was_known_before_and_nothing_else(tmp_path: Path) -> None:
    events = random_events(8)
    later = [("u1", "i777", START + 30 * HOUR, START + 30 * HOUR)] * 9  # a new item, and one that was known and not clicked before
    learned = []
    for name, log in (("with", [*events, *later]), ("without", [one for one in events if one[3] < UNTIL])):
        clicks = sequences(log, CATEGORIES)
        train_encoder(SMALL, clicks, UNTIL, "encoder-0", job=job(tmp_path / name), folder=tmp_path / name / "encoder")
        learned.append(load_encoder(tmp_path / name / "encoder", clicks))
    with_later, without = learned
    assert with_later.vocabulary == without.vocabulary and "i777" not in with_later.vocabulary["item_id"]
    for name, weight in with_later.model.state_dict().items():
        assert torch.equal(weight, without.model.state_dict()[name]), name
    assert np.array_equal(with_later.components, without.components) and np.array_equal(with_later.mean, without.mean)
    clicks = sequences(events, CATEGORIES)
    _, state = without.states(clicks, np.flatnonzero(clicks.known_at < UNTIL))
    assert np.allclose(state.astype(float).mean(axis=0), 0, atol=0.02)
    spread = state.astype(float).std(axis=0)
    assert spread[0] == pytest.approx(1, abs=0.02) and (np.diff(spread) <= 0).all() and spread[-1] > 0


def test_an_encoder_is_trained_and_read_where_the_configuration_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    chosen: list[str] = []
    choose = encoders.choose_device
    monkeypatch.setattr(encoders, "choose_device", lambda training: (chosen.append(training.device), choose(training))[1])
    clicks = sequences(random_events(8), CATEGORIES)
    with pytest.raises(DeviceError, match="torch finds no GPU here"):
        train_encoder(SMALL, clicks, UNTIL, "encoder-0", job=job(tmp_path), folder=tmp_path / "encoder", device="cuda")
    train_encoder(SMALL, clicks, UNTIL, "encoder-0", job=job(tmp_path), folder=tmp_path / "encoder", device="cpu")
    assert chosen == ["cpu"]  # what it says of users is computed there too
    with pytest.raises(DeviceError, match="torch finds no GPU here"):
        load_encoder(tmp_path / "encoder", clicks, "cuda")


def test_a_vocabulary_counts_the_clicks_that_are_known() -> None:
    clicks = sequences(
        [("u", item, START + n, START + n) for n, item in enumerate(["i000", "i001", "i001", "i003", "i003", "i003"])], CATEGORIES
    )
    assert vocabulary_of(clicks, np.arange(6), 2, 10) == {"item_id": ["i003", "i001"], "category": ["c0", "c1"]}
    assert vocabulary_of(clicks, np.arange(3), 1, 1) == {"item_id": ["i001"], "category": ["c1"]}


def test_components_are_those_of_another_library() -> None:
    rng = np.random.default_rng(0)
    said = rng.normal(size=(300, 6)) @ rng.normal(size=(6, 6)) + 5
    mean, components, explained = principal_components(said, 3)
    other = PCA(3).fit(said)
    ours, theirs = (said - mean) @ components, other.transform(said)
    assert np.allclose(np.abs(ours), np.abs(theirs) / theirs[:, 0].std(), atol=1e-3)
    assert explained == pytest.approx(other.explained_variance_ratio_.sum(), abs=1e-5)
    nothing = principal_components(np.ones((5, 4)), 2)  # vectors that do not differ
    assert nothing[2] == 0 and np.isfinite(nothing[1]).all()


def test_damage_is_said(tmp_path: Path) -> None:
    events = random_events(9)
    clicks = sequences(events, CATEGORIES)
    made(tmp_path, events, START + 60 * HOUR)
    states = StatesAsOf(StatesFolder(tmp_path), 4, 0)
    file = sorted(tmp_path.glob("*.parquet"))[0]
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"is damaged: it is not what was written; delete .*, and what reads it makes the states anew"):
        states.of(pa.array(["u3"]), np.array([START + 70 * HOUR]))
    with pytest.raises(DataError, match="no teacher states were made there"):
        StatesAsOf(StatesFolder(tmp_path / "nowhere"), 4, 0)
    train_encoder(SMALL, clicks, UNTIL, "encoder-0", job=job(tmp_path), folder=tmp_path / "encoder")
    with pytest.raises(DataError, match=r"learned items by item_id, category, and they have others now"):
        load_encoder(tmp_path / "encoder", sequences(events))
    (tmp_path / "encoder" / "vocabulary.json").write_text("{}")
    with pytest.raises(DataError, match=r"vocabulary\.json is damaged: it is not what was written"):
        load_encoder(tmp_path / "encoder", clicks)
    with pytest.raises(DataError, match="there is no encoder of teacher states"):
        load_encoder(tmp_path / "nowhere", clicks)


def test_too_few_clicks_are_said(tmp_path: Path) -> None:
    clicks = sequences([("u0", "i000", START, START), ("u1", "i000", START, START)], CATEGORIES)
    with pytest.raises(DataError, match="teacher_state: its encoder has too little to learn from before the states begin"):
        train_encoder(SMALL, clicks, UNTIL, "encoder-0", job=job(tmp_path), folder=tmp_path / "encoder")
