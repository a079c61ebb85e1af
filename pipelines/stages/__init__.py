"""The stages, a module each: what it reads, makes and writes. None imports another; what several need lies in the rooms below.

The modules import torch, MLflow and scikit-learn inside their functions: a run that has nothing to do needs none of them.
"""

from pipelines.stages import distill, evaluate, finetune, ingest, pretrain, register, score, student, teacher
from pipelines.workspace.context import Stage

PIPELINE: tuple[Stage, ...] = (ingest.STAGE, pretrain.STAGE, finetune.STAGE, distill.STAGE, evaluate.STAGE, register.STAGE, score.STAGE)
"""The stages of a run, in order."""

TO_EMBEDDINGS: tuple[Stage, ...] = (ingest.STAGE, pretrain.STAGE, finetune.STAGE)
"""Those that end with the teacher's embeddings."""

TO_TEACHER: tuple[Stage, ...] = (*TO_EMBEDDINGS, teacher.STAGE)
"""Those before the first student of an experiment."""
SHARED: tuple[Stage, ...] = tuple(stage for stage in (*PIPELINE, student.STAGE) if stage.shared)
"""Stages in which the processes of ``torchrun`` train together, whatever the command."""
