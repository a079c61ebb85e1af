"""The pipeline: every stage in order. What a stage reads and does is in the module that bears its name.

The modules import torch, MLflow and scikit-learn inside their functions: a run that has nothing to do needs none of them.
"""

from pipelines.stages import distill, evaluate, finetune, ingest, pretrain, register, score
from pipelines.workspace.context import Stage

PIPELINE: tuple[Stage, ...] = (ingest.STAGE, pretrain.STAGE, finetune.STAGE, distill.STAGE, evaluate.STAGE, register.STAGE, score.STAGE)
