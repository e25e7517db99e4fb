"""What can be measured on the checkpoints of a run after training, by name.

``dimension``, ``fisher``, ``context``, ``roads``, ``attention``, ``uas`` and ``surprisal`` are
taken on the sentences of a treebank, ``pairs`` on minimal pairs, ``weights`` on the model
alone; the names of the tasks of ``glue`` fine-tune it. Without files all is taken on toy
English. What a run also measures on the way, on fewer sentences, has other names here:
``full_uas_best_head`` is the ``uas_best_head`` of ``uas``.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerFast

from sas_lib import complexity_measures, predictors, runs, toy_english, uas
from sas_lib.blimp import read_pairs
from sas_lib.checkpoints import MeasureError, Planned, initial_model
from sas_lib.finetune import Recipe, each_run
from sas_lib.glue import TASKS, read_hans, read_task
from sas_lib.measures import attention_mass, pairs_measure, relation_mass_rows, uas_rows
from sas_lib.pretraining import Measure, Row
from sas_lib.treebank import Sentence, read_conllu

# How many sentences each is taken on; of ``pairs``, pairs a paradigm; of a task, examples.
SIZES = {
    "dimension": 1000,
    "fisher": 100,
    "context": 300,
    "roads": 300,
    "attention": 300,
    "uas": 1000,
    "surprisal": 500,
    "pairs": 30,
}
SINGLE_PAIRS = 10  # of each paradigm, whose margins are given one by one
TASK_SIZE = 2000
NAMES = ("weights", *SIZES)
GROUPS = {
    "tasks": ("toy_acceptability", "toy_entailment", "toy_number"),
    "glue": tuple(name for name in TASKS if not name.startswith("toy_")),
}
LONG = 5  # words from a dependent to its head; such an arc, or a longer one, is long
File = str | os.PathLike[str]


def plan(
    run: File,
    names: Sequence[str] | None = None,
    treebank: File | None = None,
    pairs: File | None = None,
    size: int | None = None,
    seeds: int = 3,
    data: File | None = None,
) -> list[Planned]:
    """The measures of these names, ready for ``checkpoints.measure``.

    names: by default ``NAMES``; where files are given, those of them that need no others.
    treebank: CoNLL-U; its first sentences that fit into the model are taken. pairs: a folder
    of minimal pairs. size: of each measure, in place of ``SIZES``. seeds: of fine-tuning.
    data: the folder of GLUE.

    Raises:
        MeasureError: there is no such measure, or it would be taken on toy English beside
            others on files.
    """
    if names is None:
        names = [name for name in NAMES if not _lacking(name, treebank, pairs)]
    listed = [one for name in names for one in GROUPS.get(name, (name,))]
    planned = []
    for name in dict.fromkeys(listed):
        if lacking := _lacking(name, treebank, pairs):
            raise MeasureError(
                f"{name} needs {lacking}, as other data than toy English is given"
            )
        if name == "weights":
            make: Callable[[], Measure] = partial(_weights, run)
            settings: dict[str, Any] = {}
        elif name == "pairs":
            settings = _settings(pairs, runs.PAIRS_SEED) | {"n": size or SIZES[name]}
            make = partial(_pairs, run, pairs, settings["n"])
        elif name in SIZES:
            settings = _settings(treebank, runs.TREEBANK_SEED) | {"n": size or SIZES[name]}
            make = partial(_on_sentences, name, run, treebank, settings["n"])
        elif name in TASKS or name == "hans":
            settings = {"n": size or TASK_SIZE, "seeds": seeds}
            make = partial(_task, name, settings["n"], seeds, data)
        else:
            there = ", ".join([*NAMES, *GROUPS, *TASKS, "hans"])
            raise MeasureError(f"no measure {name!r}; there are {there}")
        planned.append(Planned(name, settings, make))
    return planned


def _lacking(name: str, treebank: File | None, pairs: File | None) -> str:
    """The file that a measure lacks where another is given; "" where it lacks none."""
    needed, given = ("--pairs", pairs) if name == "pairs" else ("--treebank", treebank)
    return needed if name in SIZES and not given and (treebank or pairs) else ""


def _settings(file: File | None, seed: int) -> dict[str, Any]:
    """What was read, by name and checksum."""
    if file is None:
        return {"data": "toy English", "seed": seed}
    path, digest = Path(file), hashlib.sha256()
    files = [path] if path.is_file() else sorted(p for p in path.glob("*") if p.is_file())
    if not files:
        raise MeasureError(f"there is nothing to read in {path}")
    for one in files:
        digest.update(one.read_bytes())
    return {"data": path.name, "sha256": digest.hexdigest()}


def _tokenizer(run: File) -> PreTrainedTokenizerFast:
    loaded: Any = AutoTokenizer.from_pretrained(Path(run) / "tokenizer")
    tokenizer: PreTrainedTokenizerFast = loaded
    return tokenizer


# --- on sentences ---------------------------------------------------------------------


def _on_sentences(name: str, run: File, treebank: File | None, n: int) -> Measure:
    return _ON_SENTENCES[name](_sentences(run, treebank, n))


def _sentences(run: File, treebank: File | None, n: int) -> list[Sentence]:
    """The first ``n`` sentences of two words or more that fit into the model."""
    run = Path(run)
    tokenizer = _tokenizer(run)
    limit = json.loads((run / "config.json").read_text())["max_length"]

    def fits(sentence: Sentence) -> bool:
        pieces = tokenizer(" ".join(sentence.words), verbose=False)["input_ids"]
        return len(sentence) > 1 and len(pieces) <= limit

    read = (
        read_conllu(treebank)
        if treebank is not None
        else toy_english.sentences(None, runs.TREEBANK_SEED)
    )
    found = list(islice(filter(fits, read), n))
    if not found:
        raise MeasureError(f"no sentence of {treebank} has two words and fits into the model")
    return found


def full_uas_rows(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, sentences: Sequence[Sentence]
) -> list[Row]:
    """All figures of UAS and of attention mass (``full_``), and the main ones of UAS on long
    arcs alone (``long_``)."""
    arcs = uas.score_arcs(model, tokenizer, sentences)
    rows = [*uas_rows(uas.summarise(arcs)), *relation_mass_rows(arcs)]
    rows.append({"metric": "attention_mass", "value": attention_mass(arcs)})
    return [_renamed("full", row) for row in rows] + long_arc_rows(arcs)


def long_arc_rows(arcs: uas.Arcs) -> list[Row]:
    """UAS on the arcs of ``LONG`` words and more, with heads chosen on these.

    The baselines are fixed offsets of any length, chosen on the same arcs: one for all, and
    one for each relation, in sample and held out. None where there are no such arcs.
    """
    arcs = arcs.select(np.abs(arcs.distance) >= LONG).scored()
    if not len(arcs.relation):
        return []
    figures = [row for row in uas_rows(uas.summarise(arcs)) if "detail" not in row]
    rows = [_renamed("long", row) for row in figures if row["metric"].startswith("uas")]
    rows = [row for row in rows if "beyond" not in row["metric"]]
    hit = arcs.distance[:, None] == np.unique(arcs.distance)  # [arcs, offsets]
    groups = predictors.relation_groups(arcs.relation)
    chosen = predictors.choose_per_relation(hit, groups)
    held_out = predictors.held_out_hits(hit, groups, arcs.sentence)
    baselines = {
        "offset": hit.mean(0).max(),
        "offset_per_relation": predictors.hits(hit, groups, chosen).mean(),
        "offset_per_relation_held_out": held_out.mean(),
    }
    rows += [
        {"metric": f"long_baseline_{name}", "value": float(value)}
        for name, value in baselines.items()
        if np.isfinite(value)  # NaN where one half of the sentences has none
    ]
    return [{"metric": "long_arcs", "value": float(len(hit))}, *rows]


def _renamed(kind: str, row: Row) -> Row:
    return {**row, "metric": f"{kind}_{row['metric']}"}


def _texts(sentences: Sequence[Sentence]) -> list[str]:
    return [" ".join(sentence.words) for sentence in sentences]


def _words(sentences: Sequence[Sentence]) -> list[Sequence[str]]:
    return [sentence.words for sentence in sentences]


_ON_SENTENCES: dict[str, Callable[[list[Sentence]], Measure]] = {
    "dimension": lambda found: _of(complexity_measures.dimension_rows, _texts(found)),
    "fisher": lambda found: _of(complexity_measures.fisher_rows, _texts(found)),
    "context": lambda found: complexity_measures.context_measure(_words(found)),
    "attention": lambda found: complexity_measures.attention_measure(_words(found)),
    "roads": lambda found: complexity_measures.roads_measure(_words(found)),
    "surprisal": lambda found: complexity_measures.surprisal_measure(_words(found)),
    "uas": lambda found: _of(full_uas_rows, found),
}


def _of(rows: Callable[..., list[Row]], given: Sequence[Any]) -> Measure:
    return lambda model, tokenizer: rows(model, tokenizer, given)


# --- on pairs, weights and tasks ------------------------------------------------------


def _pairs(run: File, pairs: File | None, n: int) -> Measure:
    chosen = read_pairs(pairs, n) if pairs else runs.toy_pairs(_tokenizer(run), n)
    score = pairs_measure(chosen, single=SINGLE_PAIRS)
    return lambda model, tokenizer: [_renamed("full", row) for row in score(model, tokenizer)]


def _weights(run: File) -> Measure:
    initial = initial_model(run)
    return lambda model, tokenizer: complexity_measures.weight_rows(model, initial)


def _task(name: str, n: int, seeds: int, data: File | None) -> Measure:
    of_hans = read_hans(data) if name == "hans" else None
    task = "mnli" if name == "hans" else name
    train, test = read_task(task, n, data)

    def measure(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> list[Row]:
        *_, row = each_run(model, tokenizer, task, train, test, Recipe(), seeds, of_hans)
        return task_rows(row) if of_hans is None else hans_rows(row)

    return measure


def task_rows(row: dict[str, Any]) -> list[Row]:
    """Of ``finetune.each_run``: the mean over seeds, their deviation, and the majority's."""
    rows: list[Row] = []
    for metric, majority in row["majority"].items():
        values = [run[metric] for run in row["runs"]]
        found = {f"finetuned_{metric}": float(np.mean(values)), f"majority_{metric}": majority}
        if values[1:]:
            found[f"finetuned_{metric}_sd"] = float(np.std(values, ddof=1))
        rows += [
            {"metric": name, "detail": row["task"], "value": value}
            for name, value in found.items()
        ]
    return rows


def hans_rows(row: dict[str, Any]) -> list[Row]:
    """Accuracy by heuristic and gold label (``detail``), the mean over seeds."""
    scored = [run["hans"] for run in row["runs"]]
    return [
        {
            "metric": "hans_accuracy",
            "detail": f"{heuristic} {label}",
            "value": float(np.mean([run[heuristic][label] for run in scored])),
        }
        for heuristic, by_label in scored[0].items()
        for label in by_label
    ]
