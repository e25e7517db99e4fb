"""Fine-tuning: what is learnt, how it is scored, where the data come from."""

from __future__ import annotations

import itertools
import json
import math
import shutil
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import SUBJECTS, Sas, one_line_error, spoil
from scipy.stats import rankdata
from transformers import BertForMaskedLM, BertTokenizerFast, PreTrainedTokenizerFast

from sas_lib import finetune, glue
from sas_lib.cli.glue import glue_table
from sas_lib.finetune import Classifier, FinetuneError, Recipe, each_run, encode, predict
from sas_lib.glue import GLUE, TASKS, TaskError, read_hans, read_task
from sas_lib.task_scores import hans_scores, majority, scores
from sas_lib.toy_english import Example

Split = tuple[list[Example], list[Example]]

# At this size a model learns in seconds, but not at the rate for a width of 768.
QUICK = Recipe(epochs=5, batch_size=16, learning_rate=3e-3, dropout=0.0)


@pytest.fixture(scope="module")
def examples(texts: list[str]) -> Split:
    """Is the subject one of the first four? No sentence is both trained on and tested on."""
    first = {f"the {subject}" for subject in SUBJECTS[:4]}
    rows = [Example(t, "", float(" ".join(t.split()[:2]) in first)) for t in texts]
    return rows[::4], rows[1::8]


def label_of(example: Example) -> int:
    return int(example.label)


# --- what goes in ---------------------------------------------------------------------


def test_pooled_states_are_those_of_each_sentence_alone(
    model: BertForMaskedLM,
    tokenizer: PreTrainedTokenizerFast,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Neither padding nor the order of a batch shows in what the head sees."""
    monkeypatch.setattr(finetune, "autocast", lambda device: nullcontext())
    rows = [Example(t, "", 0) for t in ("the dog sees", "the unforgettable nightingale", "a")]
    for pooling in ("cls", "mean"):
        classifier = Classifier(model, 3, pooling, 0.0).eval()  # type: ignore[arg-type]
        outputs = predict(classifier, encode(model, tokenizer, rows, 40), 0, batch_size=2)
        for row, output in zip(rows, outputs, strict=True):
            alone = tokenizer(row.text, return_tensors="pt")
            with torch.no_grad():
                states = model.base_model(**alone).last_hidden_state[0]
                state = states[0] if pooling == "cls" else states.mean(0)
                expected = classifier.linear(state).numpy()
            np.testing.assert_allclose(output, expected, atol=1e-5)


def test_pairs_are_encoded_as_bert_does(
    model: BertForMaskedLM, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    tokenizer.save_pretrained(tmp_path)
    vocabulary = tokenizer.get_vocab()
    words = [w for w in ("the", "dog", "cat", "sees", "a", "that") if w in vocabulary]
    (tmp_path / "vocab.txt").write_text("\n".join(sorted(vocabulary, key=vocabulary.get)))  # type: ignore[arg-type]
    reference = BertTokenizerFast(str(tmp_path / "vocab.txt"))
    pair = Example(" ".join(words[:2]), " ".join(words[2:]), 1)
    ours = encode(model, tokenizer, [pair], 40)
    theirs = reference(pair.text, pair.second)
    second = ours.ids[0].index(tokenizer.sep_token_id) + 1
    assert ours.types is not None
    assert ours.types[0] == theirs["token_type_ids"]
    assert ours.types[0] == [0] * second + [1] * (len(ours.ids[0]) - second)
    assert ours.ids[0].count(tokenizer.sep_token_id) == 2
    assert encode(model, tokenizer, [pair._replace(second="")], 40).types == [[0] * second]


def test_long_inputs_are_cut_and_counted(
    model: BertForMaskedLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    rows = [Example("the " * 60, "", 0), Example("the king", "", 1)]
    short = len(tokenizer("the king")["input_ids"])
    assert encode(model, tokenizer, rows, 128).truncated == 1
    assert [len(ids) for ids in encode(model, tokenizer, rows, 128).ids] == [40, short]
    assert [len(ids) for ids in encode(model, tokenizer, rows, 10).ids] == [10, short]
    pair = encode(model, tokenizer, [Example("the " * 30, "the king", 0)], 20)
    assert len(pair.ids[0]) == 20
    assert pair.types and sum(pair.types[0]) == short - 1  # the second, short sentence is whole
    assert encode(model, tokenizer, rows[1:], 128).truncated == 0


# --- training -------------------------------------------------------------------------


def test_a_task_is_learnt(
    model: BertForMaskedLM, tokenizer: PreTrainedTokenizerFast, examples: Split
) -> None:
    before = {name: p.clone() for name, p in model.named_parameters()}
    seen: list[int] = []
    *_, row = each_run(
        model, tokenizer, "toy_number", *examples, QUICK, seeds=2, progress=seen.append
    )
    assert row["mean"] > 0.95 and row["majority"] == {"accuracy": 0.5, "mcc": 0.0}
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name]), "the model itself is left as it is"
    assert sum(seen) == 2 * (5 * len(examples[0]) + len(examples[1]))
    values = [run["accuracy"] for run in row["runs"]]
    assert [run["seed"] for run in row["runs"]] == [0, 1]
    assert row["mean"] == pytest.approx(sum(values) / 2)
    assert row["sd"] == pytest.approx(abs(values[0] - values[1]) / math.sqrt(2))
    assert (row["task"], row["metric"]) == ("toy_number", "accuracy")
    assert (row["n_train"], row["n_test"], row["truncated"]) == (240, 120, 0)
    assert row["learning_rate"] == 3e-3


def test_mean_pooling_and_numbers_are_learnt(
    model: BertForMaskedLM, tokenizer: PreTrainedTokenizerFast, examples: Split
) -> None:
    """A score far from 0 and of a small scale, as no head starts with."""
    train, test = ([e._replace(label=40 + e.label / 10) for e in part] for part in examples)
    recipe = Recipe(5, 16, 3e-3, dropout=0.0, pooling="mean")
    (row,) = each_run(model, tokenizer, "stsb", train, test, recipe, seeds=1)
    assert row["metric"] == "pearson" and row["sd"] is None
    assert row["mean"] > 0.9 and row["runs"][0]["spearman"] > 0.8
    assert row["majority"] == {"pearson": 0.0, "spearman": 0.0}


def test_labels_without_a_pattern_are_not_learnt(
    model: BertForMaskedLM, tokenizer: PreTrainedTokenizerFast, examples: Split
) -> None:
    """What is scored is not what was trained on."""
    rng = np.random.default_rng(0)
    train, test = (
        [e._replace(label=float(rng.integers(2))) for e in part] for part in examples
    )
    (row,) = each_run(model, tokenizer, "toy_number", train, test, QUICK, seeds=1)
    assert abs(row["mean"] - 0.5) < 0.15


def test_the_body_is_trained_too(
    model: BertForMaskedLM, tokenizer: PreTrainedTokenizerFast, examples: Split
) -> None:
    encoded = encode(model, tokenizer, examples[0][:16], 40)
    head = finetune.finetune(model, tokenizer, encoded, 2, QUICK)
    assert not head.training
    moved = [
        not torch.equal(p, q)
        for p, q in zip(head.body.parameters(), model.base_model.parameters(), strict=True)
    ]
    assert sum(moved) > len(moved) / 2
    still = finetune.finetune(model, tokenizer, encoded, 2, Recipe(learning_rate=0.0))
    for p, q in zip(still.body.parameters(), model.base_model.parameters(), strict=True):
        assert torch.equal(p, q)


def test_a_seed_repeats_and_seeds_differ(
    model: BertForMaskedLM, tokenizer: PreTrainedTokenizerFast, examples: Split
) -> None:
    train = encode(model, tokenizer, examples[0][:64], 40)
    test = encode(model, tokenizer, examples[1][:64], 40)
    recipe = Recipe(1, 16, 3e-3, dropout=0.1)

    def outputs(seed: int) -> np.ndarray:
        head = finetune.finetune(model, tokenizer, train, 2, recipe, seed)
        return predict(head, test, 0)

    first = outputs(1)
    torch.rand(100)  # nothing depends on what was drawn before
    np.testing.assert_array_equal(first, outputs(1))
    assert np.abs(first - outputs(2)).max() > 1e-3
    still = Recipe(1, 16, 0.0)  # no training: what differs is the head as it was drawn
    heads = [finetune.finetune(model, tokenizer, train, 2, still, seed) for seed in (1, 2)]
    assert not torch.equal(heads[0].linear.weight, heads[1].linear.weight)


def test_each_example_is_seen_once_an_epoch() -> None:
    recipe = Recipe(epochs=3, batch_size=4)
    batches = list(finetune._shuffled(10, recipe, seed=0))
    assert [len(rows) for rows in batches] == [4, 4, 2] * 3
    epochs = [[*itertools.chain(*batches[i : i + 3])] for i in (0, 3, 6)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


def test_the_learning_rate_goes_by_the_width(
    model: BertForMaskedLM,
    tokenizer: PreTrainedTokenizerFast,
    examples: Split,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert Recipe().peak(768) == pytest.approx(3e-5)
    assert Recipe().peak(384) == pytest.approx(1.2e-4)  # half as wide: four times as high
    assert Recipe(learning_rate=2e-5).peak(128) == 2e-5
    rates = []
    step = torch.optim.AdamW.step

    def spy(optimizer: torch.optim.AdamW, *arguments: Any) -> Any:
        rates.append(optimizer.param_groups[0]["lr"])
        assert [group["weight_decay"] for group in optimizer.param_groups] == [0.01, 0.0]
        assert all(p.ndim > 1 for p in optimizer.param_groups[0]["params"])
        assert all(p.ndim == 1 for p in optimizer.param_groups[1]["params"])
        return step(optimizer, *arguments)

    monkeypatch.setattr(torch.optim.AdamW, "step", spy)
    encoded = encode(model, tokenizer, examples[0][:40], 40)
    finetune.finetune(model, tokenizer, encoded, 2, Recipe(2, 2, 1.0))
    # 40 steps: up over the first four, then down.
    expected = [i / 4 for i in range(4)] + [(40 - i) / 36 for i in range(4, 40)]
    np.testing.assert_allclose(rates, expected)


@pytest.mark.filterwarnings("ignore:invalid value")
def test_what_cannot_be_finetuned_is_named(
    model: BertForMaskedLM, tokenizer: PreTrainedTokenizerFast, examples: Split
) -> None:
    with pytest.raises(FinetuneError, match="no examples"):
        encode(model, tokenizer, [], 40)
    with pytest.raises(FinetuneError, match="no pooling 'max'"):
        Classifier(model, 2, "max", 0.0)  # type: ignore[arg-type]
    broken = BertForMaskedLM(model.config)
    broken.bert.embeddings.word_embeddings.weight.data[:] = torch.nan
    with pytest.raises(FinetuneError, match="the loss is nan; lower the learning rate"):
        list(each_run(broken, tokenizer, "toy_number", *examples, QUICK, seeds=1))


# --- scores ---------------------------------------------------------------------------

GOLD = np.array([1.0, 1, 1, 1, 1, 0, 0, 0])
GIVEN = np.array([1, 1, 1, 0, 0, 1, 0, 0])  # TP 3, FN 2, FP 1, TN 2


def as_outputs(classes: np.ndarray, n: int = 2) -> np.ndarray:
    return np.eye(n)[classes]


def test_scores_worked_by_hand() -> None:
    both = scores(GLUE["mrpc"], as_outputs(GIVEN), GOLD)
    assert both == pytest.approx({"f1": 6 / 9, "accuracy": 5 / 8})  # 2TP / (2TP + FP + FN)
    cola = scores(GLUE["cola"], as_outputs(GIVEN), GOLD)
    matthews = (3 * 2 - 1 * 2) / math.sqrt((3 + 1) * (3 + 2) * (2 + 1) * (2 + 2))
    assert cola == pytest.approx({"mcc": matthews, "accuracy": 5 / 8})
    three = scores(
        GLUE["mnli"], as_outputs(np.array([0, 1, 2, 2]), 3), np.array([0.0, 1, 1, 2])
    )
    assert three == {"accuracy": 0.75}


def test_correlations() -> None:
    rng = np.random.default_rng(0)
    gold = rng.integers(0, 11, 50) / 2.0  # with ties, as STS-B has them
    given = gold + rng.normal(size=50)
    found = scores(GLUE["stsb"], given[:, None], gold)
    assert found["pearson"] == pytest.approx(np.corrcoef(gold, given)[0, 1])
    ranks = np.corrcoef(rankdata(gold), rankdata(given))[0, 1]
    assert found["spearman"] == pytest.approx(ranks)
    assert scores(GLUE["stsb"], np.ones((50, 1)), gold) == {"pearson": 0.0, "spearman": 0.0}


def test_the_majority_is_that_of_the_training_examples() -> None:
    train = [Example("a", "", label) for label in (1, 1, 0)]
    test = [Example("a", "", label) for label in (1, 0, 0, 0)]
    assert majority(GLUE["cola"], train, test) == {"mcc": 0.0, "accuracy": 0.25}
    assert majority(GLUE["mrpc"], train, test) == {"f1": 0.4, "accuracy": 0.25}
    assert majority(GLUE["mrpc"], [train[2]], test) == {"f1": 0.0, "accuracy": 0.75}


def test_hans_scores() -> None:
    """Neutral and contradiction are both no entailment."""
    outputs = as_outputs(np.array([0, 1, 2, 0, 0, 0]), 3)
    gold = np.array([1.0, 1, 0, 0, 1, 0])
    heuristics = ["overlap", "overlap", "overlap", "overlap", "subsequence", "subsequence"]
    assert hans_scores(outputs, gold, heuristics) == {
        "overlap": {"entailment": 0.5, "non-entailment": 0.5},
        "subsequence": {"entailment": 1.0, "non-entailment": 0.0},
    }


def test_hans_is_scored_after_mnli(
    model: BertForMaskedLM, tokenizer: PreTrainedTokenizerFast, examples: Split
) -> None:
    """A model taught that "the" first means entailment takes all of HANS for it."""
    train = [Example(e.text, e.text, 0) for e in examples[0][:64]]
    train += [Example("cat dog", e.text, 1 + i % 2) for i, e in enumerate(examples[0][64:128])]
    hans = (
        [Example(e.text, e.text, i % 2) for i, e in enumerate(examples[1][:20])],
        ["lexical_overlap"] * 20,
    )
    (row,) = each_run(model, tokenizer, "mnli", train, train, QUICK, 1, hans)
    assert row["mean"] >= 0.5  # entailment is told from the rest
    assert row["runs"][0]["hans"] == {
        "lexical_overlap": {"entailment": 1.0, "non-entailment": 0.0}
    }


# --- data -----------------------------------------------------------------------------

FILES = {
    "cola/in_domain_train.tsv": 'gj04\t1\t\tThe sailors rode.\nks08\t0\t*\tHim "rode.\n',
    "cola/in_domain_dev.tsv": "gj04\t1\t\tIn domain.\n",
    "cola/out_of_domain_dev.tsv": "gj04\t0\t*\tOut of domain.\n",
    "glue/SST-2/train.tsv": "sentence\tlabel\nso good \t1\nso bad \t0\n",
    "glue/SST-2/dev.tsv": "sentence\tlabel\nfine \t1\n",
    "glue/RTE/train.tsv": "index\tsentence1\tsentence2\tlabel\n0\tA\tB\tnot_entailment\n",
    "glue/RTE/dev.tsv": "index\tsentence1\tsentence2\tlabel\n0\tC\tD\tentailment\n",
    "glue/MRPC/train.tsv": "\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\n1\t5\t6\tA\tB\n",
    "glue/MRPC/dev.tsv": "\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\n0\t7\t8\tC\tD\n",
    "glue/STS-B/train.tsv": "index\tsentence1\tsentence2\tscore\n0\tA\tB\t2.500\n",
    "glue/STS-B/dev.tsv": "index\tsentence1\tsentence2\tscore\n0\tC\tD\t5.000\n",
    "mnli_small/mnli_en.train.jsonl": (
        '{"premise": "A", "hypothesis": "B", "label": "contradiction"}\n'
    ),
    "mnli_small/mnli_en.valid.jsonl": (
        '{"premise": "C", "hypothesis": "D", "label": "neutral"}\n'
    ),
    "hans_regenerated/hans_regenerated.tsv": (
        "gold_label\tsentence1\tsentence2\tpairID\theuristic\n"
        "non-entailment\tA b .\tB a .\tex0\tlexical_overlap\n"
        "entailment\tC d .\tC .\tex1\tconstituent\n"
    ),
}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        file = tmp_path / "data" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    return tmp_path / "data"


@pytest.mark.parametrize(
    ("task", "train", "test"),
    [
        (
            "cola",
            [("The sailors rode.", "", 1), ('Him "rode.', "", 0)],
            [("In domain.", "", 1), ("Out of domain.", "", 0)],
        ),
        ("sst2", [("so good ", "", 1), ("so bad ", "", 0)], [("fine ", "", 1)]),
        ("rte", [("A", "B", 1)], [("C", "D", 0)]),
        ("mrpc", [("A", "B", 1)], [("C", "D", 0)]),
        ("stsb", [("A", "B", 2.5)], [("C", "D", 5)]),
        ("mnli", [("A", "B", 2)], [("C", "D", 1)]),
    ],
)
def test_files_of_data(
    data: Path, monkeypatch: pytest.MonkeyPatch, task: str, train: list[Any], test: list[Any]
) -> None:
    assert read_task(task, folder=data) == (train, test)
    monkeypatch.setenv("SAS_DATA", str(data))
    assert read_task(task) == (train, test)


def test_a_limit_draws_the_same_sample_of_the_training_examples(data: Path) -> None:
    rows = "".join(f"w{i} \t{i % 2}\n" for i in range(50))
    (data / "glue/SST-2/train.tsv").write_text("sentence\tlabel\n" + rows)
    train, test = read_task("sst2", 20, data)
    assert train == read_task("sst2", 20, data)[0] and len({e.text for e in train}) == 20
    assert train != read_task("sst2", 50, data)[0][:20] and len(test) == 1


def test_hans_from_a_file(data: Path) -> None:
    examples, heuristics = read_hans(data)
    assert examples == [("A b .", "B a .", 0), ("C d .", "C .", 1)]
    assert heuristics == ["lexical_overlap", "constituent"]


@pytest.mark.parametrize(
    ("task", "file", "content", "complaint"),
    [
        ("rte", "glue/RTE/dev.tsv", "", "dev.tsv: no example in this file"),
        ("rte", "glue/RTE/dev.tsv", "index\tsentence1\n0\tA\n", "example 1: .*'sentence2'"),
        (
            "rte",
            "glue/RTE/dev.tsv",
            "sentence1\tsentence2\tlabel\nA\tB\tentailment\nA\t\tentailment\n",
            "example 2: .*a sentence is empty",
        ),
        ("rte", "glue/RTE/dev.tsv", "sentence1\tsentence2\tlabel\nA\tB\tx\n", "'x'"),
        ("sst2", "glue/SST-2/dev.tsv", "sentence\tlabel\nA\t2\n", "none of negative"),
        ("stsb", "glue/STS-B/dev.tsv", "sentence1\tsentence2\tscore\nA\tB\tnan\n", "'nan'"),
        ("mnli", "mnli_small/mnli_en.valid.jsonl", "{\n", "valid.jsonl, line 1"),
        ("mnli", "mnli_small/mnli_en.valid.jsonl", "[1]\n", "example 1: no example of mnli"),
        ("mnli", "mnli_small/mnli_en.valid.jsonl", b"\xff\xff\n", "line 1.*decode"),
        ("sst2", "glue/SST-2/dev.tsv", b"sentence\tlabel\n\xff\t1\n", "dev.tsv is no table"),
        ("sst2", "glue/SST-2/dev.tsv", None, "no data for sst2.*SAS_DATA"),
        ("hans", "hans_regenerated/hans_regenerated.tsv", None, "no data for hans"),
        ("hans", "hans_regenerated/hans_regenerated.tsv", "", "HANS: no example"),
        ("hans", "hans_regenerated/hans_regenerated.tsv", "gold_label\nx\n", "example 1"),
    ],
)
def test_data_that_cannot_be_used(
    data: Path, task: str, file: str, content: str | bytes | None, complaint: str
) -> None:
    if content is None:
        (data / file).unlink()
    else:
        (data / file).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(TaskError, match=complaint):
        read_hans(data) if task == "hans" else read_task(task, folder=data)


def test_an_unknown_task_is_named() -> None:
    with pytest.raises(TaskError, match="no task 'cloa'; there are cola, sst2"):
        read_task("cloa")


def test_toy_tasks_need_no_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAS_DATA", "/none")
    train, test = read_task("toy_number", 100)
    assert (len(train), len(test)) == (100, 1000)
    assert {*map(label_of, train)} == {0, 1}
    assert TASKS["toy_number"].labels == ("singular", "plural")


def test_data_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """From the hub at a pinned revision, where no folder is named."""
    import datasets

    calls: list[tuple[Any, ...]] = []

    def fake(*arguments: Any, **options: Any) -> list[dict[str, Any]]:
        calls.append((arguments, options))
        if arguments[0] == "csv":
            row = {"gold_label": "entailment", "sentence1": "A", "sentence2": "B"}
            return [{**row, "heuristic": "constituent"}]
        return [{column: column for column in GLUE[arguments[1]].columns} | {"label": 1}]

    monkeypatch.delenv("SAS_DATA", raising=False)
    monkeypatch.setattr(datasets, "load_dataset", fake)
    assert read_task("cola") == ([("sentence", "", 1)], [("sentence", "", 1)])
    assert read_task("mnli")[1] == [("premise", "hypothesis", 1)]
    assert read_hans() == ([("A", "B", 1)], ["constituent"])
    assert [call[1]["split"] for call in calls] == [
        *("train", "validation", "train", "validation_matched", "train")
    ]
    for arguments, options in calls[:4]:
        assert arguments[0] == "nyu-mll/glue" and len(options["revision"]) == 40
    assert "/hans/7299f6f" in calls[4][1]["data_files"]

    def offline(*arguments: Any, **options: Any) -> None:
        raise ConnectionError("no route")

    monkeypatch.setattr(datasets, "load_dataset", offline)
    with pytest.raises(TaskError, match=r"cannot fetch cola .*no route.*SAS_DATA.*toy task"):
        read_task("cola")
    with pytest.raises(TaskError, match="cannot fetch hans"):
        read_hans()
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(TaskError, match="pip install datasets"):
        read_task("cola")


@pytest.mark.parametrize(
    ("task", "sizes", "share"),
    [  # the sizes of GLUE, and the share of the commonest class of its validation set
        ("cola", (8551, 1043), 721 / 1043),
        ("sst2", (67349, 872), 444 / 872),
        ("rte", (2490, 277), 146 / 277),
        ("wnli", (635, 71), 40 / 71),
        ("mrpc", (3668, 408), 279 / 408),
        ("stsb", (5749, 1500), None),
        ("mnli", (7107, 1777), None),
    ],
)
def test_reads_real_data(
    sas_data: Path, task: str, sizes: tuple[int, int], share: float | None
) -> None:
    """Every line of the files. Copies of GLUE differ by a pair of MRPC and two labels of
    CoLA."""
    read = train, test = read_task(task, folder=sas_data)
    for examples, files, size in zip(read, GLUE[task].files, sizes, strict=True):
        lines = sum((sas_data / f).read_bytes().strip().count(b"\n") + 1 for f in files)
        headings = 0 if task in {"cola", "mnli"} else 1
        assert len(examples) == lines - headings and abs(len(examples) - size) <= 1
    assert all(bool(e.second) == (task not in {"cola", "sst2"}) for e in train + test)
    labels = [label_of(e) for e in test]
    if share:
        most = max(labels.count(0), labels.count(1)) / len(labels)
        assert most == pytest.approx(share, abs=0.003)
    if task == "stsb":
        assert (min(e.label for e in train), max(e.label for e in train)) == (0, 5)


def test_reads_real_hans(sas_data: Path) -> None:
    examples, heuristics = read_hans(sas_data)
    assert len(examples) == len(heuristics) == 30000
    for heuristic in ("lexical_overlap", "subsequence", "constituent"):
        labels = [e.label for e, h in zip(examples, heuristics, strict=True) if h == heuristic]
        assert (labels.count(0), labels.count(1)) == (5000, 5000)


# --- the command ----------------------------------------------------------------------


def test_glue_as_json(
    sas: Sas,
    model: BertForMaskedLM,
    tokenizer: PreTrainedTokenizerFast,
    model_folder: Path,
    data: Path,
    tmp_path: Path,
) -> None:
    out = tmp_path / "figures.json"
    tasks = ("--task", "rte", "--task", "hans", "--data", data, "--epochs", 1)
    rest = ("--learning-rate", 0.01, "--seeds", 2, "--out", out, "--json")
    result = sas("glue", model_folder, *tasks, *rest)
    assert result.code == 0, result.err
    figures = json.loads(result.out)
    assert figures == json.loads(out.read_text()) and figures["complete"] is True
    assert [row["task"] for row in figures["tasks"]] == ["rte", "mnli"]
    recipe = Recipe(epochs=1, learning_rate=0.01)
    assert figures["recipe"] == vars(recipe)
    for row in figures["tasks"]:
        extra = read_hans(data) if row["task"] == "mnli" else None
        read = read_task(row["task"], folder=data)
        *_, expected = each_run(model, tokenizer, row["task"], *read, recipe, 2, extra)
        assert row == json.loads(json.dumps(expected))
        assert all(("hans" in run) == (row["task"] == "mnli") for run in row["runs"])


def test_glue_as_a_table(sas: Sas, model_folder: Path, data: Path) -> None:
    arguments = ("glue", model_folder, "--task", "mrpc", "--task", "hans", "--data", data)
    figures = json.loads(sas(*arguments, "--seeds", 2, "--json").out)
    lines = [line.split() for line in sas(*arguments, "--seeds", 2).out.splitlines()]
    row = figures["tasks"][0]
    for metric in ("f1", "accuracy"):
        mean = sum(run[metric] for run in row["runs"]) / 2
        (line,) = [line for line in lines if line[:2] == ["mrpc", metric]]
        assert line[2] == f"{mean:.3f}" and line[4] == f"{row['majority'][metric]:.3f}"
        assert line[5:] == ["2", "1", "1", "0"]
    assert ["HANS,", "after", "mnli", "entailment", "non-entailment"] in lines
    runs = [run["hans"] for run in figures["tasks"][1]["runs"]]
    for heuristic, label in (
        ("lexical_overlap", "non-entailment"),
        ("constituent", "entailment"),
    ):
        mean = f"{sum(run[heuristic][label] for run in runs) / 2:.3f}"
        cells = [mean, "-"] if label == "entailment" else ["-", mean]
        assert [heuristic, *cells] in lines


def test_errors_of_glue(sas: Sas, model_folder: Path, data: Path, tmp_path: Path) -> None:
    one_line_error(sas("glue", model_folder, "--task", "guess"), "no task 'guess'")
    nowhere = ("--task", "rte", "--data", tmp_path / "none")
    one_line_error(sas("glue", model_folder, *nowhere), "no data for rte")
    (data / "glue/RTE/train.tsv").write_text("")
    empty = ("--task", "rte", "--data", data)
    one_line_error(sas("glue", model_folder, *empty), "no example in this file")
    broken, good = tmp_path / "broken", ("--task", "sst2", "--data", data)
    one_line_error(sas("glue", tmp_path / "none", *good), "no such folder")
    shutil.copytree(model_folder, broken)
    spoil(broken)
    one_line_error(sas("glue", broken, *good), "not finite (NaN or inf)")
    assert sas("glue", model_folder, "--seeds", 0).code == 2


@pytest.mark.parametrize("problem", [KeyboardInterrupt(), FinetuneError("the loss is nan")])
def test_runs_before_a_stop_are_shown(
    sas: Sas,
    model_folder: Path,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    problem: BaseException,
) -> None:
    trained = finetune.finetune
    calls: list[int] = []

    def stops(*arguments: Any) -> Classifier:
        calls.append(1)
        if len(calls) == 3:
            raise problem
        return trained(*arguments)

    monkeypatch.setattr(finetune, "finetune", stops)
    tasks = ("--task", "rte", "--task", "sst2", "--data", data, "--seeds", 2)
    out = tmp_path / "figures.json"
    result = sas("glue", model_folder, *tasks, "--json", "--out", out)
    assert result.code == (130 if isinstance(problem, KeyboardInterrupt) else 1)
    for text in (result.out, out.read_text()):
        figures = json.loads(text)
        assert figures["complete"] is False
        assert [(r["task"], len(r["runs"])) for r in figures["tasks"]] == [("rte", 2)]
    assert glue_table(figures).startswith("Not complete")


def test_help_has_an_example_and_every_task(sas: Sas) -> None:
    text = sas("glue", "--help").out
    assert "sas glue bert-base-uncased" in text
    for name in (*glue.TASKS, "hans"):
        assert name in text.replace("\n", " "), name
