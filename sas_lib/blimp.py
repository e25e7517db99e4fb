"""Minimal pairs in files: BLiMP's jsonl and Zorro's lines.

BLiMP (Warstadt et al. 2020, arXiv:1912.00582) has a .jsonl file for each of 67 paradigms,
which belong to 12 phenomena. Zorro (Huebner et al. 2021, "BabyBERTa") has a file
PHENOMENON-PARADIGM.txt for each paradigm; odd lines are ungrammatical, and the even line
after each is its grammatical counterpart.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Pair = tuple[str, str]

# A term of its own in BLiMP's files, but part of argument structure in the paper's tables.
_FOLDED = {"s-selection": "argument_structure"}


@dataclass(frozen=True)
class Paradigm:
    """One kind of minimal pair, (good, bad), and the phenomenon that it belongs to.

    phenomenon: BLiMP's ``linguistics_term``; the paradigm's own name where none is given.
    """

    name: str
    phenomenon: str
    pairs: list[Pair]


def read_paradigms(
    directory: str | os.PathLike[str], limit: int | None = None
) -> list[Paradigm]:
    """The minimal pairs of a folder in BLiMP's or, where it has no .jsonl, Zorro's format.

    limit: take only the first so many pairs of each paradigm.

    Raises:
        FileNotFoundError: the folder holds neither.
        ValueError: a line is no minimal pair, or a file has none; the message names them.
    """
    folder = Path(directory)
    if files := sorted(folder.glob("*.jsonl")):
        return [_blimp(file, limit) for file in files]
    if files := sorted(folder.glob("*-*.txt")):
        return [_zorro(file, limit) for file in files]
    raise FileNotFoundError(
        f"no .jsonl file (BLiMP) and no PHENOMENON-PARADIGM.txt (Zorro) in {folder}"
    )


def read_pairs(
    directory: str | os.PathLike[str], limit: int | None = None
) -> dict[str, list[Pair]]:
    """As ``read_paradigms``, only paradigm to (good, bad) pairs."""
    return {paradigm.name: paradigm.pairs for paradigm in read_paradigms(directory, limit)}


def _blimp(file: Path, limit: int | None) -> Paradigm:
    rows = list(itertools.islice(_json_rows(file), limit))
    if not rows:
        raise ValueError(f"{file}: no minimal pair in this file")
    term = str(rows[0].get("linguistics_term") or file.stem)
    pairs = [(row["sentence_good"], row["sentence_bad"]) for row in rows]
    return Paradigm(file.stem, _FOLDED.get(term, term), pairs)


def _json_rows(file: Path) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(_lines(file), start=1):
        try:
            row = json.loads(line)
            pair = row["sentence_good"], row["sentence_bad"]
            if not all(isinstance(sentence, str) for sentence in pair):
                raise TypeError(f"{pair} are no two sentences")
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{file}, line {number}: no minimal pair: {error}") from error
        yield row


def _zorro(file: Path, limit: int | None) -> Paradigm:
    phenomenon = file.stem.rpartition("-")[0]
    pairs = list(itertools.islice(_line_pairs(file), limit))
    if not pairs:
        raise ValueError(f"{file}: no minimal pair in this file")
    return Paradigm(file.stem, phenomenon, pairs)


def _line_pairs(file: Path) -> Iterator[Pair]:
    lines = enumerate(_lines(file), start=1)
    for number, bad in lines:
        _, good = next(lines, (number, ""))
        if not (good.strip() and bad.strip()):
            raise ValueError(
                f"{file}, line {number}: no minimal pair: a line that is bad, then one that "
                "is good, and none that is empty"
            )
        yield good, bad


def _lines(file: Path) -> Iterator[str]:
    try:
        with open(file, encoding="utf-8") as lines:
            for line in lines:
                yield line.rstrip("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is not UTF-8 text: {error}") from error


def by_phenomenon(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Mean accuracy over the paradigms of each phenomenon.

    rows: dictionaries with ``phenomenon``, ``n`` and ``accuracy``, one for each paradigm.
    """
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault(row["phenomenon"], []).append(row)
    return [
        {
            "phenomenon": phenomenon,
            "paradigms": len(group),
            "n": sum(row["n"] for row in group),
            "accuracy": sum(row["accuracy"] for row in group) / len(group),
        }
        for phenomenon, group in sorted(groups.items())
    ]
