"""``sas pll``: the pseudo-log-likelihood of sentences."""

from __future__ import annotations

import json
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from sas_lib.cli.options import Device, Json, Model


class MethodName(StrEnum):
    pll = "pll"
    within_word_l2r = "within_word_l2r"


Method = Annotated[
    MethodName,
    typer.Option(help="Mask a piece alone, or with the later pieces of its word."),
]


def pll(
    model: Model,
    sentences: Annotated[Path, typer.Argument(help="Plain text, one sentence a line.")],
    method: Method = MethodName.pll,
    as_json: Json = False,
    device: Device = "cpu",
) -> None:
    """Summed pseudo-log-likelihood in nats, one score a line, in the order of the file.

    \b
    Examples:
    sas pll runs/seed-0/checkpoints/step-005000 sentences.txt
    sas pll bert-base-uncased sentences.txt --method within_word_l2r --json
    """
    from tqdm import tqdm

    from sas_lib.minimal_pairs import stream_scores
    from sas_lib.model import load

    total = sum(1 for _ in sentences_of(sentences))
    if not total:
        raise ValueError(f"{sentences}: no sentence in this file")
    loaded, tokenizer = load(model, device)
    kept = []
    with tqdm(total=total, unit=" sentences", disable=as_json) as bar:
        lines = sentences_of(sentences)
        for score in stream_scores(
            loaded, tokenizer, lines, progress=bar.update, method=method.value
        ):
            if as_json:
                kept.append(score)
            else:
                bar.write(f"{score:.6f}")
    if as_json:
        typer.echo(json.dumps({"method": method.value, "scores": kept}, indent=1))


def sentences_of(path: Path) -> Iterator[str]:
    """The lines of a file.

    Raises:
        ValueError: a line is empty, or the file is not UTF-8 text.
    """
    try:
        with open(path, encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                if not line.strip():
                    raise ValueError(f"{path}, line {number} is empty; it would have no score")
                yield line.strip()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text: {error}") from error
