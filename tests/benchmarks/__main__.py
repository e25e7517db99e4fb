"""``make bench``: the benchmarks, from a shell."""

from __future__ import annotations

import os

# Before torch is imported: no network, and no threads but those asked for.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import json
import logging
import sys
import time
import warnings
from typing import Annotated

import typer
from tqdm import tqdm

ONLY = typer.Option("--only", metavar="NAME", help="One comparison; may be repeated.")
ROUNDS = typer.Option(min=3, help="Rounds of each; 9, or 3 with --quick.")


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def bench(
    only: Annotated[list[str] | None, ONLY] = None,
    quick: Annotated[
        bool,
        typer.Option(
            "--quick", help="Tiny models: shows that all works; the ratios mean little."
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")] = False,
    rounds: Annotated[int | None, ROUNDS] = None,
    threads: Annotated[int, typer.Option(min=1, help="Threads of each contestant.")] = 1,
    memory: Annotated[bool, typer.Option(help="Measure the peak memory too.")] = True,
) -> None:
    """Compare this library with named peers, the contestants in turn, in one process.

    A complete run writes the results for the book; one with --only, --quick or --no-memory
    prints them and leaves those of the book alone.

    \b
    Examples:
    make bench
    make bench ARGS="--only pll --rounds 15"
    make bench ARGS="--quick --json"
    """
    import torch  # here, so that --help is quick

    from benchmarks import report
    from benchmarks.comparisons import by_name, run

    try:
        chosen = by_name(only or [])
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--only") from error
    torch.set_num_threads(threads)
    rounds = rounds or (3 if quick else 9)
    hush()
    began = time.perf_counter()
    with tqdm(unit="", bar_format="{elapsed}  {desc}", disable=None) as bar:
        found = run(chosen, rounds, threads, quick, memory, bar.set_description_str)
    about = report.machine(threads)
    if as_json:
        print(json.dumps(report.as_json(found, about), indent=1))
    else:
        print(report.table(found, about))
        if quick:
            print("\nThe models were tiny: these ratios say nothing about the bars.")
    interrupted = "interrupted" in found.skipped.values()
    if not (only or quick or interrupted) and memory:
        path = report.write_bundle(found, about, rounds, time.perf_counter() - began)
        print(f"\nThe results are in {path}", file=sys.stderr)
    if interrupted:
        raise typer.Exit(130)


def hush() -> None:
    """Keep the peers' notices out of the table."""
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    logging.getLogger("accelerate").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"(transformers|accelerate|torch)\.")


if __name__ == "__main__":
    app(prog_name="python -m benchmarks")
