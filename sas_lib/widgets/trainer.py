"""Draw a schedule of lambda and watch a model train under it.

Used in the chapter "When, and what exactly".
"""

from __future__ import annotations

import asyncio
import html
import math
from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import pandas as pd
import torch
from transformers import PreTrainedModel

from sas_lib import charts, runs, toy_english, uas
from sas_lib.corpus import encode
from sas_lib.learner import Learner
from sas_lib.parallel import Parallel
from sas_lib.pretraining import Data
from sas_lib.regularizer import Schedule, lambda_schedule
from sas_lib.run_state import RunError
from sas_lib.settings import Config
from sas_lib.treebank import Sentence
from sas_lib.validation import validation
from sas_lib.widgets.front_end import Loaded, control, instead, ipywidgets, loaded, put

CURVES = {
    "valid_loss": "loss (nats)",
    "uas_per_relation": "UAS per relation",
    "gold_arc_attention": "attention on arcs",
}
COLOURS = {"base": charts.PALETTE["grey"], "yours": charts.PALETTE["blue"]}


def curves(rows: pd.DataFrame, steps: int, stretch: tuple[int, int]) -> alt.VConcatChart:
    """The curves of the base run and of yours, one panel a measure.

    rows: run (``base`` or ``yours``), step, and a column for each of ``CURVES``. steps: the
    length of the run. stretch: the steps between which lambda acts, shaded.
    """
    x = alt.X("step:Q", scale=alt.Scale(domain=[0, steps]), title="step since the start")
    scale = alt.Scale(domain=list(COLOURS), range=list(COLOURS.values()))
    shade = alt.Chart(pd.DataFrame([stretch], columns=["step", "until"]))
    band = shade.mark_rect(color=charts.PALETTE["gold"], opacity=0.2).encode(x, x2="until:Q")
    panels = []
    for column, title in CURVES.items():
        y = alt.Y(f"{column}:Q", title=title, scale=alt.Scale(zero=False))
        lines = (
            alt.Chart(rows)
            .mark_line(point=True)
            .encode(
                x,
                y,
                alt.Color("run:N", scale=scale, title=None),
                tooltip=["run:N", "step:Q", alt.Tooltip(f"{column}:Q", format=".3f")],
            )
        )
        panels.append(alt.layer(band, lines).properties(width=charts.WIDTH, height=110))
    return alt.vconcat(*panels)


class Stopped(Exception):
    """Someone has pressed Stop."""


class ScheduleTrainer:
    """Choose lambda and the steps between which it acts; train, and watch the curves.

    Training goes on from a model that is there, with an optimiser that starts afresh: from
    nothing, syntax would be minutes away. Beside it stands the base run, the same without a
    penalty, which is trained once. A run is a task of the kernel's own loop, so that buttons
    are heard between its steps.

    models: name to model and tokenizer, to start from; BERTs for toy English. start: the name
    of the one to begin with. every: steps between measurements. seed: of order and masks.
    """

    def __init__(
        self,
        models: Mapping[str, Loaded],
        start: str | None = None,
        steps: int = 200,
        every: int = 20,
        batch_size: int = 32,
        seed: int = 0,
    ) -> None:
        self.models, self.steps, self.every = dict(models), steps, every
        self.batch_size, self.seed = batch_size, seed
        self.gold = list(toy_english.sentences(TREEBANK, runs.TREEBANK_SEED))
        self.drawn: list[Sentence] = []
        self.material: dict[str, Data] = {}
        self.bases: dict[str, list[dict[str, Any]]] = {}  # of each start, when it is complete
        self.rows: dict[str, list[dict[str, Any]]] = {}
        self.stopping = False
        self.task: asyncio.Task[None] | None = None
        self.start = control("Dropdown", "start from", options=list(self.models))
        self.start.value = start or self.start.value
        self.weight = control("FloatSlider", "lambda", value=0.1, min=-0.3, max=0.3, step=0.01)
        self.stretch = control(
            "IntRangeSlider", "acts in steps", value=(0, steps // 2), max=steps, step=every
        )
        self.go = ipywidgets.Button(description="Train", button_style="primary")
        self.halt = ipywidgets.Button(description="Stop", disabled=True)
        self.progress = control("IntProgress", "", max=steps)
        self.message, self.output = ipywidgets.HTML(), ipywidgets.Output()
        self.figure: charts.Figure | None = None
        buttons = ipywidgets.HBox([self.go, self.halt])
        controls = [self.start, self.weight, self.stretch]
        self.view = ipywidgets.VBox(
            [*controls, buttons, self.progress, self.message, self.output]
        )
        self.go.on_click(self._go)
        self.halt.on_click(self._halt)

    def _ipython_display_(self) -> None:
        from IPython.display import display

        display(self.view)

    def _go(self, _: object) -> None:
        if self.task is None or self.task.done():  # a second click may be under way
            self.task = asyncio.get_running_loop().create_task(self.train())

    def _halt(self, _: object) -> None:
        self.stopping = True

    def _busy(self, busy: bool) -> None:
        for chosen in (self.start, self.weight, self.stretch, self.go):
            chosen.disabled = busy
        self.halt.disabled, self.stopping = not busy, False

    async def train(self) -> None:
        """The base run, if it is not there yet, and then yours."""
        start, (begin, until) = self.start.value, self.stretch.value
        said = "It broke off."
        self._busy(True)
        try:
            schedule = lambda_schedule(self.weight.value, until, begin)
            self.rows = {"base": self.bases.get(start, [])}
            if not self.rows["base"]:
                await self.run("base", start, [])
                self.bases[start] = self.rows["base"]
            said = "With lambda at 0, yours is the base run."
            if schedule:
                await self.run("yours", start, schedule)
                said = "Done. Lambda acted in the shaded steps."
        except Stopped:
            said = "Stopped. What there is of the curves stays."
        except (ValueError, RuntimeError) as error:
            said = f"That did not work: {error}."
        finally:
            self.message.value = html.escape(said)
            self._busy(False)

    async def run(self, name: str, start: str, schedule: Schedule) -> None:
        """Train from a start under a schedule, measuring on the way."""
        model, tokenizer = self.models[start]
        data = await self.data(start)
        learner = Learner(
            self.config(model, schedule), tokenizer, data.train, Parallel(torch.device("cpu"))
        )
        learner.model.load_state_dict(model.state_dict())
        self.rows[name] = []
        for step in range(self.steps + 1):
            if step % self.every == 0:
                found = measured(learner, data, self.gold)
                self.rows[name].append({"run": name, "step": step, **found})
                self.draw()
            await self.tick(f"{name}: step {step} of {self.steps}", step / self.steps)
            if step < self.steps:
                learner.update(step)

    def config(self, model: PreTrainedModel, schedule: Schedule) -> Config:
        """The settings of a run that goes on from a model."""
        c = model.config
        return Config(
            layers=c.num_hidden_layers,
            width=c.hidden_size,
            heads=c.num_attention_heads,
            max_length=c.max_position_embeddings,
            batch_size=self.batch_size,
            learning_rate=5e-4,
            warmup_steps=20,
            steps=self.steps,
            sas_schedule=tuple(schedule),
            seed=self.seed,
        )

    async def data(self, start: str) -> Data:
        """Sentences for all steps, and those of the book's runs for the validation loss."""
        if start not in self.material:
            model, tokenizer = self.models[start]
            limit, n = model.config.max_position_embeddings, self.steps * self.batch_size
            if len(self.drawn) < n:
                self.drawn = []  # what a run that broke off has left
                for sentence in toy_english.sentences(n, runs.TRAIN_SEED):
                    self.drawn.append(sentence)
                    if len(self.drawn) % 100 == 0:
                        await self.tick("making sentences", len(self.drawn) / n)
            valid = toy_english.sentences(VALID, runs.VALID_SEED)
            train, held_out = (encode(s, tokenizer, limit) for s in (self.drawn, valid))
            self.material[start] = Data(tokenizer, train, held_out)
        return self.material[start]

    async def tick(self, said: str, share: float) -> None:
        """Say how far it has come, and let the kernel hear its buttons.

        Where one of them was Stop, it ends by ``Stopped``.
        """
        self.progress.value = round(share * self.steps)
        self.message.value = said
        await asyncio.sleep(0)
        if self.stopping:
            raise Stopped

    def draw(self) -> None:
        """Draw all rows that there are."""
        rows = pd.DataFrame([row for of_run in self.rows.values() for row in of_run])
        last = rows.groupby("run").tail(1).to_dict("records")
        told = "; ".join(
            f"{row['run']} at step {row['step']}: loss {row['valid_loss']:.2f}, UAS "
            f"{row['uas_per_relation']:.2f}, attention on arcs {row['gold_arc_attention']:.2f}"
            for row in last
        )
        chart = curves(rows, self.steps, self.stretch.value)
        self.figure = charts.show(chart, alt=f"Loss, UAS and attention on arcs. {told}.")
        put(self.output, self.figure)


VALID, TREEBANK = 200, 100
"""Sentences of the validation loss and of UAS: few, so that measuring takes no time."""


def measured(learner: Learner, data: Data, gold: Sequence[Sentence]) -> dict[str, float]:
    """A value for each of ``CURVES``; UAS is of the sentences ``gold``.

    Raises:
        RunError: the loss is no longer finite.
    """
    model, tokenizer = learner.model.eval(), data.tokenizer
    loss, attention = validation(model, tokenizer, data.valid, learner.config.mask_rate)
    if not math.isfinite(loss):
        raise RunError(f"the loss is {loss}; a lambda nearer to 0 disturbs training less")
    found = uas.summarise(uas.score_arcs(model, tokenizer, gold))["per_relation"]["uas"]
    return dict(zip(CURVES, (loss, found, attention or 0.0), strict=True))


def schedule_trainer(
    models: Mapping[str, Loaded] | str, start: str | None = None, **settings: Any
) -> Any:
    """A :class:`ScheduleTrainer`, or where there is no live kernel a sentence in its place.

    models: to go on from, by name, or the name of a bundle that holds some. settings: of the
    trainer.

    Raises:
        results.BundleError: there is no such bundle.
    """
    if note := instead("choose a schedule of your own and watch a model train under it"):
        return note
    return ScheduleTrainer(loaded(models), start, **settings)
