"""The tasks that models are fine-tuned on: GLUE, HANS, and their toy counterparts.

GLUE: Wang et al. 2019 (arXiv:1804.07461). HANS: McCoy, Pavlick and Linzen 2019
(arXiv:1902.01007), sentence pairs that ask whether a model of MNLI reads the sentences or
goes by word overlap. The files are read from a folder (``SAS_DATA``) or, where none is
given, fetched by name from the Hugging Face hub at a pinned revision. The toy tasks need
neither.
"""

from __future__ import annotations

import csv
import json
import math
import os
import random
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sas_lib import toy_english
from sas_lib.toy_english import Example

HUB, REVISION = "nyu-mll/glue", "bcdcba79d07bc864c1c254ccfcedcce55bcc9a8c"
HANS_URL = (
    "https://raw.githubusercontent.com/tommccoy1/hans/"
    "7299f6f657089ce06a0f98e7e81f8d0f5b7741ce/heuristics_evaluation_set.txt"
)


class TaskError(ValueError):
    """A task that is not known, or whose data cannot be had; the message says what to do."""


@dataclass(frozen=True)
class Task:
    """What a task asks for.

    labels: the names of its classes in the order of the numbers on the hub; none where it
    asks for a number. metrics: how it is scored, the one that is usually reported first.
    columns: of its sentences on the hub. files: for training and for testing, in a folder
    of data; in_files: the columns of text, second text and label there.
    """

    labels: tuple[str, ...]
    metrics: tuple[str, ...]
    columns: tuple[str, ...]
    files: tuple[tuple[str, ...], tuple[str, ...]]
    in_files: tuple[str, str, str]


def _glue_files(name: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return (f"glue/{name}/train.tsv",), (f"glue/{name}/dev.tsv",)


_PAIR = ("sentence1", "sentence2")
GLUE = {
    "cola": Task(
        ("unacceptable", "acceptable"),
        ("mcc", "accuracy"),
        ("sentence",),
        # GLUE's validation set is the two of the authors' corpus together.
        (
            ("cola/in_domain_train.tsv",),
            ("cola/in_domain_dev.tsv", "cola/out_of_domain_dev.tsv"),
        ),
        ("sentence", "", "label"),
    ),
    "sst2": Task(
        ("negative", "positive"),
        ("accuracy",),
        ("sentence",),
        _glue_files("SST-2"),
        ("sentence", "", "label"),
    ),
    "rte": Task(
        ("entailment", "not_entailment"),
        ("accuracy",),
        _PAIR,
        _glue_files("RTE"),
        (*_PAIR, "label"),
    ),
    "wnli": Task(
        ("not_entailment", "entailment"),
        ("accuracy",),
        _PAIR,
        _glue_files("WNLI"),
        (*_PAIR, "label"),
    ),
    "mrpc": Task(
        ("not_equivalent", "equivalent"),
        ("f1", "accuracy"),
        _PAIR,
        _glue_files("MRPC"),
        ("#1 String", "#2 String", "Quality"),
    ),
    "stsb": Task((), ("pearson", "spearman"), _PAIR, _glue_files("STS-B"), (*_PAIR, "score")),
    "mnli": Task(
        ("entailment", "neutral", "contradiction"),
        ("accuracy",),
        ("premise", "hypothesis"),
        (("mnli_small/mnli_en.train.jsonl",), ("mnli_small/mnli_en.valid.jsonl",)),
        ("premise", "hypothesis", "label"),
    ),
}
TOY = {
    f"toy_{name}": Task(labels, ("accuracy", "mcc"), (), ((), ()), ("", "", ""))
    for name, labels in toy_english.TASKS.items()
}
TASKS = GLUE | TOY

# The authors' files of CoLA have no line of headings.
_HEADINGS = {"cola": ["source", "label", "mark", "sentence"]}


def read_task(
    name: str, limit: int | None = None, folder: str | os.PathLike[str] | None = None
) -> tuple[list[Example], list[Example]]:
    """Training and test examples of a task; GLUE's own test labels are not public, so the
    test examples are its validation set.

    limit: train on a sample of so many at most, always the same one; of toy tasks there are
    8,000. folder: where the data are, else ``SAS_DATA``, else they are fetched from the hub.

    Raises:
        TaskError: no such task, or its data are missing, empty or malformed.
    """
    if name not in TASKS:
        raise TaskError(f"no task {name!r}; there are {', '.join(TASKS)}, hans")
    if name in TOY:
        most = 8000 if limit is None else min(8000, limit)
        return toy_english.classification_task(name.removeprefix("toy_"), most)
    given = folder or os.environ.get("SAS_DATA")
    if given:
        train, test = (_from_files(name, files, Path(given)) for files in GLUE[name].files)
    else:
        train, test = (_from_hub(name, split) for split in ("train", "validation"))
    if limit is not None and limit < len(train):
        train = random.Random(0).sample(train, limit)
    return train, test


def read_hans(
    folder: str | os.PathLike[str] | None = None,
) -> tuple[list[Example], list[str]]:
    """Examples of HANS, 1 for entailment and 0 for none, and the heuristic of each.

    Raises:
        TaskError: the data are missing or malformed.
    """
    given = folder or os.environ.get("SAS_DATA")
    if given:
        file = Path(given) / "hans_regenerated" / "hans_regenerated.tsv"
        rows: Iterable[Mapping[str, Any]] = _tsv_rows(_existing(file, "hans"))
    else:
        options = {"data_files": HANS_URL, "sep": "\t", "quoting": csv.QUOTE_NONE}
        rows = _load_dataset("hans", "csv", split="train", **options)
    labels = {"non-entailment": 0, "entailment": 1}
    examples, heuristics = [], []
    for number, row in enumerate(rows, start=1):
        try:
            texts = _texts(row, ("sentence1", "sentence2"))
            examples.append(Example(texts[0], texts[1], labels[row["gold_label"]]))
            heuristics.append(str(row["heuristic"]))
        except (KeyError, ValueError) as error:
            raise TaskError(f"HANS, example {number}: no column or label {error}") from error
    if not examples:
        raise TaskError("HANS: no example in this file")
    return examples, heuristics


# --- from files -----------------------------------------------------------------------


def _from_files(name: str, files: tuple[str, ...], folder: Path) -> list[Example]:
    examples = []
    for file in files:
        path = _existing(folder / file, name)
        rows = _json_rows(path) if path.suffix == ".jsonl" else _tsv_rows(path, name)
        found = [_example(name, row, f"{path}, example {n}") for n, row in enumerate(rows, 1)]
        if not found:
            raise TaskError(f"{path}: no example in this file")
        examples += found
    return examples


def _existing(path: Path, name: str) -> Path:
    if not path.is_file():
        raise TaskError(
            f"no data for {name}: there is no {path}; name another folder (SAS_DATA), or none "
            "to fetch the data from the Hugging Face hub"
        )
    return path


def _tsv_rows(path: Path, name: str = "") -> Iterator[dict[str, Any]]:
    try:
        with open(path, encoding="utf-8-sig", newline="") as lines:
            yield from csv.DictReader(
                lines, _HEADINGS.get(name), delimiter="\t", quoting=csv.QUOTE_NONE
            )
    except (UnicodeDecodeError, csv.Error) as error:
        raise TaskError(f"{path} is no table of tab-separated UTF-8: {error}") from error


def _json_rows(path: Path) -> Iterator[dict[str, Any]]:
    with open(path, "rb") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                yield json.loads(line)
            except ValueError as error:
                raise TaskError(f"{path}, line {number}: {error}") from error


def _example(name: str, row: Mapping[str, Any], where: str) -> Example:
    text, second, label = GLUE[name].in_files
    try:
        texts = _texts(row, [column for column in (text, second) if column])
        return Example(texts[0], "".join(texts[1:]), _label(name, row[label]))
    except (KeyError, TypeError, ValueError) as error:
        raise TaskError(f"{where}: no example of {name}: {error}") from error


def _texts(row: Mapping[str, Any], columns: Iterable[str]) -> list[str]:
    texts = [row[column] for column in columns]
    if not all(isinstance(text, str) and text.strip() for text in texts):
        raise ValueError("a sentence is empty")
    return texts


def _label(name: str, given: Any) -> float:
    """The number of a class, given as a number or by name; a score as it is."""
    names = GLUE[name].labels
    if given in names:
        return names.index(given)
    value = float(given)
    if names and value not in range(len(names)):
        raise ValueError(f"the label {given!r} is none of {', '.join(names)}")
    if not math.isfinite(value):
        raise ValueError(f"the score {given!r} is no number")
    return value


# --- from the hub ---------------------------------------------------------------------


def _from_hub(name: str, split: str) -> list[Example]:
    if name == "mnli" and split == "validation":
        split = "validation_matched"
    rows = _load_dataset(name, HUB, name, revision=REVISION, split=split)
    columns = GLUE[name].columns
    return [
        Example(row[columns[0]], row[columns[1]] if columns[1:] else "", float(row["label"]))
        for row in rows
    ]


def _load_dataset(task: str, *arguments: Any, **options: Any) -> Iterable[Mapping[str, Any]]:
    try:
        import datasets
    except ImportError as error:
        raise TaskError(
            "fetching data by name needs the package datasets (pip install datasets); or name "
            "a folder of data (SAS_DATA)"
        ) from error
    try:
        rows: Iterable[Mapping[str, Any]] = datasets.load_dataset(*arguments, **options)
    except (OSError, ValueError, RuntimeError) as error:
        raise TaskError(
            f"cannot fetch {task} from the net ({error}); name a folder of data "
            "(SAS_DATA), or take a toy task"
        ) from error
    return rows
