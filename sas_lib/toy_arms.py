"""The toy experiment in each profile."""

from __future__ import annotations

from dataclasses import replace

from sas_lib.experiment import Experiment
from sas_lib.runs import ToyText
from sas_lib.settings import TOY, TOY_GPU

PROFILES = {
    "smoke": Experiment(
        replace(TOY, steps=20, log_checkpoints=0, even_checkpoints=1, dense_to=0),
        ToyText(600),
        search_steps=10,
        releases=(5,),
        late=10,
        window=(5, 10),
        looked_at=(0, 20),
        seeds=1,
    ),
    "cpu": Experiment(TOY, ToyText(100_000)),
    "gpu": Experiment(TOY_GPU, ToyText(1_000_000)),
}
