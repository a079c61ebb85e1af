"""What processes of trials do in tests."""

from __future__ import annotations

import os
import signal
from importlib import import_module
from multiprocessing.connection import Connection

from pipelines.experiments.tuning import workers
from pipelines.experiments.tuning.trials import Order, Trained
from pipelines.workspace.context import RunContext
from tests.programs import TIMED

TRAIN = workers.train_trial


def work_quickly(pipe: Connection, plan: workers.Plan) -> None:
    for name in TIMED:
        place, _, constant = name.rpartition(".")
        setattr(import_module(place), constant, 0.001)
    workers.work(pipe, plan)


def work_badly(pipe: Connection, plan: workers.Plan) -> None:
    """The process of trial 1 is killed, and trial 2 runs out of memory."""

    def train(own: RunContext, order: Order) -> Trained:
        if order.number == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        if order.number == 2:
            raise MemoryError
        return TRAIN(own, order)

    workers.train_trial = train
    work_quickly(pipe, plan)
