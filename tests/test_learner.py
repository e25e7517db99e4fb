"""One update: its precision, what is compiled, and what memory it holds on to."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import os
import shutil
import weakref
from typing import Any

import pytest
import torch
from test_pretraining import TINY
from test_regularizer import NoDouble
from torch import Tensor
from transformers import PreTrainedTokenizerFast
from transformers.models.bert.modeling_bert import BertSelfAttention

from sas_lib import learner as learner_module
from sas_lib.corpus import EncodedCorpus, encode
from sas_lib.learner import Learner
from sas_lib.model import autocast, training_dtype
from sas_lib.parallel import Parallel
from sas_lib.regularizer import KINDS
from sas_lib.settings import Config
from sas_lib.treebank import Sentence

CPU = torch.device("cpu")
PENALISED = dataclasses.replace(TINY, dropout=0.0, sas_schedule=((0, 0.5),))


@pytest.fixture(scope="module")
def train(tokenizer: PreTrainedTokenizerFast, sentences: list[Sentence]) -> EncodedCorpus:
    return encode(sentences[:800:8], tokenizer)


def make(
    config: Config, tokenizer: PreTrainedTokenizerFast, train: EncodedCorpus, **options: Any
) -> Learner:
    return Learner(config, tokenizer, train, Parallel(CPU), **options)


# --- precision ------------------------------------------------------------------------


@pytest.mark.parametrize("native", [True, False])
def test_bfloat16_on_a_gpu_that_has_it(monkeypatch: pytest.MonkeyPatch, native: bool) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: native)
    expected = torch.bfloat16 if native else torch.float32
    assert training_dtype(torch.device("cuda")) == expected
    assert training_dtype(torch.device("cuda", 1)) == expected


@pytest.mark.parametrize("amx", [True, False])
@pytest.mark.parametrize("avx", [True, False])
def test_bfloat16_on_a_cpu_that_multiplies_it(
    monkeypatch: pytest.MonkeyPatch, amx: bool, avx: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx, raising=False)
    assert training_dtype(CPU) == (torch.bfloat16 if amx or avx else torch.float32)
    with autocast(CPU):
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    assert product.dtype == training_dtype(CPU)
    assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32


def test_a_torch_without_the_probes_trains_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"):
        monkeypatch.delattr(torch.cpu, name, raising=False)
    assert training_dtype(CPU) == torch.float32


@pytest.mark.parametrize("native", [True, False])
def test_the_matrix_products_of_a_step_are_of_that_precision(
    tokenizer: PreTrainedTokenizerFast,
    train: EncodedCorpus,
    monkeypatch: pytest.MonkeyPatch,
    native: bool,
) -> None:
    """The weights, their gradients and the optimiser's moments are float32 whatever it is."""
    for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda: native, raising=False)
    one, seen = make(PENALISED, tokenizer, train), []
    layer: Any = one.model.bert.encoder.layer[0]  # type: ignore[union-attr]
    layer.intermediate.dense.register_forward_hook(lambda m, i, out: seen.append(out.dtype))
    gradients: list[torch.dtype] = []
    for p in one.model.parameters():
        p.register_post_accumulate_grad_hook(lambda p: gradients.append(p.grad.dtype))  # type: ignore[union-attr]
    loss = one.update(0)
    assert set(seen) == {torch.bfloat16 if native else torch.float32}
    assert loss.dtype == one.sums.dtype == torch.float32
    moments = [v.dtype for s in one.optimizer.state.values() for v in s.values()]
    weights = [p.dtype for p in one.model.parameters()]
    assert {*gradients, *moments, *weights} == {torch.float32}
    assert len(gradients) == len(weights)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_of_a_step_is_float64(
    tokenizer: PreTrainedTokenizerFast, train: EncodedCorpus, kind: str
) -> None:
    one = make(dataclasses.replace(PENALISED, penalty=kind), tokenizer, train)
    with NoDouble():
        for step in range(2):
            one.update(step)
    with pytest.raises(AssertionError, match="gives float64"), NoDouble():
        one.sums.double()


# --- compiling ------------------------------------------------------------------------


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_only_a_gpus_model_is_compiled(
    tokenizer: PreTrainedTokenizerFast,
    train: EncodedCorpus,
    monkeypatch: pytest.MonkeyPatch,
    device: str,
) -> None:
    compiled: list[str] = []
    monkeypatch.setattr(Learner, "_compile", lambda self: compiled.append(self.device.type))
    # There may be no such device here: nothing is put on it.
    parallel: Any = Parallel(CPU)
    monkeypatch.setattr(
        learner_module, "ResidentCorpus", lambda corpus, tokenizer, device, rate: None
    )
    monkeypatch.setattr(torch.nn.Module, "to", lambda self, device: self)
    zeros = torch.zeros

    def somewhere(*shape: int, **options: Any) -> Tensor:
        return zeros(*shape, **{k: v for k, v in options.items() if k != "device"})

    monkeypatch.setattr(torch, "zeros", somewhere)
    parallel.device = torch.device(device)
    Learner(TINY, tokenizer, train, parallel)
    assert compiled == (["cuda"] if device == "cuda" else [])
    Learner(TINY, tokenizer, train, parallel, compiled=False)
    Learner(TINY, tokenizer, train, parallel, compiled=True)
    assert len(compiled) == 1 + (device == "cuda")


SLOW = pytest.mark.skipif(
    not (os.environ.get("SAS_SLOW") and shutil.which("g++")),
    reason="takes a minute or more and a C++ compiler; SAS_SLOW=1 asks for it",
)


@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=SLOW)])
def test_a_compiled_learner_learns_the_same(
    tokenizer: PreTrainedTokenizerFast,
    train: EncodedCorpus,
    monkeypatch: pytest.MonkeyPatch,
    backend: str,
) -> None:
    """With the penalty, whose hooks must see the maps of each step."""
    from torch._dynamo.utils import counters

    monkeypatch.setattr(learner_module, "autocast", lambda device: contextlib.nullcontext())
    original = torch.nn.Module.compile
    monkeypatch.setattr(
        torch.nn.Module,
        "compile",
        lambda self, **options: original(self, backend=backend, **options),
    )
    config = dataclasses.replace(PENALISED, layers=1, width=16)
    plain, compiled = (make(config, tokenizer, train, compiled=c) for c in (False, True))
    counters.clear()
    for step in range(3):
        losses = [one.update(step).item() for one in (plain, compiled)]
        assert losses[0] == pytest.approx(losses[1], rel=1e-5), step
    assert counters["stats"]["unique_graphs"] >= 3, "nothing was compiled"
    assert plain.sums.tolist() == pytest.approx(compiled.sums.tolist(), rel=1e-5)
    assert plain.sums[1] > 0, "the penalty saw the maps"
    assert plain.model.state_dict().keys() == compiled.model.state_dict().keys()


# --- memory ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_no_map_outlives_its_step(
    tokenizer: PreTrainedTokenizerFast, train: EncodedCorpus, kind: str
) -> None:
    """And none waits for the garbage collector."""
    one = make(dataclasses.replace(PENALISED, penalty=kind), tokenizer, train)
    maps: list[weakref.ref[Tensor]] = []
    for module in one.model.modules():
        if isinstance(module, BertSelfAttention):
            module.register_forward_hook(lambda m, i, out: maps.append(weakref.ref(out[1])))
    gc.collect()
    gc.disable()
    try:
        one.update(0)
        assert len(maps) == 2 and all(seen() is None for seen in maps)
    finally:
        gc.enable()


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "sharpness"])
def test_a_penalised_step_holds_no_more_maps_than_a_bare_one(
    tokenizer: PreTrainedTokenizerFast, train: EncodedCorpus, kind: str
) -> None:
    """Of what the backward pass needs, as much is of a map's size with the penalty as without
    it. (The sharpness of all rows does need more.)"""
    held = []
    for schedule in ((), ((0, 0.5),)):
        config = dataclasses.replace(PENALISED, penalty=kind, sas_schedule=schedule)
        one, storages = make(config, tokenizer, train), {}
        rows, length = config.batch_size, int(train.lengths[one.sentences(0)].max())
        size = rows * config.heads * length**2 * training_dtype(CPU).itemsize

        def keep(tensor: Tensor, storages: dict[int, Tensor] = storages, n: int = size) -> Any:
            if tensor.untyped_storage().nbytes() >= n and tensor.shape[-2:].numel() > 1:
                storages[tensor.untyped_storage().data_ptr()] = tensor
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            one.update(0)
        held.append(len(storages))
    assert held[0] >= 2, "the maps themselves"
    assert held[0] == held[1]
