"""Intrinsic dimension, weight norms and Fisher trace against other ways to get them."""

from __future__ import annotations

import copy
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Sas, one_line_error
from scipy.spatial.distance import cdist
from skdim.id import TwoNN
from torch.nn.functional import cross_entropy
from transformers import BertForMaskedLM, PreTrainedTokenizerFast

from sas_lib.complexity import (
    DimensionError,
    _bootstrap,
    dimension_of_ratios,
    layer_number,
    neighbour_ratios,
    sentence_states,
    squared_weight_norm,
    two_nn,
    weight_distance,
    without_duplicates,
)
from sas_lib.complexity_measures import complexity_measure
from sas_lib.fisher import fisher_trace, squared_gradients
from sas_lib.model import ModelError, small_bert

# --- TwoNN: the estimate --------------------------------------------------------------


def gaussian(n: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, width))


def sphere(n: int, dimension: int, seed: int = 0) -> np.ndarray:
    points = gaussian(n, dimension + 1, seed)
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def flat(n: int, dimension: int, seed: int = 0) -> np.ndarray:
    """A filled cube of ``dimension`` axes, turned in 40 and set off from the origin."""
    turn, _ = np.linalg.qr(gaussian(40, 40, 9))
    cube = np.random.default_rng(seed).uniform(size=(n, dimension))
    return cube @ turn[:dimension] + 5.0


def swiss_roll(n: int, seed: int = 0) -> np.ndarray:
    along, across = np.random.default_rng(seed).uniform(size=(2, n))
    angle = 1.5 * math.pi * (1 + 2 * along)
    return np.stack([angle * np.cos(angle), 21 * across, angle * np.sin(angle)], axis=1)


def two_nearest(points: np.ndarray, metric: str) -> np.ndarray:
    """Distances to the first and second neighbour from scipy's own matrix, [n, 2]."""
    distance = np.sort(cdist(points, points, metric), axis=1)
    return distance[:, 1:3]


@pytest.mark.filterwarnings("ignore:divide by zero")  # scikit-dimension's, at discard 0
@pytest.mark.parametrize("shape", [(30, 3), (700, 10), (700, 60)])
@pytest.mark.parametrize("discard", [0.0, 0.1, 0.25])
def test_equals_scikit_dimension(shape: tuple[int, int], discard: float) -> None:
    points = gaussian(*shape)
    # With none discarded scikit-dimension's line has a point at infinity.
    for estimator, name in (("regression", "linear"), ("mle", "mle")):
        if name == "linear" and not discard:
            continue
        expected = TwoNN(discard_fraction=discard, method=name).fit(points).dimension_
        found = two_nn(points, estimator=estimator, discard=discard, resamples=0)
        assert found.dimension == pytest.approx(expected, rel=1e-9, abs=1e-6)
        assert (found.n, found.duplicates) == (shape[0], 0)


@pytest.mark.parametrize("estimator", ["regression", "mle"])
def test_cosine_equals_scikit_dimension_on_the_same_ratios(estimator: str) -> None:
    points = gaussian(400, 12) * np.random.default_rng(1).uniform(1, 5, size=(400, 1))
    method = {"regression": "linear", "mle": "mle"}[estimator]
    expected = TwoNN(dist=True, method=method).fit(two_nearest(points, "cosine")).dimension_
    found = two_nn(points, "cosine", estimator, resamples=0)
    assert found.dimension == pytest.approx(expected, abs=1e-6)


def test_the_line_by_hand() -> None:
    # Ratios that are the quantiles of Pareto's law with exponent 3 lie on a line of slope 3.
    n, d = 50, 3.0
    ratios = (1 - np.arange(1, n) / n) ** (-1 / d)
    assert dimension_of_ratios(np.append(ratios, 1e9)) == pytest.approx(d)
    # The last ratio has F = 1 and cannot be on a line: it is left out whatever is asked.
    assert dimension_of_ratios(np.append(ratios, 1e9), discard=0) == pytest.approx(d)


def test_maximum_likelihood_by_hand() -> None:
    ratios = np.exp([2.0, 1.0, 1.0])
    assert dimension_of_ratios(ratios, "mle", discard=0) == pytest.approx(2 / 4)
    # One of ten discarded: known only to be at least as large as the largest that is kept.
    ratios = np.exp([*[1.0] * 8, 2.0, 50.0])
    assert dimension_of_ratios(ratios, "mle", discard=0.1) == pytest.approx(8 / (8 + 2 + 2))


@pytest.mark.parametrize("estimator", ["regression", "mle"])
@pytest.mark.parametrize(
    ("points", "metric", "expected"),
    [
        (sphere(2000, 1), "euclidean", 1),
        (sphere(2000, 2), "euclidean", 2),
        (sphere(2000, 5), "euclidean", 5),
        (sphere(2000, 5), "angular", 5),
        (sphere(2000, 5), "cosine", 2.5),
        (flat(2000, 1), "euclidean", 1),
        (flat(2000, 3), "euclidean", 3),
        (flat(2000, 5), "euclidean", 5),
        (swiss_roll(2000), "euclidean", 2),
    ],
)
def test_known_dimensions(
    points: np.ndarray, metric: str, expected: float, estimator: str
) -> None:
    found = two_nn(points, metric, estimator)
    assert found.dimension == pytest.approx(expected, rel=0.08)
    low, high = found.interval
    # Edges and curvature bias the estimate by some per cent more than chance does.
    assert low * 0.95 < expected < high * 1.05


def test_angles_do_not_see_lengths() -> None:
    points = gaussian(300, 6)
    longer = points * np.random.default_rng(1).uniform(0.1, 9, size=(300, 1))
    for metric in ("cosine", "angular"):
        assert two_nn(longer, metric, resamples=0).dimension == pytest.approx(
            two_nn(points, metric, resamples=0).dimension
        )
    unit = points / np.linalg.norm(points, axis=1, keepdims=True)
    whole = two_nn(unit, resamples=0).dimension
    assert two_nn(points, "cosine", resamples=0).dimension == pytest.approx(whole / 2)
    angle = np.arccos(np.clip(1 - cdist(points, points, "cosine"), -1, 1))
    two = np.sort(angle, axis=1)[:, 1:3]
    assert two_nn(points, "angular", resamples=0).dimension == pytest.approx(
        dimension_of_ratios(two[:, 1] / two[:, 0]), rel=1e-6
    )


def test_moving_turning_and_stretching_change_nothing() -> None:
    points = gaussian(300, 4)
    turn, _ = np.linalg.qr(gaussian(4, 4, 1))
    moved = 1e-4 * (points @ turn) + 1e-4
    assert two_nn(moved, resamples=0).dimension == pytest.approx(
        two_nn(points, resamples=0).dimension
    )


def test_nearly_identical_points_are_told_apart_in_float64() -> None:
    # As [CLS] states early in training: a spread of 1e-4 around one long vector.
    common = gaussian(1, 30, 5)
    points = common + 1e-4 * flat(500, 3) @ gaussian(40, 30, 6)
    found = two_nn(points)
    assert found.duplicates == 0
    assert found.dimension == pytest.approx(3, rel=0.15)


# --- TwoNN: duplicates, interval, errors ----------------------------------------------


def test_exact_and_near_duplicates_are_dropped_and_counted() -> None:
    points = gaussian(600, 8)
    copies = points[100:300]
    for dtype, rounding in ((np.float64, 1e-12), (np.float32, 1e-6)):
        near = points[:50] + rounding
        doubled = np.concatenate([points, copies, near]).astype(dtype)
        assert two_nn(doubled).duplicates == 250
        assert two_nn(doubled) == replace(two_nn(points.astype(dtype)), duplicates=250)
        # The first of each stays.
        assert np.array_equal(without_duplicates(doubled, 1e-5), doubled[:600])


def test_near_points_in_float64_are_no_duplicates() -> None:
    """Nearest neighbours of many points on a line are near by nature."""
    points = np.concatenate([flat(2000, 1), flat(2000, 1) + 1e-6])
    assert two_nn(points).duplicates == 0
    assert two_nn(points.astype(np.float32)).duplicates >= 2000
    assert two_nn(points, tolerance=1e-5).duplicates >= 2000


def test_how_near_is_a_duplicate() -> None:
    points = np.full((3, 4), 1.0)  # of length 2
    points[1, 0] += 2.2e-3
    points[2, 0] -= 1.8e-3
    assert len(without_duplicates(points, 1e-3)) == 2
    assert np.array_equal(without_duplicates(points, 1e-3), points[:2])
    assert len(without_duplicates(points, 1e-4)) == 3
    # A chain: the last is near the second, which is near the first.
    chain = np.full((3, 4), 1.0)
    chain[:, 0] += [0, 1.5e-3, 3e-3]
    assert len(without_duplicates(chain, 1e-3)) == 1


def test_directions_alone_are_duplicates_where_angles_count() -> None:
    points = gaussian(60, 5)
    doubled = np.concatenate([points, 3 * points[:20]])
    assert two_nn(doubled, "cosine").duplicates == 20
    assert two_nn(doubled).duplicates == 0


def test_the_interval_is_that_of_the_luck_of_the_draw() -> None:
    """Its spread is that of estimates from new points; with ratios drawn one by one it is
    a fifth to a quarter too small, which this would find."""
    estimates, spreads = [], []
    for seed in range(150):
        found = two_nn(sphere(250, 1, seed), resamples=100, seed=seed)
        estimates.append(found.dimension)
        spreads.append((found.interval[1] - found.interval[0]) / (2 * 1.96))
    assert np.mean(spreads) == pytest.approx(np.std(estimates), rel=0.15)


def test_the_interval_narrows_with_points_and_repeats_with_the_seed() -> None:
    few, many = two_nn(sphere(100, 3)), two_nn(sphere(1600, 3))
    width = [found.interval[1] - found.interval[0] for found in (few, many)]
    assert 2.5 < width[0] / width[1] < 6.5  # about 4, the root of 16
    for found in (few, many):
        assert found.interval[0] < found.dimension < found.interval[1]
    ratios, nearest = neighbour_ratios(sphere(100, 3), "euclidean")
    drawn = sorted(_bootstrap(ratios, nearest, "regression", 0.1, 41, 0))
    # Of 41 values the second and the last but one are the percentiles 2.5 and 97.5.
    assert two_nn(sphere(100, 3), resamples=41).interval == pytest.approx(drawn[1:40:38])
    assert two_nn(sphere(100, 3)) == few
    assert two_nn(sphere(100, 3), seed=1).interval != few.interval


def test_too_few_points() -> None:
    points = gaussian(20, 3)
    assert two_nn(points).n == 20
    with pytest.raises(DimensionError, match=r"19 usable points of 19 \(0 exact"):
        two_nn(points[:19])
    with pytest.raises(DimensionError, match=r"19 usable points of 24 \(5 exact") as error:
        two_nn(np.concatenate([points[:19], points[:5]]))
    assert (error.value.usable, error.value.duplicates) == (19, 5)
    with pytest.raises(DimensionError, match="1 usable points of 500"):
        two_nn(np.ones((500, 4)))
    with pytest.raises(DimensionError, match="0 usable points"):
        two_nn(np.ones((0, 4)))


def test_points_without_a_dimension() -> None:
    points = gaussian(50, 3)
    with pytest.raises(DimensionError, match="shape"):
        two_nn(points[:, 0])
    for bad in (np.nan, np.inf):
        with pytest.raises(DimensionError, match="not finite"):
            two_nn(np.where(np.arange(150).reshape(50, 3) == 7, bad, points))
    with pytest.raises(DimensionError, match="zero vector"):
        two_nn(np.concatenate([points, np.zeros((1, 3))]), "cosine")
    assert two_nn(np.concatenate([points, np.zeros((1, 3))])).n == 51
    grid = np.stack(np.meshgrid(np.arange(6.0), np.arange(6.0)), axis=-1).reshape(-1, 2)
    with pytest.raises(DimensionError, match="grid"):
        two_nn(grid)


def test_options_that_do_not_exist() -> None:
    points = gaussian(50, 3)
    with pytest.raises(ValueError, match="no metric 'manhattan'; there are euclidean"):
        two_nn(points, "manhattan")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no estimator 'bayes'; there are regression"):
        two_nn(points, estimator="bayes")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="share to discard"):
        two_nn(points, discard=1.0)


# --- states ---------------------------------------------------------------------------


@pytest.mark.parametrize("layer", [0, 1, -1])
@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_states_are_those_of_each_sentence_alone(
    model: BertForMaskedLM,
    tokenizer: PreTrainedTokenizerFast,
    texts: list[str],
    layer: int,
    pooling: str,
) -> None:
    some = [texts[700], "the dog", texts[3], "the king misunderstands ☃ that", "that"]
    done: list[int] = []
    found = sentence_states(
        model, tokenizer, some, layer, pooling, batch_pieces=60, progress=done.append
    )
    assert found.dtype == np.float32
    assert sum(done) == 5 and 1 < len(done) < 5
    for text, state in zip(some, found, strict=True):
        ids = tokenizer(text, return_tensors="pt").input_ids
        with torch.no_grad():
            hidden = model(ids, output_hidden_states=True).hidden_states[layer][0]
        # [UNK], of the snowman, stands for a word; [CLS] and [SEP] do not.
        expected = hidden[0] if pooling == "cls" else hidden[1:-1].mean(0)
        assert np.allclose(state, expected.numpy(), atol=1e-5)


def test_states_that_cannot_be_had(
    model: BertForMaskedLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    with pytest.raises(ModelError, match="is the text empty"):
        sentence_states(model, tokenizer, [])
    with pytest.raises(ModelError, match=r"sentence 2 has \d+ pieces; the model takes 1 to 38"):
        sentence_states(model, tokenizer, ["the dog", "the dog " * 30])
    assert sentence_states(model, tokenizer, ["that " * 38]).shape == (1, 32)
    with pytest.raises(ModelError, match="sentence 1 has 39 pieces"):
        sentence_states(model, tokenizer, ["that " * 39])
    with pytest.raises(ModelError, match="sentence 1 has 0 pieces"):
        sentence_states(model, tokenizer, [" "])
    with pytest.raises(ModelError, match=r"no layer 3; this model has 0 .* to 2"):
        sentence_states(model, tokenizer, ["the dog"], layer=3)
    with pytest.raises(ModelError, match="no layer -4"):
        sentence_states(model, tokenizer, ["the dog"], layer=-4)
    with pytest.raises(ValueError, match="no pooling 'max'; there are cls, mean"):
        sentence_states(model, tokenizer, ["the dog"], pooling="max")  # type: ignore[arg-type]
    assert [layer_number(model, layer) for layer in (-3, 0, 2, -1)] == [0, 0, 2, 2]


def test_without_cls_only_the_mean_can_be_had(
    model: BertForMaskedLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    without = copy.deepcopy(tokenizer)
    without.cls_token = None
    with pytest.raises(ModelError, match="use mean pooling"):
        sentence_states(model, without, ["the dog"])
    assert sentence_states(model, without, ["the dog"], pooling="mean").shape == (1, 32)


# --- weights --------------------------------------------------------------------------


def test_weights_count_once_and_all_of_them() -> None:
    model = small_bert(50, layers=1, width=8, heads=2, max_length=10)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(2.0)
    embeddings = (50 + 10 + 2) * 8 + 2 * 8
    layer = 4 * (8 * 8 + 8) + (8 * 32 + 32) + (32 * 8 + 8) + 2 * 2 * 8
    head = (8 * 8 + 8) + 2 * 8 + 50  # its output matrix is that of the embeddings
    assert squared_weight_norm(model) == 4.0 * (embeddings + layer + head)


def test_distance_of_weights() -> None:
    model = small_bert(50, layers=1, width=8, heads=2, max_length=10)
    other = copy.deepcopy(model)
    assert weight_distance(model, other) == 0.0
    with torch.no_grad():
        other.bert.embeddings.word_embeddings.weight[:3, 0] += 1.0  # tied: moves once
        other.cls.predictions.bias[7] -= 1.0
    assert weight_distance(model, other) == pytest.approx(2.0, rel=1e-6)
    assert weight_distance(other, model) == weight_distance(model, other)
    with pytest.raises(ModelError, match="differ in shape"):
        weight_distance(model, small_bert(51, layers=1, width=8, heads=2, max_length=10))
    with pytest.raises(ModelError, match="differ in shape"):
        weight_distance(model, small_bert(50, layers=2, width=8, heads=2, max_length=10))


# --- Fisher ---------------------------------------------------------------------------


def squared_gradient(
    model: BertForMaskedLM, tokenizer: PreTrainedTokenizerFast, text: str, position: int
) -> float:
    """The plain way: one example, one backward pass through the model's own forward."""
    ids = tokenizer(text, return_tensors="pt").input_ids
    label = ids[0, position].clone()
    ids[0, position] = tokenizer.mask_token_id
    model.zero_grad()
    cross_entropy(model(ids).logits[0, position], label).backward()
    total = sum(float((p.grad.double() ** 2).sum()) for p in model.parameters())
    model.zero_grad(set_to_none=True)
    return total


@pytest.mark.parametrize("chunk", [1, 3, None])
def test_squared_gradients_equal_a_plain_loop(
    model: BertForMaskedLM,
    tokenizer: PreTrainedTokenizerFast,
    texts: list[str],
    chunk: int | None,
) -> None:
    some = [*texts[5:950:90], "the dog", texts[5]]
    done: list[int] = []
    found = squared_gradients(model, tokenizer, some, 3, chunk, done.append)
    assert sum(done) == len(some)
    places = []
    for text, value in zip(some, found, strict=True):
        pieces = len(tokenizer(text)["input_ids"])
        each = [squared_gradient(model, tokenizer, text, i) for i in range(1, pieces - 1)]
        # The masked piece is one of them; two of a sentence may have the same by chance.
        (matches,) = np.nonzero(np.isclose(each, value, rtol=1e-5))
        assert 1 <= len(matches) <= 2
        places.append(int(matches[0]))
    assert len(set(places)) > 3
    assert not any(p.requires_grad is False or p.grad is not None for p in model.parameters())


def test_the_masked_piece_depends_on_seed_and_place_alone(
    model: BertForMaskedLM, tokenizer: PreTrainedTokenizerFast, texts: list[str]
) -> None:
    some = texts[5:950:90]
    found = squared_gradients(model, tokenizer, some)
    assert np.allclose(squared_gradients(model, tokenizer, some[:4]), found[:4], rtol=1e-4)
    assert not np.allclose(squared_gradients(model, tokenizer, some, seed=1), found, rtol=1e-2)
    repeated = squared_gradients(model, tokenizer, texts[:1] * 12)
    assert np.ptp(repeated) > 1e-2 * repeated.mean()


def test_trace_and_its_error(
    model: BertForMaskedLM, tokenizer: PreTrainedTokenizerFast, texts: list[str]
) -> None:
    squares = squared_gradients(model, tokenizer, texts[:30], seed=2)
    with torch.inference_mode():  # as measures are taken on the way
        trace, error = fisher_trace(model, tokenizer, texts[:30], seed=2)
    assert trace == pytest.approx(squares.mean())
    assert error == pytest.approx(np.sqrt(squares.var() / 29))
    assert math.isnan(fisher_trace(model, tokenizer, texts[:1])[1])
    with pytest.raises(ModelError, match="is the text empty"):
        fisher_trace(model, tokenizer, [])


# --- rows of a run's table ------------------------------------------------------------


def test_rows_of_complexity(
    model: BertForMaskedLM, tokenizer: PreTrainedTokenizerFast, texts: list[str]
) -> None:
    some, initial = texts[:960:12], copy.deepcopy(model)
    with torch.no_grad():
        initial.cls.predictions.bias[0] += 3.0
    rows = complexity_measure(some, initial, fisher_texts=10)(model, tokenizer)
    table = {(row["metric"], row.get("detail")): row["value"] for row in rows}
    assert len(table) == len(rows) == 4 * 5 + 4
    for pooling in ("cls", "mean"):
        for metric in ("euclidean", "cosine"):
            states = sentence_states(model, tokenizer, some, 2, pooling)
            expected, where = two_nn(states, metric), f"{pooling} {metric}"
            assert table["dimension", where] == expected.dimension
            assert (table["dimension_low", where], table["dimension_high", where]) == (
                expected.interval
            )
            assert table["dimension_n", where] == expected.n
            assert table["dimension_duplicates", where] == expected.duplicates
    assert {row.get("layer") for row in rows if "dimension" in row["metric"]} == {2}
    assert table["squared_weight_norm", None] == squared_weight_norm(model)
    assert table["weight_distance", None] == pytest.approx(3.0)
    trace = fisher_trace(model, tokenizer, some[:10])
    assert table["fisher_trace", None] == trace[0]
    assert table["fisher_trace_standard_error", None] == trace[1]
    bare = complexity_measure(some, fisher_texts=0)(model, tokenizer)
    assert {row["metric"] for row in bare} == {
        "dimension",
        "dimension_low",
        "dimension_high",
        "dimension_n",
        "dimension_duplicates",
        "squared_weight_norm",
    }


def test_states_that_are_all_alike_lose_nothing_else(
    model: BertForMaskedLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    numb = copy.deepcopy(model)
    with torch.no_grad():
        numb.bert.embeddings.word_embeddings.weight.zero_()
    texts = ["the dog sees that king", "the king sees that dog"] * 15
    rows = complexity_measure(texts, fisher_texts=0)(numb, tokenizer)
    table = {(row["metric"], row.get("detail")): row["value"] for row in rows}
    assert table["dimension_n", "cls euclidean"] == 1
    assert table["dimension_duplicates", "cls euclidean"] == 29
    assert ("dimension", "cls euclidean") not in table
    assert table["squared_weight_norm", None] == squared_weight_norm(numb)


# --- the command ----------------------------------------------------------------------


def test_dimension_as_json_and_as_a_table(
    sas: Sas,
    model_folder: Path,
    model: BertForMaskedLM,
    tokenizer: PreTrainedTokenizerFast,
    texts: list[str],
    tmp_path: Path,
) -> None:
    some = [*texts[:960:8], *texts[:160:8]]  # twenty of them twice
    text = tmp_path / "text.txt"
    text.write_text("\n".join(some))
    code, out, err = sas("dimension", model_folder, text, "--json")
    assert (code, err) == (0, "")
    expected = two_nn(sentence_states(model, tokenizer, some))
    figures = json.loads(out)
    assert figures == {
        "dimension": pytest.approx(expected.dimension, rel=1e-6),
        "interval": pytest.approx(list(expected.interval), rel=1e-6),
        "n": 120,
        "duplicates": 20,
        "layer": 2,
        "pooling": "cls",
        "metric": "euclidean",
        "estimator": "regression",
    }
    options = "--layer 1 --pooling mean --metric cosine --estimator mle --seed 3".split()
    options += ["--sentences", "60"]
    _, out, _ = sas("dimension", model_folder, text, "--json", *options)
    states = sentence_states(model, tokenizer, some[:60], 1, "mean")
    expected = two_nn(states, "cosine", "mle", seed=3)
    figures = json.loads(out)
    assert figures["dimension"] == pytest.approx(expected.dimension, rel=1e-6)
    assert figures["interval"] == pytest.approx(list(expected.interval), rel=1e-6)
    assert [figures[k] for k in ("layer", "pooling", "metric", "estimator", "n")] == [
        *(1, "mean", "cosine", "mle"),
        expected.n,
    ]
    _, out, _ = sas("dimension", model_folder, text, *options)
    assert f"{expected.dimension:.2f}  (95% interval {expected.interval[0]:.2f} to" in out
    assert "mean of layer 1, cosine distance, mle" in out


def test_dimension_says_what_is_wrong_in_one_line(
    sas: Sas, model_folder: Path, texts: list[str], tmp_path: Path
) -> None:
    few, long, empty = (tmp_path / name for name in ("few.txt", "long.txt", "empty.txt"))
    few.write_text("\n".join(texts[:100:10]))
    long.write_text("\n".join([*texts[:960:24], "the dog " * 50]))
    empty.write_text("")
    for arguments, part in [
        ((model_folder, few), "10 usable points of 10"),
        ((model_folder, long), "sentence 41 has "),
        ((model_folder, empty), "no sentence"),
        ((model_folder, tmp_path / "absent.txt"), "absent.txt"),
        ((tmp_path / "nothing", few), "there is no such folder"),
        ((model_folder, few, "--layer", 7), "no layer 7"),
    ]:
        one_line_error(sas("dimension", *arguments, "--json"), part)
    code, out, _ = sas("dimension", model_folder, long, "--json", "--max-length", 38)
    assert code == 0 and json.loads(out)["n"] == 40


def test_dimension_help_has_an_example(sas: Sas) -> None:
    code, out, _ = sas("dimension", "--help")
    assert code == 0
    assert "sas dimension bert-base-uncased" in out
    for option in ("--json", "--layer", "--pooling", "--metric", "--estimator", "--max-length"):
        assert f"  {option}" in out
