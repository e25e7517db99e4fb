"""How complex are a model's states, and its weights?

**Intrinsic dimension** by TwoNN (Facco, d'Errico, Rodriguez and Laio 2017,
doi:10.1038/s41598-017-11873-y). Where points lie evenly on a manifold of d dimensions, the
ratio of the distances to a point's second and first neighbour follows a Pareto law with
exponent d, whatever the density. d is read off the ratios in one of two ways:

- ``regression``, as published: the slope of the line through the origin that fits
  -log(1 - F) to the log ratios, F being their empirical distribution, without the largest
  tenth of the ratios;
- ``mle``: maximum likelihood, unbiased, the same tenth counted as censored.

The answer holds at the scale of nearest neighbours, hence for this many points. With few
points for the dimension (above ten, say) it is too low; compare like with like.

**Weights**: the squared norm, and the distance from another model such as the one at
initialisation. The Fisher information is in ``fisher``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from scipy.spatial.distance import cdist
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from sas_lib.model import ModelError
from sas_lib.sentence_batches import encode_checked, length_groups, padded, special_ids

Metric = Literal["euclidean", "cosine", "angular"]
Estimator = Literal["regression", "mle"]
Pooling = Literal["cls", "mean"]

MIN_POINTS = 20
# Points nearer than this share of their length count as one. A model computes in float32: one
# sentence in two batches gives states that differ by some 2e-7 of their length, and from 1e-5
# on a distance is right to a few per cent. Dropping more would lose the nearest neighbours
# that the estimate rests on.
TOLERANCE = {"float32": 1e-5, "float64": 1e-9}
_CHUNK = 256  # rows of a distance matrix in memory


class DimensionError(ValueError):
    """No dimension can be estimated from these points; the message says why.

    usable: how many points were left. duplicates: how many had been dropped.
    """

    def __init__(self, message: str, usable: int = 0, duplicates: int = 0) -> None:
        super().__init__(message)
        self.usable, self.duplicates = usable, duplicates


@dataclass(frozen=True)
class Dimension:
    """An intrinsic dimension with its 95% bootstrap interval.

    n: points it rests on. duplicates: points dropped before.
    """

    dimension: float
    interval: tuple[float, float]
    n: int
    duplicates: int


def two_nn(
    points: np.ndarray,
    metric: Metric = "euclidean",
    estimator: Estimator = "regression",
    discard: float = 0.1,
    tolerance: float | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> Dimension:
    """TwoNN intrinsic dimension of points, [n, coordinates]; computed in float64.

    metric: ``cosine`` is 1 - cos, the distance of the study. It grows with the *square* of
    the angle, so it gives half the dimension of the directions; ``angular``, the angle
    itself, gives all of it. discard: the share of the largest ratios to leave out.
    tolerance: see ``without_duplicates``; 1e-5 for points that come as float32, as states do,
    and 1e-9 for others.

    The interval is the 2.5th to 97.5th percentile over ``resamples`` bootstrap samples of
    the *ratios*. Drawing points again would make duplicates, and drawing fewer of them would
    change the scale that is looked at. Two points that are each other's nearest share a
    distance, so their ratios are drawn together: drawn singly, the interval is a fifth too
    narrow. It tells the luck of the draw, not the bias by few points, edges or curvature.

    Raises:
        DimensionError: fewer than 20 points that are no duplicates, values that are not
            finite, no direction (a zero vector) where angles count, or equal distances.
        ValueError: no such metric or estimator, or ``discard`` not in [0, 1).
    """
    if tolerance is None:
        tolerance = TOLERANCE.get(str(np.asarray(points).dtype), TOLERANCE["float64"])
    usable = without_duplicates(_prepared(points, metric), tolerance)
    duplicates = len(points) - len(usable)
    if len(usable) < MIN_POINTS:
        raise DimensionError(
            f"{len(usable)} usable points of {len(points)} ({duplicates} exact or near "
            f"duplicates); an intrinsic dimension needs {MIN_POINTS} or more: use more "
            "sentences, or a later checkpoint if the states have not yet come apart",
            len(usable),
            duplicates,
        )
    ratios, nearest = neighbour_ratios(usable, metric)
    dimension = dimension_of_ratios(ratios, estimator, discard)
    drawn = _bootstrap(ratios, nearest, estimator, discard, resamples, seed)
    if not np.isfinite([dimension, *drawn]).all():
        raise DimensionError(
            "too many points have two nearest neighbours at the same distance, as on a grid",
            len(usable),
            duplicates,
        )
    low, high = np.percentile(drawn, [2.5, 97.5]) if resamples else (np.nan, np.nan)
    return Dimension(dimension, (float(low), float(high)), len(usable), duplicates)


def _prepared(points: np.ndarray, metric: Metric) -> np.ndarray:
    """The points in float64; brought to length 1 where only directions count."""
    if metric not in get_args(Metric):
        raise ValueError(f"no metric {metric!r}; there are {', '.join(get_args(Metric))}")
    points = np.asarray(points, dtype=np.float64)
    if points.ndim != 2:
        raise DimensionError(f"points must be [n, coordinates]; got shape {points.shape}")
    if not np.isfinite(points).all():
        raise DimensionError("points with values that are not finite (NaN or inf)")
    if metric == "euclidean":
        return points
    lengths = np.linalg.norm(points, axis=1, keepdims=True)
    if not lengths.all():
        raise DimensionError("a zero vector has no direction; use the Euclidean distance")
    return points / lengths


def without_duplicates(points: np.ndarray, tolerance: float) -> np.ndarray:
    """The points, [n, coordinates], without exact and near duplicates of *earlier* ones.

    A point is dropped when it lies within ``tolerance`` times the points' root mean square
    length of any earlier point. Those left are all farther apart than that.
    """
    reach = tolerance * np.sqrt((points**2).sum(1).mean()) if len(points) else 0.0
    keep = np.ones(len(points), dtype=bool)
    for start in range(0, len(points), _CHUNK):
        rows = points[start : start + _CHUNK]
        distance = cdist(rows, points[: start + len(rows)])
        distance[np.triu_indices(len(rows), start, distance.shape[1])] = np.inf
        keep[start : start + len(rows)] = distance.min(1) > reach
    return points[keep]


def neighbour_ratios(points: np.ndarray, metric: Metric) -> tuple[np.ndarray, np.ndarray]:
    """For each point r2 / r1, its distance to the second over that to the first neighbour.

    points: float64 [n, coordinates], distinct; of length 1 unless Euclidean.
    Returns the ratios, float64 [n], and each point's first neighbour, int64 [n].
    """
    two = np.empty((len(points), 2))
    nearest = np.empty(len(points), dtype=np.int64)
    for start in range(0, len(points), _CHUNK):
        rows = slice(start, start + _CHUNK)
        distance = cdist(points[rows], points)
        own = np.arange(len(distance))
        distance[own, start + own] = np.inf
        nearest[rows] = distance.argmin(1)
        two[rows] = np.partition(distance, 1)[:, :2]
    if metric == "cosine":
        two = two**2 / 2  # 1 - cos of the angle between two vectors of length 1
    elif metric == "angular":
        two = 2 * np.arcsin(np.clip(two / 2, 0, 1))
    return two[:, 1] / two[:, 0], nearest


def dimension_of_ratios(
    ratios: np.ndarray, estimator: Estimator = "regression", discard: float = 0.1
) -> float:
    """The dimension from the ratios r2 / r1, [n]; infinite when all of them are 1.

    regression: Facco et al. (2017), steps 3 to 6 of their algorithm. mle: the rate of an
    exponential law of log(r2 / r1) of which the largest ratios are only known to be larger.
    """
    if estimator not in get_args(Estimator):
        names = ", ".join(get_args(Estimator))
        raise ValueError(f"no estimator {estimator!r}; there are {names}")
    if not 0 <= discard < 1:
        raise ValueError(f"the share to discard must be in [0, 1); got {discard}")
    n, kept = len(ratios), int(len(ratios) * (1 - discard))
    if estimator == "regression":
        kept = min(kept, n - 1)  # at the last ratio F is 1, and -log(1 - F) infinite
    x = np.log(np.sort(ratios)[:kept])
    if not x.any():
        return np.inf
    if estimator == "mle":
        return float((kept - 1) / (x.sum() + (n - kept) * x[-1]))
    y = -np.log1p(-np.arange(1, kept + 1) / n)
    return float(x @ y / (x @ x))


def _bootstrap(
    ratios: np.ndarray,
    nearest: np.ndarray,
    estimator: Estimator,
    discard: float,
    resamples: int,
    seed: int,
) -> list[float]:
    """Estimates from resampled ratios, mutual nearest neighbours drawn as one."""
    number = np.arange(len(ratios))
    mutual = nearest[nearest] == number
    first = np.where(mutual, np.minimum(number, nearest), number)
    _, unit = np.unique(first, return_inverse=True)
    units = unit.max() + 1
    rng = np.random.default_rng(seed)
    drawn = []
    for _ in range(resamples):
        times = np.bincount(rng.integers(units, size=units), minlength=units)
        drawn.append(dimension_of_ratios(np.repeat(ratios, times[unit]), estimator, discard))
    return drawn


# --- states ---------------------------------------------------------------------------


@torch.inference_mode()
def sentence_states(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    texts: Sequence[str],
    layer: int = -1,
    pooling: Pooling = "cls",
    batch_pieces: int = 8192,
    progress: Callable[[int], object] | None = None,
) -> np.ndarray:
    """One state for each text, float32 [texts, width].

    layer: 0 is the embeddings, 1 the first layer; -1 the last. pooling: the state of the
    first piece, ``cls``, or the mean over the pieces of the words, special tokens left out.
    The input is not masked. progress: called after each batch with the texts done in it.

    Raises:
        ModelError: no such layer, no [CLS], or as ``encode_checked``.
        ValueError: no such pooling.
    """
    if pooling not in get_args(Pooling):
        raise ValueError(f"no pooling {pooling!r}; there are {', '.join(get_args(Pooling))}")
    if pooling == "cls" and tokenizer.cls_token_id is None:
        raise ModelError("this tokenizer has no [CLS] token; use mean pooling")
    layer = layer_number(model, layer)
    encoded = encode_checked(model, tokenizer, texts)
    special = torch.tensor(special_ids(tokenizer))
    states: list[np.ndarray] = [np.empty(0)] * len(encoded)
    for group in length_groups([len(ids) for ids in encoded], batch_pieces):
        ids, mask = padded([encoded[i] for i in group], int(tokenizer.pad_token_id or 0))
        output: Any = model.base_model(
            input_ids=ids.to(model.device),
            attention_mask=mask.to(model.device),
            output_hidden_states=True,
        )
        hidden = output.hidden_states[layer].float().cpu()  # [batch, pieces, width]
        chosen = mask.bool() & ~torch.isin(ids, special)
        for number, state in zip(group, _pool(hidden, chosen, pooling), strict=True):
            states[number] = state.numpy()
        if progress is not None:
            progress(len(group))
    return np.stack(states)


def _pool(hidden: Tensor, chosen: Tensor, pooling: Pooling) -> Tensor:
    """hidden: [batch, pieces, width]; chosen: bool [batch, pieces]. Gives [batch, width]."""
    if pooling == "cls":
        return hidden[:, 0]
    weight = chosen.unsqueeze(-1).to(hidden.dtype)
    return (hidden * weight).sum(1) / weight.sum(1)


def layer_number(model: PreTrainedModel, layer: int) -> int:
    """The layer counted from 0, the embeddings; -1 is the last.

    Raises:
        ModelError: there is no such layer.
    """
    layers = int(model.config.num_hidden_layers)
    if not -layers - 1 <= layer <= layers:
        raise ModelError(
            f"no layer {layer}; this model has 0 (the embeddings) to {layers}, or -1 for "
            "the last"
        )
    return layer % (layers + 1)


# --- weights --------------------------------------------------------------------------


def squared_weight_norm(model: torch.nn.Module) -> float:
    """The sum of the squares of all parameters.

    All that is trained counts: embeddings, layers, layer norms, biases and the prediction
    head; a parameter that two modules share (the tied output matrix) counts once.
    """
    return sum(float(p.detach().cpu().double().square().sum()) for p in model.parameters())


def weight_distance(model: torch.nn.Module, other: torch.nn.Module) -> float:
    """Euclidean distance between the parameters of two models (counted as in the norm).

    Raises:
        ModelError: the models are not of the same shape.
    """
    own, others = dict(model.named_parameters()), dict(other.named_parameters())
    if {k: p.shape for k, p in own.items()} != {k: p.shape for k, p in others.items()}:
        raise ModelError("the two models differ in shape; no distance between them")
    squares = (
        (p.detach().cpu().double() - others[name].detach().cpu().double()).square().sum()
        for name, p in own.items()
    )
    return float(sum(map(float, squares))) ** 0.5
