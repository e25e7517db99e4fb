"""``sas dimension``: the intrinsic dimension of a model's states."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from sas_lib.cli.options import Device, Json, Model, Seed


class PoolingName(StrEnum):
    cls = "cls"
    mean = "mean"


class MetricName(StrEnum):
    euclidean = "euclidean"
    cosine = "cosine"
    angular = "angular"


class EstimatorName(StrEnum):
    regression = "regression"
    mle = "mle"


def dimension(
    model: Model,
    text: Annotated[Path, typer.Argument(help="Plain text, one paragraph a line (or .xz).")],
    as_json: Json = False,
    layer: Annotated[
        int, typer.Option(help="0 is the embeddings, 1 the first layer; -1 the last.")
    ] = -1,
    pooling: Annotated[
        PoolingName, typer.Option(help="A sentence's [CLS], or the mean of its pieces.")
    ] = PoolingName.cls,
    metric: Annotated[
        MetricName,
        typer.Option(help="cosine, as in the study, gives half of what the others give."),
    ] = MetricName.euclidean,
    estimator: Annotated[
        EstimatorName, typer.Option(help="The published line, or maximum likelihood.")
    ] = EstimatorName.regression,
    sentences: Annotated[
        int, typer.Option(min=1, help="Use the first so many sentences of the text.")
    ] = 2000,
    max_length: Annotated[
        int | None, typer.Option(min=3, help="Leave out sentences of more pieces.")
    ] = None,
    seed: Seed = 0,
    device: Device = "cpu",
) -> None:
    """TwoNN intrinsic dimension of a model's sentence states, with a 95% interval.

    \b
    Examples:
    sas dimension runs/seed-0/checkpoints/step-005000 text.txt
    sas dimension bert-base-uncased text.txt.xz --pooling mean --layer 6 --json
    """
    from itertools import islice

    from tqdm import tqdm

    from sas_lib.complexity import layer_number, sentence_states, two_nn
    from sas_lib.model import load
    from sas_lib.text import read_text

    loaded, tokenizer = load(model, device)
    layer = layer_number(loaded, layer)
    texts = list(islice(read_text(text), sentences))
    if max_length is not None:
        lengths = [len(ids) for ids in tokenizer(texts, verbose=False)["input_ids"]]
        texts = [t for t, n in zip(texts, lengths, strict=True) if n <= max_length]
    with tqdm(total=len(texts), unit=" sentences", disable=as_json) as bar:
        states = sentence_states(
            loaded, tokenizer, texts, layer, pooling.value, progress=bar.update
        )
    found = two_nn(states, metric.value, estimator.value, seed=seed)
    figures = {
        "dimension": found.dimension,
        "interval": list(found.interval),
        "n": found.n,
        "duplicates": found.duplicates,
        "layer": layer,
        "pooling": pooling.value,
        "metric": metric.value,
        "estimator": estimator.value,
    }
    typer.echo(json.dumps(figures, indent=1) if as_json else _table(figures))


def _table(figures: dict[str, Any]) -> str:
    low, high = figures["interval"]
    return (
        f"dimension   {figures['dimension']:.2f}  (95% interval {low:.2f} to {high:.2f})\n"
        f"states      {figures['pooling']} of layer {figures['layer']}, "
        f"{figures['metric']} distance, {figures['estimator']}\n"
        f"sentences   {figures['n']}, and {figures['duplicates']} left out as duplicates"
    )
