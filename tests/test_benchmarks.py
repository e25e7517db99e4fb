"""The benchmarks: every contestant does the same work, and the table says what was measured.

How fast anything is, is not tested here.
"""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from benchmarks import peers, report, scoring, training
from benchmarks.__main__ import app
from benchmarks.comparisons import COMPARISONS, WORKLOADS, Comparison, Result, by_name, run
from benchmarks.contest import Ratio, Workload, interleave, ratio
from benchmarks.stacked import Stack
from transformers import BertForMaskedLM, PreTrainedTokenizerFast
from typer.testing import CliRunner

from sas_lib import results
from sas_lib.batches import MaskedBatch, step_generator
from sas_lib.learner import Learner
from sas_lib.minimal_pairs import pseudo_log_likelihood
from sas_lib.regularizer import LinkPenalty
from sas_lib.treebank import Sentence

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """Train in float32, so that equal work has equal results."""
    for place in ("sas_lib.model.training_dtype", "benchmarks.peers.training_dtype"):
        monkeypatch.setattr(place, lambda device: torch.float32)


@pytest.fixture(scope="module")
def course() -> training.Course:
    return training.toy_course(quick=True, steps=3)


def batch_of(learner: Learner, step: int) -> MaskedBatch:
    return learner.corpus.batch(learner.sentences(step), step_generator(0, step))


def weights(model: torch.nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


# --- the same work --------------------------------------------------------------------


def test_the_published_penalty_is_ours() -> None:
    torch.manual_seed(0)
    maps = [torch.rand(3, 4, 7, 7, dtype=torch.float64) for _ in range(2)]
    links = torch.tensor([[1, 2, -1, 2, 3, 6, 5], [-1] * 7, [6, 0, 1, 2, 3, 4, -1]])
    ours = LinkPenalty(links)
    for layer in maps:
        ours.see(layer)
    for power in (1.0, None):
        theirs = peers.published_penalty(maps, links, power)
        torch.testing.assert_close(theirs / len(links), ours.value(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", [peers.Published, peers.PublishedWithoutPower])
def test_the_published_step_is_our_penalised_step(
    kind: type[Learner], course: training.Course, float32: None
) -> None:
    bare, ours = course.make_learner(), course.make_learner(penalised=True)
    theirs = course.make_learner(kind)
    for step in range(2):
        for learner in (bare, ours, theirs):
            learner.update(step)
    torch.testing.assert_close(weights(theirs.model), weights(ours.model), rtol=0, atol=2e-5)
    assert not torch.allclose(weights(bare.model), weights(ours.model), rtol=0, atol=2e-5)


def test_the_head_at_every_position_gives_the_same_loss(
    course: training.Course, float32: None
) -> None:
    ours, theirs = course.make_learner(), course.make_learner(peers.EveryPosition)
    batch = batch_of(ours, 0)
    losses = [one.loss(batch, len(batch.labels)).item() for one in (ours, theirs)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


def test_the_trainer_learns_what_we_learn(course: training.Course, float32: None) -> None:
    """Given our masks it ends with our weights: same steps, batches, loss and optimiser."""
    learner = course.make_learner()
    steps = itertools.count()

    def with_our_masks(rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        batch = batch_of(learner, next(steps))
        assert sum(len(row["input_ids"]) for row in rows) == batch.tokens
        labels = torch.full_like(batch.input_ids, -100)
        labels.view(-1)[batch.positions] = batch.labels
        return {
            "input_ids": batch.input_ids,
            "attention_mask": batch.attention_mask,
            "labels": labels,
        }

    trainer, stamps = course.make_trainer("eager", with_our_masks)
    trainer.train()
    assert len(stamps.times) == course.steps + 1
    for step in range(course.steps + 1):
        learner.update(step)
    torch.testing.assert_close(
        weights(trainer.model), weights(learner.model), rtol=0, atol=5e-5
    )


def test_the_trainers_own_batches_are_ours(course: training.Course) -> None:
    trainer, _ = course.make_trainer("sdpa")
    ours = course.make_learner()
    theirs = list(trainer.get_train_dataloader())
    assert len(theirs) == course.steps + 1
    for step, batch in enumerate(theirs):
        mine = batch_of(ours, step)
        assert batch["input_ids"].shape == mine.input_ids.shape
        assert batch["attention_mask"].equal(mine.attention_mask)
        kept = (batch["labels"] == -100) & batch["attention_mask"].bool()
        before = ours.corpus.pieces[ours.corpus.starts[ours.sentences(step)]]
        assert batch["input_ids"][:, 0].equal(before.long())  # [CLS] is never masked
        rows = trainer.train_dataset
        first = rows[step * len(kept)]["input_ids"]
        assert batch["input_ids"][0, : len(first)][kept[0, : len(first)]].tolist() == [
            piece for piece, same in zip(first, kept[0].tolist(), strict=False) if same
        ]
    masked = sum(int((batch["labels"] != -100).sum()) for batch in theirs)
    ordinary = sum(int(batch["attention_mask"].sum() - 2 * 8) for batch in theirs)
    assert masked / ordinary == pytest.approx(course.config.mask_rate, abs=0.06)


def test_stacked_models_learn_what_single_ones_learn(
    course: training.Course, float32: None
) -> None:
    stack = Stack(course, models=2)
    alone = [course.make_learner() for _ in range(2)]
    for number, learner in enumerate(alone):
        start = {k: v[number] for k, v in stack.parameters.items()}
        learner.model.load_state_dict(
            {k.removeprefix("model."): v.detach().clone() for k, v in start.items()},
            strict=False,
        )
    assert not weights(alone[0].model).equal(weights(alone[1].model))
    for step in range(2):
        losses = stack.update(step)
        assert losses.tolist() == pytest.approx([one.update(step).item() for one in alone])
    for number, learner in enumerate(alone):
        for name, weight in learner.model.named_parameters():
            stacked = stack.parameters[f"model.{name}"][number]
            torch.testing.assert_close(stacked, weight, rtol=0, atol=5e-5)


def test_packed_rows_are_full_and_linked() -> None:
    course = training.packed_course(quick=True)
    assert course.tokens == course.steps * course.config.batch_size * course.config.max_length
    batch = batch_of(course.make_learner(), 0)
    assert batch.attention_mask.all()
    assert (batch.heads[:, 1:-1] > 0).all() and (batch.heads[:, [0, -1]] == -1).all()


def test_the_loop_over_heads_scores_as_we_do(
    model: BertForMaskedLM, tokenizer: PreTrainedTokenizerFast, sentences: list[Sentence]
) -> None:
    short = Sentence(("king", "unforgettable"), (1, -1), ("nsubj", "root"))
    batches = scoring.batches_of([*sentences[:400:80], short], tokenizer)
    assert any((batch.membership.sum(-1) > 1).any() for batch, _ in batches)
    maps = scoring.attention_maps(model, batches)
    ours = scoring.score_as_we_do(maps, batches)
    spans = [scoring.spans_of(batch) for batch, _ in batches]
    for columns, (correct, attention) in zip(
        ours, scoring.score_in_a_loop(maps, batches, spans), strict=True
    ):
        assert correct.any() and not correct.all()
        np.testing.assert_array_equal(correct, columns[0])
        np.testing.assert_allclose(attention, columns[1], atol=1e-6)


def test_the_batches_of_the_bare_forward_are_those_of_the_score(
    model: BertForMaskedLM,
    tokenizer: PreTrainedTokenizerFast,
    sentences: list[Sentence],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(scoring, "BATCH_PIECES", 100)
    seen: list[torch.Tensor] = []
    hook = model.base_model.register_forward_pre_hook(
        lambda module, args, given: seen.append(given["input_ids"]), with_kwargs=True
    )
    scoring.score_arcs(model, tokenizer, sentences[:30], batch_pieces=100)
    hook.remove()
    expected = [batch.input_ids for batch, _ in scoring.batches_of(sentences[:30], tokenizer)]
    assert len(seen) > 3
    assert [ids.tolist() for ids in seen] == [ids.tolist() for ids in expected]


def test_minicons_gives_our_pseudo_log_likelihoods(
    model: BertForMaskedLM, tokenizer: PreTrainedTokenizerFast, texts: list[str]
) -> None:
    some = [*texts[::200], "the king", "dog"]
    theirs = peers.minicons_scorer(model, tokenizer, batch_size=3)(some)
    np.testing.assert_allclose(theirs, pseudo_log_likelihood(model, tokenizer, some), rtol=1e-4)


# --- contests -------------------------------------------------------------------------


def test_contestants_take_turns_and_the_first_round_does_not_count() -> None:
    turns: list[str] = []

    def contestant(name: str) -> Any:
        def round_() -> float:
            turns.append(name)
            return float(turns.count(name))

        return lambda: round_

    workload = Workload("", "", 1, {}, {name: contestant(name) for name in "abc"})
    seconds = interleave(workload, "ac", rounds=2)
    assert "".join(turns) == "acacac"
    assert seconds == {"a": [2.0, 3.0], "c": [2.0, 3.0]}


def test_the_ratio_is_the_median_over_rounds() -> None:
    found = ratio([2.0, 8.0, 9.0], [1.0, 2.0, 3.0])
    assert found.value == 3.0
    assert 2.0 <= found.low <= 3.0 <= found.high <= 4.0
    assert ratio([2.0] * 5, [1.0] * 5) == Ratio(2.0, 2.0, 2.0)


@pytest.mark.parametrize(
    ("kind", "value", "met", "margin"),
    [
        ("speedup", 2.5, True, 0.25),
        ("speedup", 1.5, False, -0.25),
        ("cost", 1.5, True, 0.25),
        ("cost", 2.5, False, -0.25),
        ("memory", 2.5, False, -0.25),
    ],
)
def test_a_bar_is_met_or_missed_by_a_share_of_it(
    kind: Any, value: float, met: bool, margin: float
) -> None:
    comparison = Comparison("", "", "", "a", ("b",), kind, 2.0, "")
    result = Result(comparison, "b", Ratio(value, value, value), "", {}, {})
    assert result.met is met and result.margin == pytest.approx(margin)
    assert report.verdict(result) == ("met by 25%" if met else "MISSED by 25%")


def test_every_comparison_is_between_contestants_of_its_workload(
    monkeypatch: pytest.MonkeyPatch, sentences: list[Sentence]
) -> None:
    monkeypatch.setattr(scoring, "read_conllu", lambda path: iter(sentences))
    monkeypatch.setattr(Path, "is_file", lambda path: True)
    known = {name: make(True).contestants for name, make in WORKLOADS.items()}
    assert len({c.name for c in COMPARISONS}) == len(COMPARISONS)
    for c in COMPARISONS:
        assert {c.ours, *c.peers} <= known[c.workload].keys()


# --- from the shell -------------------------------------------------------------------


def bench(*arguments: str) -> Any:
    return CliRunner().invoke(app, arguments)


def test_json_of_a_quick_run_with_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "write_bundle", None)  # not of a part, and not of --quick
    done = bench("--quick", "--json", "--only", "pll-memory")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    row = found["comparisons"]["pll-memory"]
    assert list(found["comparisons"]) == ["pll-memory"] and found["skipped"] == {}
    assert row["ratio"] == row["peak_bytes"]["all"] / row["peak_bytes"]["quarter"]
    assert min(row["peak_bytes"].values()) > 1e6
    assert found["machine"]["threads"] == 1 and found["machine"]["versions"]["torch"]


def test_the_table_of_a_quick_run_names_what_is_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("SAS_DATA", raising=False)
    done = bench("--quick", "--no-memory", "--only", "penalty-toy", "--only", "uas")
    assert done.exit_code == 0, done.output
    assert re.search(r"penalty-toy .*<= 1\.20 .*(met|MISSED) by \d+%", done.stdout)
    assert re.search(r"uas +left out: .*SAS_DATA", done.stdout)
    assert "ratios say nothing" in done.stdout


def test_a_wrong_name_is_refused_with_the_right_ones() -> None:
    done = bench("--only", "nonsense")
    assert done.exit_code == 2
    assert "no comparison nonsense" in done.stderr and "train-toy" in done.stderr


def test_an_interrupted_run_keeps_what_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = by_name(["penalty-toy", "pll"])

    def stop_at_second(doing: str) -> None:
        if doing.startswith("pll"):
            raise KeyboardInterrupt

    found = run(chosen, rounds=3, quick=True, memory=False, progress=stop_at_second)
    assert [r.comparison.name for r in found.results] == ["penalty-toy"]
    assert found.skipped == {"pll": "interrupted"}


def test_the_bundle_holds_what_was_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAS_RESULTS", str(tmp_path))
    found = run(by_name(["penalty-toy"]), rounds=3, quick=True, memory=False)
    path = report.write_bundle(found, report.machine(1), 3, 1.0)
    assert path == tmp_path / report.BUNDLE
    rows = results.load(report.BUNDLE)
    value = rows[(rows["run"] == "penalty-toy") & (rows["metric"] == "ratio")]["value"]
    assert value.tolist() == [pytest.approx(found.results[0].ratio.value)]
    seconds = rows[(rows["metric"] == "seconds") & (rows["detail"] == "ours_penalised")]
    assert seconds["value"].tolist() == found.seconds["toy"]["ours_penalised"]
    parameters = results.manifest(report.BUNDLE)["parameters"]
    assert parameters["comparisons"]["penalty-toy"]["bar"] == 1.2
    assert parameters["machine"]["cpu"] and "/" not in json.dumps(parameters["machine"])


def test_make_bench_calls_it() -> None:
    assert "-m benchmarks $(ARGS)" in (ROOT / "Makefile").read_text()
    told = bench("--help").stdout
    assert "Examples" in told and 'make bench ARGS="--only pll' in told
