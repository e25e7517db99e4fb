"""``sas blimp``: accuracy on minimal pairs, paradigm by paradigm."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from sas_lib.cli.options import Device, Json, Model
from sas_lib.cli.pll import Method, MethodName


def blimp(
    model: Model,
    directory: Annotated[
        Path, typer.Argument(help="BLiMP's .jsonl files, or Zorro's .txt files.")
    ],
    method: Method = MethodName.pll,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Only the first pairs of each paradigm.")
    ] = None,
    as_json: Json = False,
    out: Annotated[
        Path | None, typer.Option(help="Also keep the JSON here, after each paradigm.")
    ] = None,
    device: Device = "cpu",
) -> None:
    """Accuracy on minimal pairs by pseudo-log-likelihood; a tie counts half.

    The mean is over paradigms. Ctrl-C stops and shows the paradigms scored so far.

    \b
    Examples:
    sas blimp runs/seed-0/checkpoints/step-005000 pairs/
    sas blimp bert-base-uncased blimp/data --limit 100 --method within_word_l2r --json
    """
    from tqdm import tqdm

    from sas_lib.blimp import read_paradigms
    from sas_lib.minimal_pairs import each_paradigm
    from sas_lib.model import load
    from sas_lib.run_state import write_whole

    paradigms = read_paradigms(directory, limit)
    loaded, tokenizer = load(model, device)
    phenomenon = {p.name: p.phenomenon for p in paradigms}
    pairs = {p.name: p.pairs for p in paradigms}
    rows: list[dict[str, Any]] = []
    total = 2 * sum(map(len, pairs.values()))
    try:
        with tqdm(total=total, unit=" sentences", disable=as_json) as bar:
            scored = each_paradigm(loaded, tokenizer, pairs, bar.update, method.value)
            for name, row in scored:
                rows.append({"paradigm": name, "phenomenon": phenomenon[name], **row})
                if out is not None:
                    write_whole(out, json.dumps(summary(rows, method, len(pairs)), indent=1))
    finally:  # of an interrupted run, too, what is scored is shown
        if rows:
            figures = summary(rows, method, len(pairs))
            typer.echo(json.dumps(figures, indent=1) if as_json else pairs_table(figures))


def summary(rows: list[dict[str, Any]], method: str, paradigms: int) -> dict[str, Any]:
    """What the command prints as JSON.

    paradigms: how many there are, of which ``rows`` may be the first few.
    """
    from sas_lib.blimp import by_phenomenon

    return {
        "mean": sum(row["accuracy"] for row in rows) / len(rows),
        "method": str(method),
        "complete": len(rows) == paradigms,
        "ties": sum(row["ties"] for row in rows),
        "phenomena": by_phenomenon(rows),
        "paradigms": rows,
    }


def pairs_table(figures: dict[str, Any]) -> str:
    """The figures of ``summary`` as a table to read, paradigms under their phenomenon."""
    rows = figures["paradigms"]
    ties = f"{figures['ties']} ties" if figures["ties"] != 1 else "1 tie"
    lines = [
        f"{len(rows)} paradigms, {sum(row['n'] for row in rows)} pairs, {figures['method']}",
        f"mean accuracy {figures['mean']:.3f}, {ties} (each counts half)",
        "",
        f"{'':<54}{'n':>7}{'ties':>6}{'accuracy':>10}",
    ]
    if not figures["complete"]:
        lines.insert(0, "Not complete: the paradigms scored so far")
    for group in figures["phenomena"]:
        name = group["phenomenon"]
        lines.append(f"{name:<54}{group['n']:>7}{'':>6}{group['accuracy']:>10.3f}")
        for row in rows:
            if row["phenomenon"] == name:
                lines.append(
                    f"  {row['paradigm']:<52}{row['n']:>7}{row['ties']:>6}"
                    f"{row['accuracy']:>10.3f}"
                )
    return "\n".join(lines)
