"""The command line, ``sas``: the library's functions from a shell."""

from __future__ import annotations

import dataclasses
import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Watch a masked language model learn syntax.",
)
toy = typer.Typer(no_args_is_help=True, help="Sentences and minimal pairs of toy English.")
app.add_typer(toy, name="toy")


class ConfigName(StrEnum):
    toy = "toy"
    real = "real"


Out = Annotated[Path, typer.Option(help="Where to write.")]
Seed = Annotated[int, typer.Option(help="Seed: the same seed gives the same output.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")]


@toy.command("sentences")
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


@toy.command("pairs")
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


@app.command()
def uas(
    model: Annotated[str, typer.Argument(help="A folder, or a name on the Hugging Face hub.")],
    treebank: Annotated[Path, typer.Argument(help="A CoNLL-U file (.xz may be).")],
    as_json: Json = False,
    include_root: Annotated[bool, typer.Option(help="Count the root's arc.")] = False,
    include_punct: Annotated[bool, typer.Option(help="Count punctuation.")] = False,
    max_length: Annotated[
        int | None, typer.Option(min=3, help="Leave out sentences of more pieces.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, mps, ...")] = "cpu",
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


@app.command()
def pretrain(
    out: Out,
    config: Annotated[ConfigName, typer.Option(help="Where the settings start from.")] = (
        ConfigName.toy
    ),
    corpus: Annotated[
        list[Path] | None,
        typer.Option(help="Plain text, one paragraph a line (.xz may be); may be repeated."),
    ] = None,
    treebank: Annotated[Path | None, typer.Option(help="CoNLL-U to measure UAS on.")] = None,
    pairs: Annotated[
        Path | None, typer.Option(help="BLiMP-style folder to measure on.")
    ] = None,
    pairs_limit: Annotated[int, typer.Option(min=1, help="Pairs a paradigm on the way.")] = 20,
    sentences: Annotated[int, typer.Option(help="Toy sentences to train on.")] = 100_000,
    seed: Seed = 0,
    steps: Annotated[int | None, typer.Option(min=1, help="Training steps.")] = None,
    layers: Annotated[int | None, typer.Option(min=1, help="Layers of the model.")] = None,
    width: Annotated[int | None, typer.Option(min=1, help="Width of the model.")] = None,
    heads: Annotated[int | None, typer.Option(min=1, help="Attention heads a layer.")] = None,
    vocab_size: Annotated[
        int | None, typer.Option(min=100, help="Pieces of the tokenizer.")
    ] = None,
    max_length: Annotated[
        int | None, typer.Option(min=4, help="Pieces of a sentence; longer ones are cut.")
    ] = None,
    dropout: Annotated[float | None, typer.Option(min=0, max=0.9, help="Dropout.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Sentences a step.")] = None,
    learning_rate: Annotated[
        float | None, typer.Option(min=0, help="Learning rate after warm-up.")
    ] = None,
    warmup_steps: Annotated[int | None, typer.Option(min=0, help="Steps of warm-up.")] = None,
    mask_rate: Annotated[
        float | None, typer.Option(min=0.01, max=0.9, help="Share of the pieces to predict.")
    ] = None,
    log_checkpoints: Annotated[
        int | None, typer.Option(min=0, help="Checkpoints, log-spaced.")
    ] = None,
    even_checkpoints: Annotated[
        int | None, typer.Option(min=1, help="Checkpoints, evenly spaced.")
    ] = None,
    dense_from: Annotated[
        int | None, typer.Option(min=0, help="First step of a dense window.")
    ] = None,
    dense_to: Annotated[
        int | None, typer.Option(min=0, help="Last step of a dense window.")
    ] = None,
    dense_every: Annotated[
        int | None, typer.Option(min=1, help="Steps between its checkpoints.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in --out.")
    ] = False,
    device: Annotated[str, typer.Option(help="cpu, cuda, ...")] = "cpu",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads.")] = None,
) -> None:
    """Train a small BERT from nothing and measure it as it learns.

    Without --corpus it learns toy English, which needs no data. Metrics are appended to
    OUT/metrics.jsonl, models saved under OUT/checkpoints. Ctrl-C saves; --resume goes on.
    What is not given is as in --config.

    \b
    Examples:
    sas pretrain --out runs/toy-0 --seed 0
    sas pretrain --config real --corpus text.txt.xz --treebank dev.conllu --out runs/real-0
    """
    import torch

    from sas_lib import runs
    from sas_lib.settings import CONFIGS

    if (treebank or pairs) and not corpus:
        raise typer.BadParameter(
            "--treebank and --pairs go with --corpus; toy English has its own"
        )
    if threads is not None:
        torch.set_num_threads(threads)
    given = {name: value for name, value in locals().items() if value is not None}
    base = CONFIGS[config.value]
    names = {f.name for f in dataclasses.fields(base)}
    settings = dataclasses.replace(base, **{k: v for k, v in given.items() if k in names})
    if corpus:
        path = runs.text_run(
            out, settings, corpus, treebank, pairs, pairs_limit, resume, device
        )
    else:
        path = runs.toy_run(out, settings, sentences, resume, device)
    typer.echo(f"metrics in {path}", err=True)


def main() -> None:
    """Run the command line; what a user can mend is printed as one line, not a traceback."""
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(130)
    except (ValueError, RuntimeError, OSError) as error:
        typer.echo(f"sas: {error}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
