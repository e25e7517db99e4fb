"""``sas pretrain``: what the options make of the settings, and what contradicts itself."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Sas, one_line_error
from test_cli import SMALL
from test_pretraining import column
from transformers import PreTrainedTokenizerFast

from sas_lib import runs
from sas_lib.corpus import encode
from sas_lib.pretraining import Data, pretrain
from sas_lib.settings import CONFIGS, TOY, Config
from sas_lib.treebank import Sentence

ONE_STEP = ("--steps", 1, *SMALL)


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    """--threads holds for this process, and so for the tests to come."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def quick(
    monkeypatch: pytest.MonkeyPatch,
    tokenizer: PreTrainedTokenizerFast,
    sentences: list[Sentence],
) -> list[dict[str, Any]]:
    """Toy English that is ready at once; what the command asked of the run."""
    corpus = encode(sentences[:64], tokenizer)
    asked: list[dict[str, Any]] = []

    def toy_run(
        out: Path, config: Config, n: int, resume: bool, device: str, keep: int | None
    ) -> Path:
        asked.append(
            {"config": config, "sentences": n, "device": device, "keep": keep}
            | {"threads": torch.get_num_threads()}
        )
        data = Data(tokenizer, corpus, corpus)
        return pretrain(out, config, data, [], resume, device, True, keep=keep)

    monkeypatch.setattr(runs, "toy_run", toy_run)
    return asked


def settings(out: Path) -> dict[str, Any]:
    saved: dict[str, Any] = json.loads((out / "config.json").read_text())
    return saved


@pytest.mark.parametrize(
    ("options", "schedule"),
    [
        ("", []),
        ("--sas-lambda 0", []),
        ("--sas-lambda 0.25", [[0, 0.25]]),
        ("--sas-lambda -0.25", [[0, -0.25]]),
        ("--sas-lambda 0.5 --sas-until 3", [[0, 0.5], [3, 0.0]]),
        ("--sas-lambda 0.5 --sas-from 0 --sas-until 3", [[0, 0.5], [3, 0.0]]),
        ("--sas-lambda 0.5 --sas-from 2", [[2, 0.5]]),
        ("--sas-lambda 0.5 --sas-from 2 --sas-until 4", [[2, 0.5], [4, 0.0]]),
        ("--sas-schedule 0:0.5,3:-1e-2,4:0", [[0, 0.5], [3, -0.01], [4, 0.0]]),
    ],
)
@pytest.mark.parametrize("penalty", [None, "sharpness"])
def test_the_schedule_is_that_of_the_options(
    sas: Sas,
    quick: list[dict[str, Any]],
    tmp_path: Path,
    options: str,
    schedule: list[list[float]],
    penalty: str | None,
) -> None:
    if penalty and not options:
        pytest.skip("a control without lambda is refused: see below")
    control = ["--penalty", penalty] if penalty else []
    arguments = [*options.split(), *control, *ONE_STEP, "--steps", 5]
    result = sas("pretrain", "--out", tmp_path / "run", *arguments)
    assert result.code == 0, result.err
    saved = settings(tmp_path / "run")
    assert saved["sas_schedule"] == schedule
    assert saved["penalty"] == (penalty or "sas")
    # And it is that run: the log gives lambda as it was.
    lambdas = column(tmp_path / "run", "sas_lambda")
    assert lambdas[max(lambdas)] == ([0, *(v for s, v in schedule if s <= 4)][-1])


@pytest.mark.parametrize(
    ("options", "code", "says"),
    [
        ("--sas-until 5", 2, "--sas-from and --sas-until need --sas-lambda"),
        ("--sas-from 5", 2, "--sas-from and --sas-until need --sas-lambda"),
        ("--sas-lambda 1 --sas-schedule 0:1", 2, "--sas-schedule takes the place"),
        ("--sas-from 5 --sas-schedule 0:1", 2, "--sas-schedule takes the place"),
        ("--penalty next_word", 2, "--penalty needs --sas-lambda or --sas-schedule"),
        ("--penalty syntax --sas-lambda 1", 2, "'syntax' is not one of"),
        ("--sas-lambda 1 --sas-from 5 --sas-until 5", 1, "would end at step 5, before it"),
        ("--sas-lambda nan", 1, "lambda must be a finite number, not nan"),
        ("--sas-schedule 5:1,3:0", 1, "steps of a schedule must increase"),
        ("--sas-schedule half", 1, "no schedule such as 0:0.01,400:0: 'half'"),
        ("--treebank dev.conllu", 2, "--treebank and --pairs go with --corpus"),
        ("--pairs blimp", 2, "--treebank and --pairs go with --corpus"),
        ("--sentences 0", 2, "--sentences"),
        ("--keep 0", 2, "--keep"),
        ("--threads 0", 2, "--threads"),
    ],
)
def test_options_that_contradict_each_other_are_named(
    sas: Sas, quick: list[dict[str, Any]], tmp_path: Path, options: str, code: int, says: str
) -> None:
    result = sas("pretrain", "--out", tmp_path / "run", *options.split())
    assert result.code == code
    assert says in " ".join(result.err.split()) and "Traceback" not in result.err
    assert not quick and not (tmp_path / "run").exists()


def test_other_options_end_up_in_the_run(
    sas: Sas, quick: list[dict[str, Any]], tmp_path: Path
) -> None:
    changed = {
        "layers": 2, "width": 24, "heads": 3, "vocab_size": 111, "max_length": 33,
        "dropout": 0.25, "batch_size": 7, "learning_rate": 0.5, "warmup_steps": 9, "steps": 1,
        "mask_rate": 0.2, "log_checkpoints": 2, "even_checkpoints": 3, "dense_from": 4,
        "dense_to": 5, "dense_every": 6, "seed": 8,
    }  # fmt: skip
    options = [f"--{name.replace('_', '-')}={value}" for name, value in changed.items()]
    command = ("pretrain", "--out", tmp_path / "run", *options, "--threads", 1)
    result = sas(*command, "--sentences", 9, "--keep", 2, "--device", "cpu")
    assert result.code == 0, result.err
    saved, base = settings(tmp_path / "run"), TOY.as_json()
    assert saved == base | changed
    assert set(base) - set(changed) == {"weight_decay", "sas_schedule", "penalty"}
    assert all(base[name] != value for name, value in changed.items()), "each is told apart"
    (asked,) = quick
    assert (asked["sentences"], asked["keep"], asked["device"]) == (9, 2, "cpu")


@pytest.mark.parametrize("name", CONFIGS)
def test_what_is_not_given_is_as_in_the_config(
    sas: Sas, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    seen: list[tuple[Any, ...]] = []

    def toy_run(*arguments: Any, **options: Any) -> Path:
        seen.append(arguments)
        return tmp_path

    monkeypatch.setattr(runs, "toy_run", toy_run)
    assert sas("pretrain", "--out", tmp_path, "--config", name).code == 0
    assert seen == [(tmp_path, CONFIGS[name], 100_000, False, "cpu")]


def test_threads_are_those_asked_for(
    sas: Sas, quick: list[dict[str, Any]], tmp_path: Path
) -> None:
    """By default torch's own choice, one a core."""
    torch.set_num_threads(1)
    for number, options in enumerate(((), ("--threads", 2), ("--threads", 1))):
        out = tmp_path / f"{number}"
        assert sas("pretrain", "--out", out, *ONE_STEP[:-2], *options).code == 0
    assert [asked["threads"] for asked in quick] == [1, 2, 1]


def test_resume_says_what_differs(
    sas: Sas, quick: list[dict[str, Any]], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    command = ["pretrain", "--out", out, *ONE_STEP, "--sas-lambda", 0.5]
    assert sas(*command).code == 0
    before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}
    one_line_error(sas(*command), out, "already holds a run; use --resume")
    for options, names in (
        (("--sas-lambda", 0.6), "another sas_schedule;"),
        (("--sas-until", 1), "another sas_schedule;"),
        (("--penalty", "sharpness"), "another penalty;"),
        (("--penalty", "sharpness", "--seed", 4), "another penalty, seed;"),
        (
            ("--width", 32, "--config", "mini"),
            "another dense_from, dense_to, learning_rate, width;",
        ),
    ):
        result = sas(*command, "--resume", *options)
        one_line_error(result, out, names, f"go on with the settings in {out / 'config.json'}")
    assert {p: p.read_bytes() for p in out.rglob("*") if p.is_file()} == before
    assert sas(*command, "--resume", "--keep", 1).code == 0, "how much is kept may change"


def test_the_examples_are_commands(sas: Sas, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each example of the help is taken by the command as it stands."""
    seen: list[str] = []
    for name in ("toy_run", "text_run"):

        def run(out: Path, *arguments: Any, **options: Any) -> Path:
            seen.append(str(out))
            return out

        monkeypatch.setattr(runs, name, run)
    text = sas("pretrain", "--help").out
    examples = [
        line.strip()
        for line in text.splitlines()
        if " pretrain --out" in line
        or "-m sas_lib" in line
        or line.strip().startswith("sas pretrain")
    ]
    assert len(examples) == 6
    for example in examples:
        words = shlex.split(example)
        result = sas(*words[words.index("pretrain") :])
        assert result.code == 0, (example, result.err)
    assert len(set(seen)) == 6, "each writes to a folder of its own"
    launchers = [shlex.split(example)[:-1] for example in examples if "-m sas_lib" in example]
    assert [words[0] for words in launchers] == ["accelerate", "torchrun"]
