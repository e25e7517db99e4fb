"""``sas prepare``: cut text into pieces once, to train on it often."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from sas_lib.cli.options import Json, Out


class Control(StrEnum):
    random_trees = "random_trees"
    next_word = "next_word"
    random_pairs = "random_pairs"


def prepare(
    out: Out,
    text: Annotated[
        list[Path] | None,
        typer.Option(
            help="Plain text, one paragraph a line, parsed sentences (.conllu) or silver "
            "parses (.parses.parquet); .xz may be; may be repeated."
        ),
    ] = None,
    name: Annotated[
        list[str] | None,
        typer.Option(help="A text by name: wikitext-103, from SAS_DATA or the net."),
    ] = None,
    valid: Annotated[
        list[Path] | None,
        typer.Option(
            help="To validate on, as --text, or wikitext-103/validation; without it every "
            "400th sentence, or an even 1,000 of more."
        ),
    ] = None,
    vocab_size: Annotated[int, typer.Option(min=100, help="Pieces of the tokenizer.")] = 8192,
    max_length: Annotated[
        int, typer.Option(min=4, help="Pieces of a sentence; longer ones are cut.")
    ] = 128,
    tokenizer: Annotated[
        Path | None, typer.Option(help="A tokenizer's folder, in place of a new one.")
    ] = None,
    control: Annotated[
        list[Control] | None,
        typer.Option(help="Also make the links of this control, for runs with that penalty."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Cut text into pieces once, to train on it often: sas pretrain --corpus OUT.

    Trains a tokenizer, and writes pieces and parses as memory-mapped arrays with their
    checksums. The folder appears when it is complete; after an interruption start again.

    \b
    Examples:
    sas prepare --out corpus --text books.txt.xz --text wikipedia.parses.parquet
    sas prepare --out corpus --text train.conllu --valid dev.conllu --control random_trees
    sas prepare --out corpus --name wikitext-103 --valid wikitext-103/validation
    sas pretrain --config mini --corpus corpus --treebank ewt --pairs blimp --out runs/mini-0
    """
    from sas_lib import prepared

    if not (text or name):
        raise typer.BadParameter("give --text or --name, or several of them")
    manifest = prepared.prepare(
        out,
        [*(text or []), *(name or [])],
        valid,
        vocab_size,
        max_length,
        tokenizer,
        control or (),
        quiet=as_json,
    )
    typer.echo(json.dumps(manifest, indent=1) if as_json else _table(manifest, out))


def _table(manifest: dict[str, Any], out: Path) -> str:
    """What was prepared, to read."""
    size = sum(file["bytes"] for file in manifest["files"].values())
    widths = {"sentences": 12, "parsed": 12, "words": 14, "pieces": 14}
    lines = [" " * 8 + "".join(f"{name:>{width}}" for name, width in widths.items())]
    for side in ("train", "valid"):
        counts = (f"{manifest[side][name]:>{width},}" for name, width in widths.items())
        lines.append(f"{side:<8}{''.join(counts)}")
    return "\n".join([*lines, f"{size / 1e6:,.1f} MB in {out}"])
