"""Adam for tables of which a step reads few rows: it touches these alone."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.optim.adam import adam
from torch.optim.optimizer import ParamsT

PIECE = 1 << 17  # numbers that are moved together: they, their gradient and both moments are still in the cache when they are written back


class LazyAdam(torch.optim.Optimizer):
    """Adam (Kingma and Ba 2015, arXiv:1412.6980, algorithm 1) of the rows that have a gradient; a step costs by them, not by the table.

    A row that a step does not read keeps its moments and does not move. Steps are counted by the table, as of
    :class:`torch.optim.SparseAdam`, which this equals up to rounding: that one makes a dozen passes over the rows, here torch's fused pass
    over a copy of some of them is one.

    Parameters
    ----------
    params : iterable of Parameter or of dict
        Tables (rows, width), all of whose gradients are sparse.
    lr : float
        Learning rate.
    betas : tuple of float
        How much of the first and of the second moment a step keeps.
    eps : float
        Added to the root of the second moment before that one's bias is corrected.
    """

    def __init__(self, params: ParamsT, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # nobody asks for the loss again
        """Move the rows that were read by their gradients."""
        for group in self.param_groups:
            for table in group["params"]:
                if table.grad is not None:
                    self._step_of(table, merged(table.grad), **{name: group[name] for name in ("lr", "betas", "eps")})

    def _step_of(self, table: Tensor, gradient: Tensor, lr: float, betas: tuple[float, float], eps: float) -> None:
        state = self.state[table]
        if not state:
            state |= {"step": 0, "exp_avg": torch.zeros_like(table), "exp_avg_sq": torch.zeros_like(table)}
        state["step"] += 1
        beta1, beta2 = betas
        eps /= (1 - beta2 ** state["step"]) ** 0.5  # torch's pass adds it after the bias is corrected
        held = [table, state["exp_avg"], state["exp_avg_sq"]]
        together = max(1, PIECE // table.shape[1]) if table.device.type == "cpu" else max(1, len(table))
        for rows, slope in zip(gradient.indices()[0].split(together), gradient.values().split(together), strict=True):
            copies = [one.index_select(0, rows) for one in held]
            weight, first, second = copies
            before = torch.tensor(state["step"] - 1.0, device=table.device)
            adam(
                [weight], [slope], [first], [second], [], [before],
                fused=True, amsgrad=False, beta1=beta1, beta2=beta2, lr=lr, weight_decay=0.0, eps=eps, maximize=False,
            )  # fmt: skip
            for one, copy in zip(held, copies, strict=True):
                one.index_copy_(0, rows, copy)


def merged(gradient: Tensor) -> Tensor:
    """A sparse gradient in which a row that was read twice has one entry, the sum of both; rows ascend.

    Parameters
    ----------
    gradient : sparse tensor (rows, width)

    Returns
    -------
    coalesced sparse tensor (rows, width)

    Examples
    --------
    >>> twice = merged(torch.sparse_coo_tensor([[4, 1, 4]], [[1.0], [2.0], [3.0]], (6, 1), check_invariants=True))
    >>> twice.indices().tolist(), twice.values().tolist()
    ([[1, 4]], [[2.0], [4.0]])
    """
    if gradient.is_coalesced() or gradient.device.type != "cpu":  # on a GPU this one alone adds up in one order
        return gradient.coalesce()
    # as torch has it, in three quarters of the time
    rows, place = torch.unique(gradient._indices()[0], return_inverse=True)
    values = gradient._values()
    sums = values.new_zeros(len(rows), values.shape[1]).index_add_(0, place, values)
    return torch.sparse_coo_tensor(rows.unsqueeze(0), sums, gradient.shape, check_invariants=False, is_coalesced=True)
