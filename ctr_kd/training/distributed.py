"""Several processes that train one model, started by ``torchrun``: who they are, and what they tell each other.

Every process goes through the same steps and computes its rows of each batch. Two exchanges suffice: the sum of all
gradients after every step, and a word from the first process, which alone validates and writes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # torch takes seconds to import, and a command that trains nothing does without it
    from torch import Tensor, nn
    from torch.distributed import Store

_PATIENCE = timedelta(days=7)  # the first process may validate for long; that one died is seen by its closed connection
_FAILURE = "ctr_kd/failure"


class ProcessLost(Exception):
    """Another process of this training is gone. The message is one line."""


@dataclass(frozen=True)
class Processes:
    """The processes of one training, as one of them sees them.

    Attributes
    ----------
    rank : int
        Number of this process; the first, 0, leads.
    count : int
    local_rank : int
        Number among the processes of this machine: the GPU to use.
    store : Store or None
        Where a process leaves a word that outlives it.
    """

    rank: int = 0
    count: int = 1
    local_rank: int = 0
    store: Store | None = None

    @property
    def leads(self) -> bool:
        """Whether this process validates and writes."""
        return self.rank == 0

    def tell(self, value: Any = None) -> Any:
        """Give every process the first one's ``value`` (plain JSON types); what the others pass is ignored."""
        if self.count == 1:
            return value
        import torch
        from torch import distributed

        text = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8) if self.leads else torch.empty(0)
        size = torch.tensor(len(text))
        with _closed_connections():
            distributed.broadcast(size, 0)
            if not self.leads:
                text = torch.empty(int(size), dtype=torch.uint8)
            distributed.broadcast(text, 0)
        return json.loads(bytes(text.tolist()))

    def add_gradients(self, parameters: Iterable[nn.Parameter], loss: Tensor) -> Tensor:
        """Replace every gradient by the sum over all processes, and return the sum of their losses.

        One all-reduce over one flat buffer. A parameter that has a gradient in some process gets one in all; a parameter
        that has none anywhere is left without, as in a single process. A sparse gradient stays sparse (and travels dense).

        Parameters
        ----------
        parameters : iterable of Parameter
            The same ones in the same order in every process.
        loss : float32 tensor ()
            This process's share of the batch's loss.

        Returns
        -------
        float32 tensor ()
        """
        if self.count == 1:
            return loss
        import torch
        from torch import distributed

        trained = [parameter for parameter in parameters if parameter.requires_grad]
        kinds = [[p.grad is not None, p.grad is not None and p.grad.is_sparse] for p in trained]
        known = torch.tensor(kinds, dtype=torch.float32, device=loss.device)
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad.to_dense() for p in trained]
        flat = torch.cat([loss.reshape(1), known.flatten(), *[gradient.flatten() for gradient in gradients]])
        with _closed_connections():
            distributed.all_reduce(flat)
        begin = 1 + known.numel()
        for parameter, (somewhere, sparse) in zip(trained, (flat[1:begin] > 0).view_as(known).tolist(), strict=True):
            part = flat[begin : begin + parameter.numel()].view_as(parameter)
            parameter.grad = None if not somewhere else part.to_sparse(1) if sparse else part
            begin += parameter.numel()
        return flat[0]

    def fail(self, facts: dict[str, Any]) -> dict[str, Any]:
        """Leave word of a failure; returns that of the process that failed first, which may be this one."""
        if self.store is None:
            return facts
        try:
            first = self.store.compare_set(_FAILURE, "", json.dumps({"rank": self.rank, **facts}))
        except Exception:  # the store died with the launcher: nobody is left to be told
            return facts
        return dict(json.loads(first))


ALONE = Processes()


def launched() -> tuple[int, int, int]:
    """Rank, number of processes and local rank as ``torchrun`` gives them; (0, 1, 0) where it does not.

    Examples
    --------
    >>> launched()
    (0, 1, 0)
    """
    if not {"RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR"} <= os.environ.keys():
        return 0, 1, 0
    return int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]), int(os.environ["LOCAL_RANK"])


@contextmanager
def join_processes() -> Iterator[Processes]:
    """Meet the other processes for the body of a ``with`` statement; a process that was started alone meets nobody."""
    rank, count, local_rank = launched()
    if count == 1:
        yield ALONE
        return
    import torch

    # Before there is a group: its functions keep the one they find as their default, and its threads with it.
    import torch.distributed.nn  # noqa: F401
    from torch import distributed

    # Words travel on the CPU, gradients where they are.
    backend = "gloo"
    if torch.cuda.is_available():
        torch.cuda.set_device(local_rank % torch.cuda.device_count())
        backend = "cpu:gloo,cuda:nccl"
    store, _, _ = next(distributed.rendezvous("env://", timeout=timedelta(minutes=5)))
    distributed.init_process_group(backend, store=distributed.PrefixStore("ctr_kd", store), rank=rank, world_size=count, timeout=_PATIENCE)
    yield Processes(rank, count, local_rank, store)
    # Its threads must end before the interpreter does: one that lets go of a tensor later aborts the process. Not after a failure:
    # leaving waits for what is under way, and the others find the connection closed anyway.
    distributed.destroy_process_group()


@contextmanager
def _closed_connections() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # gloo and NCCL raise nothing finer
        raise ProcessLost("another process of this training ended: run the same command again to continue") from error
