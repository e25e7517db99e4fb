"""More than one device: each process of a launcher takes its share of a batch.

``accelerate launch`` starts a process for each GPU, ``torchrun`` as many as one likes, on a
CPU too (where ``accelerate launch`` starts a single one unless there is MPI).

With one process nothing here does anything. With several, all build the same batch, each
keeps the rows of its rank, and the gradients are averaged: the step is that of one process
with the whole batch, up to the order of the additions.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

import torch
from accelerate import PartialState
from accelerate.utils import reduce


class Parallel:
    """The processes that train one model together.

    device: where this process computes. size: how many they are. rank: which one this is.
    """

    def __init__(self, device: torch.device) -> None:
        self.device, self.size, self.rank = device, 1, 0
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            self.state = PartialState(cpu=device.type == "cpu")
            self.device = self.state.device
            self.size, self.rank = self.state.num_processes, self.state.process_index

    @property
    def is_main(self) -> bool:
        """Whether this process measures and writes."""
        return self.rank == 0

    def wait(self) -> None:
        """Wait for the other processes."""
        if self.size > 1:
            self.state.wait_for_everyone()

    def any(self, flag: bool) -> bool:
        """Whether the flag is up in any process."""
        return flag if self.size == 1 else bool(self._sum(torch.tensor(float(flag))).item())

    def sum(self, tensor: torch.Tensor) -> torch.Tensor:
        """The sum over the processes."""
        return tensor if self.size == 1 else self._sum(tensor)

    def average_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Average the gradients over the processes, in one message."""
        if self.size == 1:
            return
        gradients = [p.grad for p in parameters if p.grad is not None]
        mean = self._sum(torch.cat([g.flatten() for g in gradients])) / self.size
        parts = mean.split([g.numel() for g in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))

    def _sum(self, tensor: torch.Tensor) -> torch.Tensor:
        total: torch.Tensor = reduce(tensor.to(self.device), "sum")
        return total
