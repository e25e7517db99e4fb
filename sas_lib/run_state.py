"""The state of a run on disk: weights, optimiser and counters, replaced whole or not at all."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from transformers import PreTrainedModel

from sas_lib.locks import held

# The output layer shares these with the embeddings, and safetensors refuses shared memory.
TIED = ("model.cls.predictions.decoder.weight", "model.cls.predictions.decoder.bias")


class RunError(RuntimeError):
    """A run that cannot start or go on; the message says what to do."""


class StateError(RunError):
    """A saved state that cannot be read; the message says what to do."""


def write_whole(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def discard(folder: Path, part: Path) -> None:
    """Remove a folder, where there is one, by way of ``part``: it loses its name at once, so
    that no half of it can be taken for the whole. What was at ``part`` goes, too."""
    shutil.rmtree(part, ignore_errors=True)
    if folder.exists():
        folder.replace(part)
        shutil.rmtree(part)


def save_state(
    path: Path,
    model: PreTrainedModel,
    optimizer: torch.optim.Optimizer,
    sums: torch.Tensor,
    counters: Mapping[str, Any],
) -> None:
    """Write weights, the optimiser's moments, the running sums and counters to ``path``."""
    tensors = {f"model.{k}": v.contiguous() for k, v in model.state_dict().items()}
    for name in TIED:
        tensors.pop(name, None)
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": value for name, value in state.items()}
    tensors["sums"] = sums
    # In a folder of its own: safetensors leaves a temporary file beside it when it is killed.
    part = path.with_name(path.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    metadata = {k: json.dumps(v) for k, v in counters.items()}
    save_file(tensors, part / path.name, metadata)
    (part / path.name).replace(path)
    part.rmdir()


def read_counters(path: Path) -> dict[str, Any]:
    """The counters alone.

    Raises:
        StateError: the file is damaged, by a copy that was cut short for instance.
    """
    try:
        with safe_open(path, "pt") as saved:
            return {key: json.loads(value) for key, value in saved.metadata().items()}
    except SafetensorError as error:
        raise StateError(f"{path} is damaged ({error}); copy it again or start anew") from error


def load_state(
    path: Path,
    model: PreTrainedModel,
    optimizer: torch.optim.Optimizer,
    device: torch.device,
) -> tuple[torch.Tensor, dict[str, Any]]:
    """Fill model and optimiser from ``path``; returns the running sums and the counters."""
    states: dict[int, dict[str, torch.Tensor]] = {}
    weights: dict[str, torch.Tensor] = {}
    with safe_open(path, "pt", device=str(device)) as saved:
        sums = saved.get_tensor("sums")
        for key in saved.keys():  # noqa: SIM118  (not a dict)
            owner, _, rest = key.partition(".")
            if owner == "model":
                weights[rest] = saved.get_tensor(key)
            elif owner == "optimizer":
                index, name = rest.split(".", 1)
                states.setdefault(int(index), {})[name] = saved.get_tensor(key)
    model.load_state_dict(weights, strict=False)
    model.tie_weights()
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": states, "param_groups": groups})
    return sums, read_counters(path)


@contextmanager
def alone(out: Path) -> Iterator[None]:
    """Hold the run folder: two processes that train one run would both write to it."""
    with saving(out):
        out.mkdir(parents=True, exist_ok=True)
    busy = RunError(f"another process is training {out}; wait for it, or stop it")
    with held(out, busy):
        yield


@contextmanager
def saving(out: Path) -> Iterator[None]:
    """Say what to do when the disk refuses; what was saved before is still whole."""
    try:
        yield
    except Exception as error:  # safetensors and tokenizers have errors of their own
        raise RunError(
            f"cannot write to {out}: {error}; make room and go on with --resume"
        ) from error
