"""``sas toy``: sentences and minimal pairs of toy English."""

from __future__ import annotations

from typing import Annotated

import typer

from sas_lib.cli.options import Out, Seed


def toy_sentences(
    out: Out,
    n: Annotated[int, typer.Option("--n", min=1, help="How many sentences.")] = 1000,
    seed: Seed = 0,
) -> None:
    """Write sentences of toy English with their gold trees as CoNLL-U.

    Example: sas toy sentences --n 1000 --seed 0 --out toy.conllu
    """
    from tqdm import tqdm

    from sas_lib import toy_english
    from sas_lib.treebank import write_conllu

    with tqdm(toy_english.sentences(n, seed), total=n, unit=" sentences") as bar:
        written = write_conllu(bar, out)
    typer.echo(f"{written} sentences in {out}", err=True)


def toy_pairs(
    out: Out,
    n: Annotated[int, typer.Option("--n", min=1, help="How many pairs a paradigm.")] = 500,
    seed: Seed = 0,
) -> None:
    """Write minimal pairs of toy English, a BLiMP-style jsonl file for each paradigm.

    Example: sas toy pairs --out pairs/ --n 500
    """
    from sas_lib import toy_english

    toy_english.write_pairs(out, n, seed)
    typer.echo(f"minimal pairs in {out}", err=True)
