"""Several toy models in one process, as one model with stacked parameters.

A sweep needs many small runs. They can be processes of their own, one thread each, or one
process that holds all of them, whose matrix products have one more axis: torch.func's vmap.
All models here see the same batches, which favours the stack: with an order of its own each,
they would have to be padded to the longest sentence of any of them.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call, stack_module_state, vmap
from torch.nn.functional import cross_entropy
from transformers import BertForMaskedLM

from benchmarks.contest import Round, Workload
from benchmarks.training import Course, toy_course
from sas_lib.batches import MaskedBatch, step_generator
from sas_lib.learner import Learner
from sas_lib.model import autocast

MODELS = 4


class Loss(torch.nn.Module):
    """A model's loss at the masked positions; no step that vmap cannot follow."""

    def __init__(self, model: BertForMaskedLM) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: MaskedBatch, unseen: Tensor) -> Tensor:
        """unseen: [batch, 1, 1, pieces], added to the attention scores."""
        body: Any = self.model.bert
        states = body.encoder(body.embeddings(batch.input_ids), attention_mask=unseen)
        pieces = states.last_hidden_state.flatten(0, 1)
        return cross_entropy(self.model.cls(pieces[batch.positions]).float(), batch.labels)


class Stack:
    """Models that differ in their first weights, trained together: the step of ``Learner``.

    parameters: name to tensor, [models, ...].
    """

    def __init__(self, course: Course, models: int = MODELS) -> None:
        seeds = [replace(course, config=replace(course.config, seed=n)) for n in range(models)]
        learners = [of_seed.make_learner() for of_seed in seeds]
        self.first: Learner = learners[0]
        losses = [Loss(learner.model) for learner in learners]
        self.loss_of = losses[0].train()
        self.parameters, self.buffers = stack_module_state(losses)
        decay = course.config.weight_decay
        self.optimizer = torch.optim.AdamW(
            [
                {"params": [p], "weight_decay": decay if p.ndim > 2 else 0.0}
                for p in self.parameters.values()
            ],
            lr=course.config.learning_rate,
            fused=True,
        )

    def update(self, step: int) -> Tensor:
        """One step of every model; returns their losses, [models]."""
        first = self.first
        seed = first.config.seed
        batch = first.corpus.batch(first.sentences(step), step_generator(seed, step))
        unseen = torch.where(batch.attention_mask.bool(), 0.0, torch.finfo().min)

        def loss_of(parameters: dict[str, Tensor], buffers: dict[str, Tensor]) -> Tensor:
            given = (batch, unseen[:, None, None])
            return functional_call(self.loss_of, (parameters, buffers), given)

        with autocast(first.device):
            losses = vmap(loss_of)(self.parameters, self.buffers)
        losses.sum().backward()
        self.clip()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return losses.detach()

    def clip(self) -> None:
        """Cut the norm of each model's gradient to 1."""
        gradients = [p.grad for p in self.parameters.values() if p.grad is not None]
        norms = sum(g.flatten(1).square().sum(1) for g in gradients).sqrt()
        shares = (1 / (norms + 1e-6)).clamp(max=1)
        for gradient in gradients:
            gradient.mul_(shares.view(-1, *[1] * (gradient.ndim - 1)))


def seeds(quick: bool) -> Workload:
    """The same number of tokens: a few models together, or as many one after another."""
    course = toy_course(quick, steps=2 if quick else 5)

    def stacked() -> Round:
        stack = Stack(course)

        def round_() -> float:
            began = time.perf_counter()
            for step in range(1, course.steps + 1):
                stack.update(step)
            return time.perf_counter() - began

        return round_

    def apart() -> Round:
        learner = course.make_learner()

        def round_() -> float:
            began = time.perf_counter()
            for step in [*range(1, course.steps + 1)] * MODELS:
                learner.update(step)
            return time.perf_counter() - began

        return round_

    return Workload(
        title="several seeds of the toy model",
        unit="tokens",
        units=MODELS * course.tokens,
        shape={**course.shape(), "models": MODELS},
        contestants={"stacked": stacked, "apart": apart},
    )


WORKLOADS = {"seeds": seeds}
