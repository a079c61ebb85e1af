"""The fine-tuned BERT as a teacher: that of its own stage, or one of an earlier time, trained once more."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ctr_kd.data.row_ids import places_of
from ctr_kd.data.samples import Assembly, Samples
from ctr_kd.training.job import TrainingRows
from feature_store.special_tokens import SPECIALS, UNKNOWN
from pipelines.tasks import task_of
from pipelines.tasks.logits import SPLITS, read_predictions
from pipelines.training.bert import bert_logits, load_encoders, pretraining_until
from pipelines.training.facts import FinetuningFacts, TeacherFacts
from pipelines.training.jobs import job_of
from pipelines.training.teachers.teacher import without_places
from pipelines.workspace.context import StageContext
from pipelines.workspace.progress import Progress

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ctr_kd.models.ensemble import Ensemble


class BertTeacher:
    """The BERT of stage ``finetune``; see :class:`pipelines.training.teachers.teacher.Teacher`.

    Fitted until an earlier time it is another one: pretrained and fine-tuned on what came before, to whom items that were new then are
    unknown. That one has no hard negatives: those of the fine-tuning know what was clicked until training ended, by not being it.

    Parameters
    ----------
    name : str
    context : StageContext
        With artifacts of ``ingest`` and ``finetune``, and where it is to be fitted until an earlier time, of ``pretrain``.
    """

    trained = True

    def __init__(self, name: str, context: StageContext) -> None:
        self.name, self._context = name, context
        self.digest = context.inputs["finetune"].name
        self._finetune = context.inputs["finetune"]
        self._assembly = task_of(context.config).assembly(context.inputs["ingest"], "teacher")
        self._earlier: Ensemble | None = None
        self._new_items: NDArray = np.zeros(0, np.int32)

    def fit(self, train: pa.Table, validation: pa.Table, until: int | None = None) -> None:
        """Nothing, since its stage did; or train one of an earlier time."""
        if until is not None:
            self._earlier = self._of_earlier_time(train, validation, until)

    def stored(self, rows: pa.Table) -> NDArray | None:
        """What its stage stored of the splits; see :class:`~pipelines.training.teachers.teacher.Teacher`."""
        splits = pc.unique(rows["split"]).to_pylist() if "split" in rows.column_names else []
        if self._earlier is not None or not splits or not set(splits) <= set(SPLITS):
            return None
        row_ids = rows["row_id"].to_numpy()
        files = [self._finetune / f"predictions_{split}.parquet" for split in splits]
        parts = [read_predictions(file, self._finetune.name, row_ids) for file in files]
        row_id, logits = (np.concatenate([part[place] for part in parts]) for place in (0, 1))
        places, missing = places_of(row_ids, row_id)
        return None if len(missing) else logits[places]  # others are those of a transfer set

    def reads(self, rows: pa.Table) -> pa.Table:
        """See :class:`~pipelines.training.teachers.teacher.Teacher`."""
        return without_places(rows)

    def logits(self, rows: pa.Table) -> NDArray:
        """See :class:`~pipelines.training.teachers.teacher.Teacher`. In the precision of its training: a transfer set may be long."""
        from ctr_kd.training.devices import autocast, choose_device
        from ctr_kd.training.loop import predict

        samples, training = self._assembly.samples_of(rows), self._context.config.finetune.training
        device = choose_device(training)
        progress = Progress(self._context.report, len(samples), "rows labelled by the BERT")
        with autocast(training, device):
            if self._earlier is None:
                return bert_logits(self._finetune, self._assembly, self._context.config, samples, progress)
            return predict(self._earlier.to(device), without_items(samples, self._new_items), report=progress)

    def facts(self) -> TeacherFacts:
        """See :class:`~pipelines.training.teachers.teacher.Teacher`."""
        speed = FinetuningFacts.read(self._finetune).rows_per_second
        return TeacherFacts(kind="own", digest=self.digest, until=self._assembly.training_window()[1], rows_per_second=speed)

    def _of_earlier_time(self, train: pa.Table, validation: pa.Table, until: int) -> Ensemble:
        import torch

        from ctr_kd.training.finetune import finetune_members
        from ctr_kd.training.pretrain import pretrain

        context, config, assembly = self._context, self._context.config, cast("Assembly", self._assembly)
        encoders = load_encoders(context.inputs["pretrain"], assembly, config)
        seen = pretraining_until(context.inputs["pretrain"])
        if config.finetune.strategy != "from_scratch" and (seen is None or seen > until):  # it saw what is newer: once more, without
            for number, settings in enumerate(config.pretrain.of_each_encoder):
                job = job_of(context, f"pretraining_{until}_{number}")
                earlier, _, _ = pretrain(assembly, settings, job, until=until)
                encoders[number].load_state_dict(earlier.state_dict())  # whose tables step as fine-tuning says, not as pretraining did
        model, _ = finetune_members(
            encoders,
            TrainingRows(signature=assembly.signature(), train=assembly.samples_of(train), validation=assembly.samples_of(validation)),
            config.finetune,
            replace(job_of(context), folder=context.checkpoint / f"finetuning_{until}"),
            pretraining_rate=config.pretrain.training.learning_rate,
        )
        self._new_items = new_items(context, assembly, until)
        new = torch.from_numpy(self._new_items.astype(np.int64))
        with torch.no_grad():  # in histories too: what the vocabulary of that time lacked reads as any unknown item
            members: Any = model.members
            for member in members:
                for token in (member.pretrained.bert.token, member.token):
                    table = token.embeddings()[0].weight
                    table[new] = table[UNKNOWN].clone()
        return model


def new_items(context: StageContext, assembly: Assembly, until: int) -> NDArray:
    """Indices of vocabulary items that a vocabulary fitted at a time (microseconds UTC) would not hold."""
    index = assembly.item_tokens[:, 0]
    few = assembly.click_counts(until) < context.config.vocabulary.min_count
    return index[few & (index >= len(SPECIALS))]


def without_items(samples: Samples, items: NDArray) -> Samples:
    """Samples in which some candidates are unknown."""
    pool = samples.b.pool.copy()
    pool[np.isin(pool[:, 0], items), 0] = UNKNOWN
    return replace(samples, b=replace(samples.b, pool=pool))
