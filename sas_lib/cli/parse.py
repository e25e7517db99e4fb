"""``sas parse``: silver parses of plain text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from sas_lib.cli.options import Json, Out


def parse(
    text: Annotated[
        Path, typer.Argument(help="Plain text, one paragraph a line (.xz may be).")
    ],
    pipeline: Annotated[
        str, typer.Option(help="A spaCy pipeline: an installed package, or a folder.")
    ],
    out: Out,
    processes: Annotated[
        int, typer.Option(min=1, help="How many parse side by side; best one a core.")
    ] = 1,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Parse the first N sentences only.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Parse the sentences of a text with spaCy: silver parses, as in the study.

    The parses are a Parquet file, a row a sentence: words, heads, relations. Ctrl-C loses
    little: the same command goes on from the last whole part. Where there is no trained
    pipeline, sas train-parser makes one.

    \b
    Examples:
    sas parse wiki.txt.xz --pipeline en_core_web_sm --out wiki.parses.parquet --processes 4
    sas parse wiki.txt.xz --pipeline parsers/ewt --out first.parses.parquet --limit 1000
    """
    from sas_lib.silver import parse_file

    try:
        figures = parse_file(text, out, pipeline, processes, limit)
    except KeyboardInterrupt:
        typer.echo("stopped; the same command goes on from the last whole part", err=True)
        raise
    typer.echo(json.dumps(figures, indent=1) if as_json else _summary(figures, out))


def _summary(figures: dict[str, Any], out: Path) -> str:
    speed = figures["words_per_second"]
    pace = "parsed before" if speed is None else f"{speed:,.0f} words/s"
    return (
        f"{figures['sentences']:,} sentences, {figures['words']:,} words by white space "
        f"({pace}), parsed by {figures['pipeline']} {figures['pipeline_version']}, in {out}"
    )
