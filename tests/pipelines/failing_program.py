"""The program, in which the second step of one of several processes fails: the one that FAILS_IN names."""

from __future__ import annotations

import os
from typing import Any

from torch.optim.optimizer import register_optimizer_step_pre_hook

from feature_store.tables.contracts import DataError
from pipelines.cli.main import main

steps = iter(range(100))


def fail(optimizer: Any, arguments: Any, more: Any) -> None:
    if next(steps) == 1 and os.environ["RANK"] == os.environ["FAILS_IN"]:
        raise DataError("process 0 broke") if os.environ["RANK"] == "0" else OSError("process 1 broke")


if __name__ == "__main__":
    register_optimizer_step_pre_hook(fail)
    main()
