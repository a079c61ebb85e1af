"""Learning vectors in the order of time: each block of clicks is learned once all before it are, and changes what later rows see alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional as F

from ctr_kd.embeddings.encoder import Encoder, build_encoder, set_parameters
from ctr_kd.embeddings.facts import Entry, Facts, FactsFolder, FactsList, since_all
from ctr_kd.embeddings.vectors import FIRST, NOTHING, SPECIAL, UNKNOWN, Catalogue, VectorTables, distinct, distinct_rows
from ctr_kd.models.threads import one_thread
from feature_store.config import EmbeddingsConfig
from feature_store.config_types import in_microseconds
from feature_store.features.click_sequences import ClickSequences, PrefixDigest

REPLAY_BLOCKS = 36
NEGATIVE_BLOCKS = 6  # whose clicks the negatives are drawn from: what is live now
BATCH = 256  # clicks per step
ENCODER_RATES = {"pooled": 0.01, "bert": 0.001}  # Adam's, of the numbers that all items share
ALL_EVERY = 24 * 3600 * 10**6  # microseconds between files of all vectors, from one of which everything later can be learned again
CLICKS_PER_BLOCK = 2000  # least that the length of a block gives on average, where the log's pace decides
PUBLISH_SECONDS = 10.0  # between two lists: a killed walk goes on from the newest
LENGTHS = (60, 300, 600, 1800, 3600, 3 * 3600, 6 * 3600, 12 * 3600, 86_400, 7 * 86_400)  # seconds: what it is chosen of


def block_length(config: EmbeddingsConfig, known_at: np.ndarray) -> int:
    """Length of a block in microseconds: as configured, or the shortest usual one in which clicks (times in microseconds) are many enough.

    Examples
    --------
    >>> block_length(EmbeddingsConfig(), np.linspace(0, 24 * 3600e6, 240_000)) // 10**6
    1800
    """
    if config.block is not None:
        return in_microseconds(config.block)
    pace = len(known_at) / max(int(known_at[-1]) - int(known_at[0]), 1) if len(known_at) else 0.0
    return next((length * 10**6 for length in LENGTHS if length * 10**6 * pace >= CLICKS_PER_BLOCK), LENGTHS[-1] * 10**6)


@dataclass
class Learner:
    """What has been learned so far, and how the next clicks are learned.

    Parameters
    ----------
    config : EmbeddingsConfig
    length : int
        Newest clicks of a history that are read.
    catalogue : Catalogue
        Of the items of the clicks.
    """

    config: EmbeddingsConfig
    length: int
    catalogue: Catalogue
    tables: VectorTables = field(init=False)
    encoder: Encoder = field(init=False)

    def __post_init__(self) -> None:
        self.tables = VectorTables(self.config.width)
        self.encoder = build_encoder(self.config, self.length)
        self._optimizer = torch.optim.Adam(self.encoder.parameters(), lr=ENCODER_RATES[self.config.encoder])
        self._touched: set[int] = set()

    def parameters(self) -> np.ndarray:
        """Numbers of the encoder and of its optimizer, float32 (parameters,)."""
        steps, moments = 0.0, []
        for one in self.encoder.parameters():
            state = self._optimizer.state.get(one)
            moments += [state["exp_avg"], state["exp_avg_sq"]] if state else [torch.zeros_like(one)] * 2
            steps = float(state["step"]) if state else steps
        flat = [one.detach().ravel() for one in (*self.encoder.parameters(), *moments)]
        return torch.cat([*flat, torch.tensor([steps])]).numpy()

    def take(self, facts: Facts) -> None:
        """Take over what a file holds."""
        self.catalogue.locate(facts.rows.keys, self.tables.put(facts.rows))
        set_parameters(self.encoder, facts.parameters)
        own = list(self.encoder.parameters())
        rest, moments = facts.parameters[sum(one.numel() for one in own) : -1], []
        for one in own:
            halves = np.split(rest[: 2 * one.numel()], 2)
            moments.append([torch.from_numpy(half.copy()).view_as(one) for half in halves])
            rest = rest[2 * one.numel() :]
        state = {n: {"step": torch.tensor(facts.parameters[-1]), "exp_avg": a, "exp_avg_sq": b} for n, (a, b) in enumerate(moments)}
        self._optimizer.load_state_dict({"state": state, "param_groups": self._optimizer.state_dict()["param_groups"]})

    def learn(self, clicks: ClickSequences, block: Block) -> None:
        """Learn the clicks of a block."""
        rng = np.random.default_rng([self.config.seed, block.number])
        self._meet(clicks.item[block.clicks], block.until, rng)
        for _ in range(self.config.passes):
            again = rng.choice(block.replay, min(len(block.replay), len(block.clicks) // 2)) if len(block.replay) else block.replay
            learned = np.concatenate([block.clicks, again])
            learned = learned[block.history_from[learned] < block.until]
            rng.shuffle(learned)
            for begin in range(0, len(learned), BATCH):
                self._step(clicks, learned[begin : begin + BATCH], block, rng)
        self.tables.round(np.array(sorted(self._touched), np.int64))

    def changed(self) -> Facts:
        """What changed since this was last asked."""
        rows = np.array(sorted(self._touched), np.int64)
        self._touched.clear()
        return Facts(self.tables.get(rows), self.parameters())

    def all(self, before: int) -> Facts:
        """All vectors, after those are forgotten that were last clicked before a time (microseconds UTC)."""
        self.tables = self.tables.without(before)
        self.catalogue.forget()
        rows = np.arange(len(self.tables))
        self.catalogue.locate(self.tables.keys, rows)
        self._touched.clear()
        return Facts(self.tables.get(rows), self.parameters())

    def _meet(self, items: np.ndarray, until: int, rng: np.random.Generator) -> None:
        """Give first vectors to items that are new, and to their attributes."""
        tables, keys = self.tables, self.catalogue.keys(items)
        before = len(tables)
        rows = tables.add(keys)
        new = torch.arange(before, len(tables))
        tables.read[new] = torch.from_numpy(rng.normal(0.0, FIRST, (len(new), tables.width)).astype(np.float32))
        if before == len(SPECIAL) and not self.tables.read_power[UNKNOWN]:  # the very first clicks: an item never met has some vector too
            tables.read[UNKNOWN] = torch.from_numpy(rng.normal(0.0, FIRST, tables.width).astype(np.float32))
            self._touched.add(UNKNOWN)
        tables.clicked[rows] = until
        self._touched.update(rows.tolist())
        self.catalogue.locate(keys, rows)

    def _step(self, clicks: ClickSequences, learned: np.ndarray, block: Block, rng: np.random.Generator) -> None:
        """One step on clicks at some positions: the state before each tells its item from those of other recent clicks."""
        history, seen = windows(learned, clicks.first[learned], self.length, block.known)
        wanted, others = clicks.item[learned], clicks.item[rng.choice(block.recent, self.config.negatives)]
        read, (read_place,) = self._vectors(self.tables.read, rng, np.where(seen, clicks.item[history], -1))
        target, (own, other) = self._vectors(self.tables.target, rng, wanted, others)
        state = self.encoder(read_place, torch.from_numpy(seen), read.sums)
        right = (state * F.embedding(own, target.sums)).sum(1, keepdim=True)
        wrong = state @ F.embedding(other, target.sums).T
        wrong = wrong.masked_fill(torch.from_numpy(wanted[:, None] == others[None]), -torch.inf)
        logits = torch.cat([right, wrong], dim=1)
        F.cross_entropy(logits, torch.zeros(len(learned), dtype=torch.int64)).backward()
        self._move(self.tables.read, self.tables.read_power, read)
        self._move(self.tables.target, self.tables.target_power, target)
        self._optimizer.step()
        self._optimizer.zero_grad()

    def _vectors(self, table: Tensor, rng: np.random.Generator, *items: np.ndarray) -> tuple[_Local, list[Tensor]]:
        """Vectors of the distinct ones among items, some of them hidden, and the place of each item among them."""
        found = [self.catalogue.rows(one, hidden=rng.random(one.shape) < self.config.unknown_rate) for one in items]
        if found[0].shape[-1] == 1:  # nothing is summed
            rows, places = distinct(*(one[..., 0] for one in found))
            leaf = table[torch.from_numpy(rows)].requires_grad_()
            return _Local(rows, leaf, leaf), places
        parts, places = distinct_rows(*found)
        rows, (part,) = distinct(parts)
        leaf = table[torch.from_numpy(rows)].requires_grad_()
        return _Local(rows, leaf, F.embedding_bag(part, leaf, mode="sum")), places

    def _move(self, table: Tensor, power: Tensor, local: _Local) -> None:
        """Row-wise AdaGrad: one rate per row, by the mean squares of its gradients so far (Mudigere et al. 2022, arXiv:2104.05158)."""
        index, gradient = torch.from_numpy(local.rows), local.leaf.grad
        assert gradient is not None  # of a leaf that the loss depends on  # noqa: S101
        so_far = power[index] + gradient.pow(2).mean(1)
        power[index] = so_far
        table[index] = local.leaf.detach() - gradient * (self.config.learning_rate / (so_far.sqrt() + 1e-8)).unsqueeze(1)
        table[NOTHING] = 0.0
        power[NOTHING] = 0.0
        self._touched.update(local.rows.tolist())


class _Local(NamedTuple):
    """The rows of a table that a step reads, and the vectors that are sums of them.

    Attributes
    ----------
    rows : int64 array (rows,)
    leaf : float32 tensor (rows, width)
    sums : float32 tensor (vectors, width)
    """

    rows: np.ndarray
    leaf: Tensor
    sums: Tensor


class Block(NamedTuple):
    """Positions of the clicks of a block, and of those before it that are learned with them.

    Attributes
    ----------
    number : int
        Blocks since 1970.
    until : int
        When it ends, microseconds UTC.
    clicks : int64 array
        Those that became known in it.
    replay : int64 array
        Older ones of which some are learned again.
    recent : int64 array
        Those whose items are negatives.
    known : bool array (all clicks,)
        Whether each was known when the block ended.
    history_from : int64 array (all clicks,)
        When one of the same user before it became known, microseconds UTC.
    """

    number: int
    until: int
    clicks: np.ndarray
    replay: np.ndarray
    recent: np.ndarray
    known: np.ndarray
    history_from: np.ndarray


def windows(end: np.ndarray, first: np.ndarray, length: int, known: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The newest clicks before some positions, newest first.

    Parameters
    ----------
    end, first : int64 arrays (rows,)
        Position after the newest click, and the oldest that counts.
    length : int
    known : bool array (clicks,), optional
        Those that count; None counts all.

    Returns
    -------
    int64 array, bool array (rows, length)
        Positions, and whether there is such a click; where there is none the position is 0.

    Examples
    --------
    >>> windows(np.array([3, 1]), np.array([1, 1]), 3)[1].tolist()
    [[True, True, False], [False, False, False]]
    >>> windows(np.array([4]), np.array([0]), 2, np.array([True, True, True, False]))[0].tolist()
    [[2, 1]]
    """
    position = end[:, None] - 1 - np.arange(length)
    seen = position >= first[:, None]
    position = np.where(seen, position, 0)
    if known is not None:
        for row in np.flatnonzero((seen & ~known[position]).any(1)):  # few: clicks that came to light late
            of_row = np.arange(first[row], end[row])
            newest = of_row[known[of_row]][-length:][::-1]
            position[row], seen[row] = 0, np.arange(length) < len(newest)
            position[row, : len(newest)] = newest
    return position, seen


@dataclass
class Walk:
    """One walk through the clicks of a log, from where an earlier one ended.

    What is learned is a function of the clicks: where some that were learned are not as they were, what follows is learned anew.

    Parameters
    ----------
    clicks : ClickSequences
        All that was known before ``now``.
    config : EmbeddingsConfig
    length : int
        Newest clicks of a history that are read.
    folder : FactsFolder
    now : int
        Blocks that end later (microseconds UTC) are not complete.
    changes_from : int, optional
        What was known at each later time (microseconds UTC) must be told; None: as it is.

    Raises
    ------
    DataError
        When the folder is damaged.
    """

    clicks: ClickSequences
    config: EmbeddingsConfig
    length: int
    folder: FactsFolder
    now: int
    changes_from: int | None = None

    def __post_init__(self) -> None:
        self._known = self.folder.read()
        self._order = np.argsort(self.clicks.known_at, kind="stable")
        self._times = self.clicks.known_at[self._order]
        self.block = block_length(self.config, self._times) if self._known is None else self._known.block
        begin, end = (int(self._times[place]) // self.block for place in (0, -1)) if len(self._times) else (0, -1)
        self._complete = min(self.now // self.block, end + 1) * self.block
        self._kept_from = self._complete - in_microseconds(self.config.keep)
        self._changes_from = self._told_from()
        self._entries, self._cut = self._standing()
        self._replay = REPLAY_BLOCKS * self.block if self.config.replay is None else in_microseconds(self.config.replay)
        self._todo = int(np.searchsorted(self._times, self._complete))
        self._done = self._entries[-1].clicks if self._entries else 0
        self._digest = PrefixDigest(self.clicks, self._order)
        self._last = self._entries[-1].until if self._entries else begin * self.block
        self._published = time.monotonic()

    @property
    def clicks_to_learn(self) -> int:
        """Clicks of complete blocks that were not learned yet."""
        return max(self._todo - self._done, 0)

    def learn(self, advance: Callable[[int], object] = lambda clicks: None) -> FactsList:
        """Learn what is to be learned, and publish it; ``advance`` is called with the clicks of each block."""
        if self.clicks_to_learn:
            learner = Learner(self.config, self.length, Catalogue(self.clicks.items))
            for entry in since_all(self._entries, self._complete):
                learner.take(self.folder.load(entry))
            with one_thread():
                for block in self.blocks():
                    learner.learn(self.clicks, block)
                    self._keep(learner, block)
                    advance(len(block.clicks))
        return self._publish()

    def _told_from(self) -> int:
        """From when on every block has an entry: others may read what an earlier walk kept for them, for as long as ``keep`` says."""
        if self._known is None:
            return self._complete if self.changes_from is None else self.changes_from
        before = self._known.changes_from
        wanted = before if self.changes_from is None else self.changes_from
        return min(wanted, max(before, self._kept_from))

    def _standing(self) -> tuple[list[Entry], bool]:
        """Entries of the clicks as they are now, as far as every block has one that must have, and whether later ones are gone."""
        if self._known is None:
            return [], True
        entries, digest = list(self._known.entries), PrefixDigest(self.clicks, self._order)
        for place, entry in enumerate(entries):
            if entry.until > self._complete:  # a walk of an earlier logical time leaves the later ones alone
                break
            if entry.clicks != np.searchsorted(self._times, entry.until) or entry.clicks_digest != digest.of(entry.clicks):
                del entries[place:]
                break
        cut = len(entries) < len(self._known.entries)
        if self._changes_from < self._known.changes_from:
            entries, cut = [entry for entry in entries if entry.until <= self._changes_from], True
            while entries and entries[-1].kind != "all":
                entries.pop()
        oldest = next(since_all(entries, self._changes_from), None)
        needed = 0 if oldest is None else oldest.until
        kept = [entry for entry in entries if entry.until >= needed or (entry.kind == "all" and entry.until >= self._kept_from)]
        return kept, cut

    def blocks(self) -> Iterator[Block]:
        """Every block of the clicks that are to be learned."""
        done, clicks = self._done, self.clicks
        earliest = pd.Series(clicks.known_at).groupby(clicks.user).cummin().to_numpy()
        of_all = np.arange(len(earliest))
        history_from = np.where(of_all > clicks.first, np.roll(earliest, 1), np.iinfo(np.int64).max)
        known = np.zeros(len(earliest), bool)
        known[self._order[:done]] = True
        while done < self._todo:
            number = int(self._times[done] // self.block)
            start, until = number * self.block, (number + 1) * self.block
            end, since, recent = np.searchsorted(self._times, [until, start - self._replay, until - NEGATIVE_BLOCKS * self.block])
            known[self._order[done:end]] = True
            older, live = self._order[since:done], self._order[recent:end]
            yield Block(number, until, self._order[done:end], older, live, known, history_from)
            done = int(end)

    def _keep(self, learner: Learner, block: Block) -> None:
        """Write what a block changed, or all vectors where a day ends with it."""
        previous, self._last = self._last, block.until
        self._done += len(block.clicks)
        due = block.until // ALL_EVERY > previous // ALL_EVERY
        ends = (self._times[self._done] // self.block + 1) * self.block if self._done < len(self._times) else self._changes_from + 1
        if due:
            facts = learner.all(block.until - in_microseconds(self.config.forget))
        elif ends > self._changes_from:  # there are rows before the next block does, and nothing else changes until then
            facts = learner.changed()
        else:
            return
        digest = self._digest.of(self._done)
        self._entries.append(self.folder.write(block.until, "all" if due else "changed", facts, self._done, digest))
        if time.monotonic() > self._published + PUBLISH_SECONDS:
            self._publish()

    def _publish(self) -> FactsList:
        until = self._last if self._done < self._todo else self._complete
        if not self._cut and self._known is not None:
            until = max(until, self._known.until)
        facts = FactsList(
            settings=self.folder.settings, block=self.block, until=until, changes_from=self._changes_from, entries=self._entries
        )
        if self._known is None or facts.to_json() != self._known.to_json():
            self.folder.write_list(facts)
        self._known, self._published = facts, time.monotonic()
        return facts
