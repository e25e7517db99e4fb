"""Floating-point operations of a step, against a count by hand and against torch's own."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from sas_lib import throughput
from sas_lib.model import masked_lm_loss, small_bert
from sas_lib.throughput import body_parameters, matmul_peak, step_flops


def test_operations_by_hand() -> None:
    """One layer of width 4, ten pieces to guess among, two sequences of length 3."""
    model = small_bert(10, layers=1, width=4, heads=2, max_length=8)
    matrices = 4 * 4 * 4 + 2 * 4 * 16  # query, key, value, output; the feed-forward two
    biases = 4 * 4 + 16 + 4 + 2 * 2 * 4  # of these, and two layer norms
    assert body_parameters(model) == matrices + biases
    # A product of [n, a] and [a, b] takes 2 n a b; the backward pass two of that size.
    products = 3 * 2 * 6 * matrices
    attention = 3 * 2 * (2 * 2 * (3 * 2 * 3)) * 2  # two products, for two heads of width 2
    head = 3 * 2 * 5 * (4 * 4 + 4 * 10)  # at five masked pieces
    assert step_flops(model, matrices, 6, 3, 5) == products + attention + head


@pytest.mark.parametrize(("layers", "width", "heads"), [(1, 16, 2), (3, 32, 4)])
def test_operations_are_those_that_torch_counts(layers: int, width: int, heads: int) -> None:
    model = small_bert(60, layers, width, heads, max_length=20)
    ids = torch.randint(5, 60, (4, 12), generator=torch.Generator().manual_seed(0))
    positions = torch.tensor([1, 5, 14, 30, 47])
    with FlopCounterMode(display=False) as counter:
        loss = masked_lm_loss(model, ids, torch.ones_like(ids), positions, ids.view(-1)[:5])
        loss.backward()
    counted: Any = counter.get_total_flops()
    encoder: Any = model.bert.encoder
    matrices = sum(p.numel() for p in encoder.parameters() if p.ndim == 2)
    assert step_flops(model, matrices, 48, 12, 5) == counted
    # Biases and layer norms are counted as if they were matrices: little is added.
    ours = step_flops(model, body_parameters(model), 48, 12, 5)
    assert counted < ours < 1.06 * counted


def test_the_peak_is_measured_once_for_each_number_of_threads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    matmul_peak.cache_clear()
    calls: list[torch.device] = []
    original = throughput.training_dtype

    def spy(device: torch.device) -> torch.dtype:
        calls.append(device)
        return original(device)

    monkeypatch.setattr(throughput, "training_dtype", spy)
    cpu = torch.device("cpu")
    peak = matmul_peak(cpu, 1)
    assert 1e8 < peak < 1e16
    assert matmul_peak(cpu, 1) == peak and len(calls) == 1
    matmul_peak(cpu, 2)
    assert len(calls) == 2
