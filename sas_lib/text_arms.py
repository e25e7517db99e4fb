"""The experiment on real text in each profile."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

from sas_lib.experiment import Experiment
from sas_lib.fingerprints import file_sha256
from sas_lib.prepared import data_for
from sas_lib.pretraining import Data, Measure
from sas_lib.runs import text_measures
from sas_lib.settings import LADDER, Config

# The texts of the experiment; of these the first two are parsed.
TEXTS = ("openstax", "wikipedia", "books")
PARSED = TEXTS[:2]


@dataclass(frozen=True)
class PreparedText:
    """A prepared corpus as the material of a sweep, with what its runs are measured on.

    treebank: CoNLL-U, of which the first ``sentences`` are taken. pairs: a folder of minimal
    pairs, ``pairs_limit`` a paradigm of which are scored at each checkpoint.
    """

    corpus: str
    treebank: str | None = None
    pairs: str | None = None
    pairs_limit: int = 20
    sentences: int | None = None

    def data(self, config: Config) -> Data:
        """The sentences of a run with this configuration."""
        return data_for(self.corpus, config)

    def measures(self, data: Data) -> list[Measure]:
        """What is measured at its checkpoints."""
        return text_measures(self.treebank, self.pairs, self.pairs_limit, self.sentences)


def experiment(
    profile: str, corpus: str | os.PathLike[str], data: str | os.PathLike[str]
) -> Experiment:
    """The experiment in a profile: ``smoke``, ``cpu`` (size mini) or ``gpu`` (size small).

    corpus: a folder of ``sas prepare``. data: the folder with the treebank and BLiMP.
    All runs have the setting of the longest one; the others stop on the way.
    """
    data = Path(data)
    treebank, pairs = data / "ud_ewt" / "en_ewt-ud-dev.conllu", data / "blimp" / "data"
    material = PreparedText(str(corpus), str(treebank), str(pairs), pairs_limit=10)
    if profile == "smoke":
        config = replace(LADDER["mini"], steps=20, log_checkpoints=0, even_checkpoints=4)
        config = replace(config, vocab_size=2048, dense_to=0)
        material = replace(material, pairs_limit=1, sentences=50)
        return Experiment(config, material, stop_at=10, releases=(5,), seeds=1)
    config = replace(LADDER["mini" if profile == "cpu" else "small"], steps=55_000)
    config = replace(config, log_checkpoints=8, even_checkpoints=55)
    config = replace(config, dense_from=400, dense_to=2000, dense_every=100)
    stop_at = 11_000
    if profile == "gpu":
        config, stop_at = replace(config, batch_size=256), 25_000
    return Experiment(config, material, stop_at=stop_at, releases=(500, 1000, 1500, 3000))


def checksums(material: PreparedText, data: str | os.PathLike[str]) -> dict[str, str]:
    """The files that the runs are measured on, by their place in the folder ``data``, and
    their SHA-256."""
    files = [Path(material.treebank)] if material.treebank else []
    files += sorted(Path(material.pairs).glob("*.jsonl")) if material.pairs else []
    return {file.relative_to(data).as_posix(): file_sha256(file) for file in files}
