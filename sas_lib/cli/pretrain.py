"""``sas pretrain``: train a small BERT from nothing, measuring as it goes."""

from __future__ import annotations

import dataclasses
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from sas_lib.cli.options import Out, Seed


class ConfigName(StrEnum):
    toy = "toy"
    mini = "mini"
    small = "small"
    medium = "medium"
    base = "base"


class Penalty(StrEnum):
    sas = "sas"
    random_trees = "random_trees"
    next_word = "next_word"
    random_pairs = "random_pairs"
    random_heads = "random_heads"
    sharpness = "sharpness"


def pretrain(
    out: Out,
    config: Annotated[ConfigName, typer.Option(help="Where the settings start from.")] = (
        ConfigName.toy
    ),
    corpus: Annotated[
        list[Path] | None,
        typer.Option(
            help="Plain text, one paragraph a line, or parsed sentences (.conllu), which the "
            "penalty needs; .xz may be; may be repeated. Or one folder that sas prepare made."
        ),
    ] = None,
    treebank: Annotated[
        Path | None,
        typer.Option(
            help="CoNLL-U to measure UAS on, or by name: ewt (its dev part), ewt/test."
        ),
    ] = None,
    pairs: Annotated[
        Path | None, typer.Option(help="BLiMP-style folder to measure on, or blimp.")
    ] = None,
    pairs_limit: Annotated[int, typer.Option(min=1, help="Pairs a paradigm on the way.")] = 20,
    sentences: Annotated[int, typer.Option(min=1, help="Toy sentences to train on.")] = 100_000,
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
    sas_lambda: Annotated[
        float | None,
        typer.Option(help="Weight of the penalty on SAS: above 0 suppresses, below promotes."),
    ] = None,
    sas_from: Annotated[
        int | None, typer.Option(min=0, help="First step with the penalty.")
    ] = None,
    sas_until: Annotated[
        int | None, typer.Option(min=1, help="First step without it again.")
    ] = None,
    sas_schedule: Annotated[
        str | None, typer.Option(help="In place of these three: STEP:LAMBDA,STEP:LAMBDA,...")
    ] = None,
    penalty: Annotated[
        Penalty, typer.Option(help="What it weighs: the gold links, or a control.")
    ] = Penalty.sas,
    keep: Annotated[
        int | None, typer.Option(min=1, help="Keep the latest N models only.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in --out.")
    ] = False,
    device: Annotated[str, typer.Option(help="cpu, cuda, ...")] = "cpu",
    threads: Annotated[
        int | None, typer.Option(min=1, help="CPU threads; by default one a core.")
    ] = None,
) -> None:
    """Train a small BERT from nothing and measure it as it learns.

    Without --corpus it learns toy English, which needs no data. Metrics are appended to
    OUT/metrics.jsonl, models saved under OUT/checkpoints. Ctrl-C saves; --resume goes on.
    What is not given is as in --config.

    Several processes share each batch: accelerate launch starts one for each GPU, torchrun
    as many as it is told to, on a CPU too.

    \b
    Examples:
    sas pretrain --out runs/toy-0 --seed 0
    sas pretrain --out runs/released-0 --sas-lambda 0.01 --sas-until 400
    sas pretrain --out runs/control-0 --sas-lambda 0.01 --penalty random_trees
    sas pretrain --config mini --corpus text.txt.xz --treebank dev.conllu --out runs/mini-0
    accelerate launch -m sas_lib pretrain --out runs/gpus-0 --device cuda
    torchrun --nproc-per-node 2 -m sas_lib pretrain --out runs/two-0 --threads 1
    """
    import torch

    from sas_lib import runs
    from sas_lib.downloads import path_or_name
    from sas_lib.prepared import prepared_run, read_prepared
    from sas_lib.settings import CONFIGS

    if (treebank or pairs) and not corpus:
        raise typer.BadParameter(
            "--treebank and --pairs go with --corpus; toy English has its own"
        )
    if threads is not None:
        torch.set_num_threads(threads)
    given = {name: value for name, value in locals().items() if value is not None}
    base = CONFIGS[config.value]
    given["sas_schedule"] = _schedule(sas_lambda, sas_from, sas_until, sas_schedule)
    if penalty is not Penalty.sas and sas_lambda is None and sas_schedule is None:
        raise typer.BadParameter("--penalty needs --sas-lambda or --sas-schedule")
    given["penalty"] = penalty.value
    folder = _prepared_folder(corpus or [])
    if folder:  # was cut into these pieces
        given = read_prepared(folder)["settings"] | given
    names = {f.name for f in dataclasses.fields(base)}
    settings = dataclasses.replace(base, **{k: v for k, v in given.items() if k in names})
    treebank, pairs = treebank and path_or_name(treebank), pairs and path_or_name(pairs)
    if folder:
        measures = runs.text_measures(treebank, pairs, pairs_limit)
        path = prepared_run(out, settings, folder, measures, resume, device, keep=keep)
    elif corpus:
        path = runs.text_run(
            out, settings, corpus, treebank, pairs, pairs_limit, resume, device, keep=keep
        )
    else:
        path = runs.toy_run(out, settings, sentences, resume, device, keep=keep)
    typer.echo(f"metrics in {path}", err=True)


def _prepared_folder(corpus: list[Path]) -> Path | None:
    """The prepared folder among the texts, where there is one, which then is all."""
    folders = [path for path in corpus if path.is_dir()]
    if folders and len(corpus) > 1:
        raise typer.BadParameter("--corpus takes files or one prepared folder, not both")
    return folders[0] if folders else None


def _schedule(
    value: float | None, start: int | None, until: int | None, text: str | None
) -> tuple[tuple[int, float], ...]:
    """The lambda schedule that the options ask for."""
    from sas_lib.regularizer import lambda_schedule, parse_schedule

    if text is not None:
        if (value, start, until) != (None, None, None):
            raise typer.BadParameter("--sas-schedule takes the place of the other --sas")
        return parse_schedule(text)
    if value is None:
        if (start, until) != (None, None):
            raise typer.BadParameter("--sas-from and --sas-until need --sas-lambda")
        return ()
    return tuple(lambda_schedule(value, until, start))
