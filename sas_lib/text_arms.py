"""The experiment on real text in each profile."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

from sas_lib.experiment import Experiment
from sas_lib.prepared import data_for
from sas_lib.pretraining import Data, Measure
from sas_lib.runs import text_measures
from sas_lib.settings import LADDER, Config


@dataclass(frozen=True)
class PreparedText:
    """A prepared corpus as the material of a sweep, with what its runs are measured on.

    treebank: CoNLL-U. pairs: a folder of minimal pairs, ``pairs_limit`` a paradigm of which
    are scored at each checkpoint.
    """

    corpus: str
    treebank: str | None = None
    pairs: str | None = None
    pairs_limit: int = 20

    def data(self, config: Config) -> Data:
        """The sentences of a run with this configuration."""
        return data_for(self.corpus, config)

    def measures(self, data: Data) -> list[Measure]:
        """What is measured at its checkpoints."""
        return text_measures(self.treebank, self.pairs, self.pairs_limit)


def experiment(
    profile: str, corpus: str | os.PathLike[str], data: str | os.PathLike[str]
) -> Experiment:
    """The experiment in a profile: ``smoke``, ``cpu`` (size mini) or ``gpu`` (size small).

    corpus: a folder of ``sas prepare``. data: the folder with the treebank and BLiMP.
    All runs have the setting of the longest one; the others stop on the way.
    """
    data = Path(data)
    material = PreparedText(
        str(corpus),
        str(data / "ud_ewt" / "en_ewt-ud-dev.conllu"),
        str(data / "blimp" / "data"),
        pairs_limit=1 if profile == "smoke" else 20,
    )
    if profile == "smoke":
        config = replace(LADDER["mini"], steps=20, log_checkpoints=0, even_checkpoints=2)
        config = replace(config, vocab_size=2048, dense_to=0)
        return Experiment(config, material, stop_at=10, releases=(5,), seeds=1)
    mini = replace(LADDER["mini"], steps=50_000, log_checkpoints=14, even_checkpoints=50)
    mini = replace(mini, dense_from=400, dense_to=2000, dense_every=100)
    if profile == "cpu":
        return Experiment(mini, material, stop_at=10_000, releases=(500, 1000, 1500, 3000))
    small = LADDER["small"]
    gpu = replace(mini, layers=small.layers, width=small.width, heads=small.heads)
    gpu = replace(gpu, batch_size=256, steps=100_000)
    return Experiment(gpu, material, stop_at=50_000, releases=(500, 1000, 1500, 3000))
