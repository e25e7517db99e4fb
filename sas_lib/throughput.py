"""How much of a device's arithmetic the training uses.

Floating-point operations of a training step on n pieces in sequences of length T, m of the
pieces masked, for a model of N parameters outside embeddings and head, L layers, width d
and V pieces: ``6 N n + 12 L d T n + 6 m (V d + d^2)`` (Kaplan et al. 2020,
arXiv:2001.08361, with the head at the masked positions only). Padding counts as nothing.
"""

from __future__ import annotations

import functools
import time
from typing import Any

import torch
from transformers import PreTrainedModel

from sas_lib.model import training_dtype


def body_parameters(model: PreTrainedModel) -> int:
    """Parameters of the layers, embeddings and head left out."""
    encoder: Any = model.base_model.encoder
    return sum(p.numel() for p in encoder.parameters())


def step_flops(
    model: PreTrainedModel, body: int, tokens: int, length: int, masked: int
) -> float:
    """Floating-point operations of one forward and backward pass."""
    c = model.config
    layers = 6 * body * tokens + 12 * c.num_hidden_layers * c.hidden_size * length * tokens
    return float(layers + 6 * masked * (c.vocab_size + c.hidden_size) * c.hidden_size)


@functools.cache
def matmul_peak(device: torch.device, threads: int) -> float:
    """Operations a second of a large matrix product in the training's precision, measured.

    A vendor's figure is seldom reached by any product; this one can be. threads: a key of
    the cache, since a CPU's peak depends on it.
    """
    n = 8192 if device.type == "cuda" else 1024
    a = torch.randn(n, n, device=device, dtype=training_dtype(device))
    times = []
    for _ in range(6):
        began = time.perf_counter()
        product = a @ a
        product[0, 0].item()  # waits for the device
        times.append(time.perf_counter() - began)
    return 2 * n**3 / min(times)
