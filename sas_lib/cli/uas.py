"""``sas uas``: the implicit parse of a model, scored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from sas_lib.cli.options import Device, Json, Model


def uas(
    model: Model,
    treebank: Annotated[Path, typer.Argument(help="A CoNLL-U file (.xz may be).")],
    as_json: Json = False,
    include_root: Annotated[bool, typer.Option(help="Count the root's arc.")] = False,
    include_punct: Annotated[bool, typer.Option(help="Count punctuation.")] = False,
    max_length: Annotated[
        int | None, typer.Option(min=3, help="Leave out sentences of more pieces.")
    ] = None,
    device: Device = "cpu",
) -> None:
    """UAS of the implicit parse of every attention head, with its baselines.

    \b
    Examples:
    sas uas runs/seed-0/checkpoints/step-005000 toy.conllu
    sas uas bert-base-uncased en_ewt-ud-dev.conllu --json
    """
    from tqdm import tqdm

    from sas_lib.model import load
    from sas_lib.treebank import read_conllu
    from sas_lib.uas import score_arcs, summarise

    sentences = list(read_conllu(treebank))
    loaded, tokenizer = load(model, device)
    with tqdm(total=len(sentences), unit=" sentences", disable=as_json) as bar:
        arcs = score_arcs(loaded, tokenizer, sentences, max_length, progress=bar.update)
    figures = summarise(arcs, include_root, include_punct)
    typer.echo(json.dumps(figures, indent=1) if as_json else uas_table(figures))


def uas_table(figures: dict[str, Any]) -> str:
    """The figures of ``uas.summarise`` as a table to read."""
    best, relations = figures["best_head"], figures["per_relation"]
    baselines, beyond = figures["baselines"], figures["beyond_offset"]
    lines = [
        f"{figures['n_sentences']} sentences, {figures['n_arcs']} arcs",
        f"best head      {best['uas']:.3f}  (held out {_uas(best['held_out_uas'])})  "
        f"{_head(best)}",
        f"per relation   {relations['uas']:.3f}  (held out {_uas(relations['held_out_uas'])})",
        f"best offset    {baselines['best_offset']['uas']:.3f}  "
        f"({baselines['best_offset']['offset']:+d}); "
        f"per relation {baselines['best_offset_per_relation']:.3f}",
    ]
    if beyond["n"]:
        lines.append(
            f"beyond offset  {beyond['uas']:.3f}  (held out: heads rechosen "
            f"{_uas(beyond['rechosen_uas'])}, a second offset "
            f"{_uas(beyond['second_offset_uas'])}) on {beyond['n']} arcs"
        )
    lines += ["", f"{'relation':<14}{'n':>7}{'uas':>7}{'held':>7}  {'head':<32}{'offset':>9}"]
    for row in relations["relations"]:
        lines.append(
            f"{row['relation']:<14}{row['n']:>7}{row['uas']:>7.3f}"
            f"{_uas(row['held_out_uas']):>7}  "
            f"{_head(row):<32}{row['offset']:>+3d}{row['offset_uas']:>6.3f}"
        )
    lines += ["", f"{'distance':<14}{'n':>7}{'best':>7}{'per relation':>14}"]
    for row in figures["by_distance"]:
        lines.append(
            f"{row['distance']:<+14d}{row['n']:>7}{row['best_head_uas']:>7.3f}"
            f"{row['per_relation_uas']:>14.3f}"
        )
    for row in figures["skipped"]:
        lines.append(
            f"left out: {row['sentences']} sentences, {row['words']} words: {row['reason']}"
        )
    return "\n".join(lines)


def _uas(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _head(row: dict[str, Any]) -> str:
    return f"layer {row['layer']} head {row['head']} {row['direction']}"
