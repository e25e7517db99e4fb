"""``sas train-parser``: a spaCy tagger and parser from a treebank."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from sas_lib.cli.options import Json, Out, Seed


def train_parser(
    out: Out,
    treebank: Annotated[
        Path | None,
        typer.Option(
            help="A folder with ...train.conllu, ...dev.conllu and ...test.conllu; by default "
            "UD EWT, from the folder that SAS_DATA names or from the net."
        ),
    ] = None,
    max_steps: Annotated[
        int | None, typer.Option(min=1, help="Stop after N steps; by default at no progress.")
    ] = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Train a spaCy tagger and parser on a treebank, and score them on its dev and test.

    It takes half an hour or so of one CPU core on UD EWT. Ctrl-C stops early and keeps the
    best parser so far; a training cannot be gone on with.

    \b
    Examples:
    sas train-parser --out parsers/ewt --treebank UD_English-EWT
    sas train-parser --out parsers/quick --treebank UD_English-EWT --max-steps 1000 --json
    """
    from sas_lib.downloads import fetch
    from sas_lib.parser_training import train_parser as train

    if treebank is None:
        treebank = {fetch("ewt", part).parent for part in ("train", "dev", "test")}.pop()
    scores = train(out, treebank, max_steps, seed)
    typer.echo(json.dumps(scores, indent=1) if as_json else score_table(scores, out))


def score_table(scores: dict[str, Any], out: Path) -> str:
    """The scores as a table to read."""
    lines = [f"{'':<22}{'dev UAS':>9}{'LAS':>7}{'test UAS':>10}{'LAS':>7}"]
    for key, name in (
        ("without_punct", "without punctuation"),
        ("with_punct", "with punctuation"),
        ("raw_text", "raw text (F1)"),
    ):
        dev, test = scores["dev"][key], scores["test"][key]
        lines.append(
            f"{name:<22}{dev['uas']:>9.3f}{dev['las']:>7.3f}"
            f"{test['uas']:>10.3f}{test['las']:>7.3f}"
        )
    end = "stopped early, " if scores["interrupted"] else ""
    lines.append(f"{end}best at step {scores['best_step']}; the pipeline is in {out}")
    return "\n".join(lines)
