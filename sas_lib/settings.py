"""The settings of a run, and the steps at which it is measured."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Config:
    """What a run is made of; one flat list, no defaults hidden elsewhere.

    sas_schedule: pairs of a step and the lambda that holds from it on; none is the base run.
    penalty: what lambda weighs, one of ``regularizer.KINDS``.
    """

    layers: int = 4
    width: int = 128
    heads: int = 4
    vocab_size: int = 2048
    max_length: int = 64
    dropout: float = 0.0
    batch_size: int = 64
    learning_rate: float = 1e-3
    warmup_steps: int = 500
    steps: int = 5000
    mask_rate: float = 0.15
    weight_decay: float = 0.01
    log_checkpoints: int = 12
    even_checkpoints: int = 40
    dense_from: int = 0
    dense_to: int = 0
    dense_every: int = 100
    sas_schedule: tuple[tuple[int, float], ...] = ()
    penalty: str = "sas"
    seed: int = 0

    def as_json(self) -> dict[str, Any]:
        """The settings as JSON gives them back."""
        settings: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return settings


# Real English, in sizes of BERT (Turc et al., 2019, have more such), 64 a head; sentences of at
# most 128 pieces. The learning rate is that of the first trial, at the smallest size.
MINI = Config(
    width=256,
    vocab_size=8192,
    max_length=128,
    learning_rate=5e-4,
    warmup_steps=1000,
    steps=20000,
    log_checkpoints=16,
    even_checkpoints=20,
    dense_from=800,
    dense_to=2400,
)
LADDER = {
    "mini": MINI,
    "small": replace(MINI, layers=6, width=384, heads=6),
    "medium": replace(MINI, layers=8, width=512, heads=8),
    "base": replace(MINI, layers=12, width=768, heads=12),
}
# Tuned so that a run takes minutes on two cores; the appendix on tuning says what was tried.
TOY = Config(
    heads=8,
    vocab_size=3584,
    learning_rate=1e-3,
    warmup_steps=800,
    steps=7500,
    log_checkpoints=8,
    even_checkpoints=25,
    dense_from=400,
    dense_to=1600,
)
# The toy runs on a GPU: a wider and deeper model that sees more sentences a step. Its
# learning rate has not been tuned.
TOY_GPU = replace(TOY, layers=6, width=384, heads=12, batch_size=256, learning_rate=5e-4)
CONFIGS = {"toy": TOY, **LADDER}


def checkpoint_steps(config: Config) -> list[int]:
    """Steps at which to measure: log-spaced, evenly spaced, and dense in a window."""
    spaced = np.geomspace(1, config.steps, config.log_checkpoints)
    even = np.linspace(0, config.steps, config.even_checkpoints + 1)
    dense = np.arange(config.dense_from, config.dense_to + 1, config.dense_every)
    steps = np.rint(np.concatenate([spaced, even, dense, [0, config.steps]])).astype(int)
    return [int(step) for step in np.unique(steps) if step <= config.steps]
