"""The encoder of states: a BERT that learned the clicks before a time, and what it says of a user's whole history in a few numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch

from ctr_kd.config import EncoderConfig, PretrainConfig
from ctr_kd.config_training import Device, TrainingConfig
from ctr_kd.data.batching import batch_plan, gather
from ctr_kd.models.bert import MaskedItemModel
from ctr_kd.models.layers import padding_mask
from ctr_kd.teacher_states.click_tokens import ClickTokens, vocabulary_of
from ctr_kd.training.checkpoint import load_weights, save_checkpoint
from ctr_kd.training.devices import choose_device, device_of
from ctr_kd.training.job import TrainingJob
from ctr_kd.training.pretrain import build_encoder, pretrain
from feature_store.config_teacher_state import TeacherStateConfig
from feature_store.features.click_sequences import ClickSequences
from feature_store.tables.contracts import DataError
from feature_store.tables.files import sha256_of
from feature_store.tables.json_files import load_json, write_json
from feature_store.tables.json_models import JsonFile
from feature_store.tables.multi_values import named_by

BATCH = 512  # pieces of histories that are read at a time
WEIGHTS, VOCABULARY = "encoder.pt", "vocabulary.json"


class EncoderFile(JsonFile):
    """What an encoder is, written when all of it is there.

    Attributes
    ----------
    name : str
        Holds a digest of the settings and the clicks that it was made of.
    until : int
        All clicks that it learned were known before, microseconds UTC.
    clicks : int
        How many it learned.
    settings : dict
        By which it was made.
    masked_item_accuracy : float
        On users that were put aside.
    explained : float
        Share of the variance of what it says of users that its states keep.
    files : dict of str to str
        The sha256 of the files beside.
    """

    FILE: ClassVar[str] = "encoder.json"

    name: str
    until: int
    clicks: int
    settings: dict[str, Any]
    masked_item_accuracy: float
    explained: float
    files: dict[str, str]


class StateEncoder(NamedTuple):
    """An encoder and how its states are made of what it says.

    Attributes
    ----------
    model : MaskedItemModel
    vocabulary : dict of str to list of str
        Of each token feature.
    mean : float32 array (2 * hidden,)
        Of what it says of the users that it learned.
    components : float32 array (2 * hidden, width)
        Principal components; in their unit the first has a standard deviation of 1.
    max_length : int
        Clicks that it reads at once.
    """

    model: MaskedItemModel
    vocabulary: dict[str, list[str]]
    mean: np.ndarray
    components: np.ndarray
    max_length: int

    def states(self, clicks: ClickSequences, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """States of the users of some clicks, of their whole histories.

        Parameters
        ----------
        clicks : ClickSequences
        known : int array (known,)
            Positions of the clicks that are known, ascending.

        Returns
        -------
        user : int32 array (users,)
            Positions in ``clicks.users``.
        state : float16 array (users, width)
        """
        user, said = what_it_says(self.model, ClickTokens(clicks, known, self.vocabulary, self.max_length))
        return user, ((said - self.mean) @ self.components).astype(np.float16)


def learned_by(config: TeacherStateConfig) -> dict[str, Any]:
    """The settings by which an encoder is made: all but those of when states are made and read."""
    return config.model_dump(mode="json", exclude={"every", "delay", "share", "encoder"})


def train_encoder(
    config: TeacherStateConfig,
    clicks: ClickSequences,
    until: int,
    name: str,
    *,
    job: TrainingJob,
    folder: Path,
    device: Device = "auto",
) -> EncoderFile:
    """Train an encoder on the clicks known before a time by masked item prediction, and write it.

    Vocabulary, weights and components are all of these clicks; of a label it sees none.

    Parameters
    ----------
    config : TeacherStateConfig
    clicks : ClickSequences
    until : int
        Microseconds UTC.
    name : str
    job : TrainingJob
    folder : Path
        Where it goes.
    device : {"auto", "cpu", "cuda"}
        As ``training.device`` has it.

    Raises
    ------
    DataError
        When the clicks are too few to learn from.
    DeviceError
        When there is no such device.
    """
    known = np.flatnonzero(clicks.known_at < until)
    vocabulary = vocabulary_of(clicks, known, config.min_count, config.max_size)
    tokens, settings = ClickTokens(clicks, known, vocabulary, config.max_length), _pretraining(config, device)
    try:
        model, _, facts = pretrain(tokens, settings, job)
    except DataError as error:
        raise DataError(f"teacher_state: its encoder has too little to learn from before the states begin ({error})") from None
    _, said = what_it_says(model.to(choose_device(settings.training)), tokens)  # a training leaves its model on the CPU
    mean, components, explained = principal_components(said, config.width)
    folder.mkdir(parents=True, exist_ok=True)
    numbers = {"mean": torch.from_numpy(mean), "components": torch.from_numpy(components)}
    save_checkpoint(folder / WEIGHTS, {"model": {key: one.cpu() for key, one in model.state_dict().items()}, **numbers}, name)
    write_json(folder / VOCABULARY, vocabulary)
    made = EncoderFile(
        name=name,
        until=until,
        clicks=len(known),
        settings=learned_by(config),
        masked_item_accuracy=facts["masked_item_accuracy"],
        explained=explained,
        files={file: sha256_of(folder / file) for file in (WEIGHTS, VOCABULARY)},
    )
    made.write(folder)
    return made


def read_encoder_file(folder: Path) -> EncoderFile | None:
    """What the encoder of a folder is; None where there is none that was written whole.

    Raises
    ------
    DataError
        When the file is damaged.
    """
    try:
        return EncoderFile.read(folder)
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise _damaged(folder, EncoderFile.FILE, str(error)) from None


def load_encoder(folder: Path, clicks: ClickSequences, device: Device = "auto") -> StateEncoder:
    """Read the encoder of a folder.

    Parameters
    ----------
    folder : Path
    clicks : ClickSequences
        Whose items it is to read.
    device : {"auto", "cpu", "cuda"}
        Where it reads them, as ``training.device`` has it.

    Raises
    ------
    DataError
        When it is not there or damaged, or items have other attributes than it learned.
    DeviceError
        When there is no such device.
    """
    made = read_encoder_file(folder)
    if made is None:
        raise DataError(f"{folder}: there is no encoder of teacher states; assemble the rows again, which trains one")
    for name, digest in made.files.items():
        if not (folder / name).is_file() or sha256_of(folder / name) != digest:
            raise _damaged(folder, name, "it is not what was written")
    config, vocabulary = TeacherStateConfig.model_validate(made.settings), load_json(folder / VOCABULARY)
    if list(vocabulary) != list(dict.fromkeys(map(named_by, clicks.items.column_names))):
        raise DataError(f"{folder}: the encoder of teacher states learned items by {', '.join(vocabulary)}, and they have others now")
    nothing = ClickTokens(clicks, np.zeros(0, np.int64), vocabulary, config.max_length)
    settings = _pretraining(config, device)
    model = build_encoder(nothing, nothing.signature(), settings.encoder)
    rest = load_weights(model, folder / WEIGHTS, made.name)
    model.to(choose_device(settings.training)).eval()
    return StateEncoder(model, vocabulary, rest["mean"].numpy(), rest["components"].numpy(), config.max_length)


@torch.no_grad()
def what_it_says(model: MaskedItemModel, tokens: ClickTokens) -> tuple[np.ndarray, np.ndarray]:
    """What an encoder says of users: what it expects next, and the mean of its last hidden states over all their clicks.

    Histories that are longer than it reads at once are read in pieces; what it expects comes of the newest.

    Returns
    -------
    user : int32 array (users,)
        Positions in the users of the clicks, each once, ascending.
    said : float32 array (users, 2 * hidden)
    """
    pieces = tokens.pieces()
    users, owner = np.unique(tokens.user[pieces.start], return_inverse=True)
    length, device = pieces.end - pieces.start, device_of(model)
    hidden = model.bert.norm.normalized_shape[0]
    expected, total = np.zeros((len(users), hidden), np.float32), np.zeros((len(users), hidden), np.float64)
    newest = np.diff(owner, append=-1) != 0
    model.eval()
    for rows in batch_plan(length, np.arange(len(length)), BATCH, None):
        padded, lengths = (torch.from_numpy(one).to(device) for one in gather(pieces, pieces.start[rows], pieces.end[rows]))
        inside = padding_mask(lengths, padded.shape[1]).unsqueeze(-1)  # (rows, longest, 1)
        seen = torch.where(inside, model.bert(padded, lengths), 0.0).sum(1)  # (rows, hidden)
        np.add.at(total, owner[rows], seen.cpu().numpy())
        last = newest[rows]
        if last.any():
            chosen = torch.from_numpy(np.flatnonzero(last)).to(device)
            expected[owner[rows[last]]] = model.history_state(padded[chosen], lengths[chosen]).cpu().numpy()
    clicks = np.bincount(owner, weights=length, minlength=len(users))
    mean = (total / np.maximum(clicks, 1)[:, None]).astype(np.float32)
    return users.astype(np.int32), np.concatenate([expected, mean], axis=1)


def principal_components(said: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray, float]:
    """The directions in which some vectors differ most, in one unit: along the first of them their standard deviation is 1.

    Further directions keep how much less they say: to blow each up to the same size would be to blow up chance.

    Parameters
    ----------
    said : float array (users, numbers)
    width : int
        Directions.

    Returns
    -------
    mean : float32 array (numbers,)
    components : float32 array (numbers, width)
        A vector minus the mean, times these, is a state.
    explained : float
        Share of their variance.

    Examples
    --------
    >>> mean, components, explained = principal_components(np.array([[0.0, 1.0], [2.0, 1.0], [4.0, 1.0]]), 1)
    >>> mean.tolist(), ((np.array([[4.0, 1.0]]) - mean) @ components).round(3).tolist(), explained
    ([2.0, 1.0], [[1.225]], 1.0)
    """
    mean = said.mean(axis=0, dtype=np.float64)
    variance, directions = np.linalg.eigh(np.cov(said, rowvar=False, bias=True))
    order = np.argsort(-variance)[:width]
    components = directions[:, order]
    # the sign of a direction means nothing: its largest number is above zero
    components = components * np.sign(components[np.abs(components).argmax(axis=0), np.arange(len(order))])
    largest, total = float(variance[order[0]]), float(np.maximum(variance, 0.0).sum())
    scaled = components / np.sqrt(largest) if largest > 0 else components
    return mean.astype(np.float32), scaled.astype(np.float32), float(variance[order].sum()) / total if total else 0.0


def _pretraining(config: TeacherStateConfig, device: Device = "auto") -> PretrainConfig:
    """The pretraining of the encoder, by the settings of states."""
    training = TrainingConfig(
        epochs=config.epochs,
        batch_size=config.batch_size,
        learning_rate=config.learning_rate,
        unknown_rate=config.unknown_rate,
        device=device,
    )
    return PretrainConfig(
        encoder=EncoderConfig(width=config.hidden, layers=config.layers, heads=config.heads),
        training=training,
        attributes=config.attributes,
    )


def _damaged(folder: Path, file: str, why: str) -> DataError:
    return DataError(f"{folder / file} is damaged: {why}; delete {folder} and assemble the rows again, which makes encoder and states anew")
