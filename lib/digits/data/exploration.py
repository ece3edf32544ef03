"""What the data looks like in numbers: shapes, a map, odd and alike images, baselines' votes. No TensorFlow here.

Everywhere: ``images`` is (n, 28, 28[, 1]) float in [0, 1], ink light on dark; ``labels`` is (n,) with integers 0 to 9.
"""

from collections.abc import Sequence
from itertools import combinations

import cv2
import numpy as np
import pandas as pd
from scipy import ndimage
from skimage.morphology import skeletonize
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from sklearn.neighbors import NearestNeighbors
from threadpoolctl import threadpool_limits

from digits import evaluation

DIGITS = np.arange(10)
FINE = 4  # times: stroke width is measured on an image enlarged this much, so that quarters of a pixel count


def sample(n: int, size: int, seed: int) -> np.ndarray:
    """Indices of ``size`` of ``n`` items, drawn without replacement and sorted; all of them when there are no more."""
    return np.sort(np.random.default_rng(seed).permutation(n)[:size])


def flat(images: np.ndarray) -> np.ndarray:
    """Images as rows of pixels, (n, 784) float32: what a method sees that knows nothing of neighbouring pixels."""
    return np.asarray(images, np.float32).reshape(len(images), -1)


# --- Whole classes ----------------------------------------------------------------------------------------------------


def class_counts(splits: dict[str, np.ndarray]) -> pd.DataFrame:
    """How many images of each digit (rows 0 to 9) each split holds (columns); ``splits`` maps a name to its labels."""
    counts = {name: np.bincount(labels, minlength=10) for name, labels in splits.items()}
    return pd.DataFrame(counts, index=pd.Index(DIGITS, name="digit"))


def first_of_each(labels: np.ndarray, count: int) -> np.ndarray:
    """Indices of the first ``count`` images of 0, then of 1, and so on; fewer where a digit has fewer."""
    return np.concatenate([np.flatnonzero(labels == digit)[:count] for digit in DIGITS])


def class_averages(images: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each pixel over the images of each digit: two arrays (10, 28, 28)."""
    pictures = np.asarray(images).reshape(len(images), *images.shape[1:3])
    groups = [pictures[labels == digit] for digit in DIGITS]
    return np.stack([group.mean(0) for group in groups]), np.stack(
        [group.std(0) for group in groups]
    )


# --- The shape of one image -------------------------------------------------------------------------------------------


def longest_sides(images: np.ndarray) -> np.ndarray:
    """Longer side of each image's bounding box of all ink above zero, (n,) in pixels; 0 for a blank image."""
    inked = np.asarray(images).reshape(len(images), *images.shape[1:3]) > 0
    return np.maximum(*(_extent(np.any(inked, axis)) for axis in (1, 2)))


def _extent(occupied: np.ndarray) -> np.ndarray:
    """From the first to the last True of each row of (n, length), both counted; 0 where a row has none."""
    length = occupied.shape[1]
    spanned = length - occupied.argmax(1) - occupied[:, ::-1].argmax(1)
    return np.where(occupied.any(1), spanned, 0)


def _moments(images: np.ndarray) -> tuple[np.ndarray, ...]:
    """Centre (column, row) of each image's ink, the variance of its rows, and its covariance; (n,) each, pixels."""
    rows, columns = (axis.ravel() for axis in np.indices(images.shape[1:3], dtype=np.float64))
    sums = flat(images).astype(np.float64) @ np.stack(
        [np.ones_like(rows), columns, rows, rows**2, rows * columns], 1
    )
    with np.errstate(invalid="ignore"):
        x, y, yy, xy = (sums[:, 1:] / sums[:, :1]).T
    return x, y, yy - y**2, xy - x * y


def centres(images: np.ndarray) -> np.ndarray:
    """Centre of mass of each image's ink, (n, 2): column and row in pixels, counted from 0; NaN for a blank image."""
    return np.stack(_moments(images)[:2], axis=1)


def ink(images: np.ndarray) -> np.ndarray:
    """Mean intensity of each image, (n,) in [0, 1]: how much of the paper is covered."""
    return flat(images).mean(1, dtype=np.float64)


def slants(images: np.ndarray) -> np.ndarray:
    """Slant of each image in degrees, (n,): 0 is upright, positive leans to the right; NaN where it has no height.

    From second moments: the angle of the shear that leaves columns and rows of the ink uncorrelated, as in LeCun et
    al. (1998), "Gradient-based learning applied to document recognition", section III.A ("deslanting").
    """
    _, _, variance, covariance = _moments(images)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.degrees(np.arctan(-covariance / variance))  # rows grow downwards, hence the sign


def stroke_width(image: np.ndarray) -> float:
    """Width of the pen in one image, in pixels: twice the median distance from the skeleton to the paper.

    The image is enlarged ``FINE`` times and cut at half of its darkest ink. The skeleton is scikit-image's
    ``skeletonize``; distances are Euclidean, between the centres of pixels. NaN for a blank image.
    """
    enlarged = cv2.resize(np.squeeze(np.asarray(image, np.float32)), None, fx=FINE, fy=FINE)
    inked = np.pad(enlarged > enlarged.max() / 2, 1)
    if not inked.any():
        return float("nan")
    to_paper = ndimage.distance_transform_edt(inked)[skeletonize(inked)]
    return float(2 * np.median(to_paper) / FINE)


def shape_table(images: np.ndarray, labels: np.ndarray) -> pd.DataFrame:
    """One row an image: ``digit``, ``ink`` in percent of full, ``stroke width`` in pixels, ``slant`` in degrees."""
    widths = [stroke_width(image) for image in images]
    return pd.DataFrame(
        {"digit": labels, "ink": 100 * ink(images), "stroke width": widths, "slant": slants(images)}
    )


def extremes(values: pd.Series, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions of the ``count`` smallest values, the smallest first, and of the largest, the largest first."""
    order = values.reset_index(drop=True).dropna().sort_values(kind="stable").index.to_numpy()
    return order[:count], order[::-1][:count]


def shape_summary(table: pd.DataFrame) -> pd.DataFrame:
    """Median and middle nine tenths of each column of ``shape_table``, a row for each digit and one for "all".

    The columns have two levels: the quantity, then ``median``, ``low`` and ``high`` (5th and 95th percentile).
    """
    values = table.drop(columns="digit")
    groups = {
        **{str(digit): group for digit, group in values.groupby(table["digit"])},
        "all": values,
    }
    quantiles = {
        name: group.quantile([0.5, 0.05, 0.95]).set_axis(["median", "low", "high"]).T.stack()
        for name, group in groups.items()
    }
    return pd.DataFrame(quantiles).T.rename_axis("digit")


def spans(summary: pd.DataFrame, titles: dict[str, str]) -> pd.DataFrame:
    """``shape_summary`` for people: "median (low to high)" in a column for each quantity, under its title."""
    return pd.DataFrame(
        {
            title: [
                f"{row['median']:.1f} ({row['low']:.1f} to {row['high']:.1f})"
                for _, row in summary[quantity].iterrows()
            ]
            for quantity, title in titles.items()
        },
        index=summary.index,
    )


def deslant(images: np.ndarray) -> np.ndarray:
    """Shear each image about its centre of mass until its slant is 0; same shape, float32. A blank one stays blank."""
    pictures = np.asarray(images, np.float32).reshape(len(images), *images.shape[1:3])
    leaning, middle = np.tan(np.radians(slants(images))), centres(images)[:, 1]
    moves = np.nan_to_num(np.stack([leaning, middle], axis=1))
    upright = [_shear(image, lean, row) for image, (lean, row) in zip(pictures, moves, strict=True)]
    return np.stack(upright).reshape(images.shape)


def _shear(image: np.ndarray, lean: float, row: float) -> np.ndarray:
    """One image with each row moved to the left by ``lean`` times its height above ``row``."""
    source = np.array([[1, -lean, lean * row], [0, 1, 0]])
    return cv2.warpAffine(
        image, source, image.shape[::-1], flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    )


# --- A map of all images ----------------------------------------------------------------------------------------------


def embed(
    images: np.ndarray, seed: int, components: int = 50, perplexity: float = 30
) -> tuple[np.ndarray, np.ndarray]:
    """Two pictures of the same images in the plane, each (n, 2): their first two principal components, and t-SNE.

    t-SNE (van der Maaten and Hinton 2008) keeps neighbours together, starting from ``components`` principal components;
    distances between far groups mean nothing in it.
    """
    reduced = PCA(min(components, len(images)), random_state=seed).fit_transform(flat(images))
    perplexity = min(perplexity, (len(images) - 1) / 3)
    with threadpool_limits(
        1
    ):  # its steps are short and wait for one another: threads cost more than they bring
        return reduced[:, :2], TSNE(
            2, perplexity=perplexity, max_iter=500, random_state=seed
        ).fit_transform(reduced)


def neighbour_agreement(points: np.ndarray, labels: np.ndarray) -> float:
    """Share of points, (n, d), whose nearest other point has the same label."""
    nearest = NearestNeighbors(n_neighbors=1).fit(points).kneighbors(return_distance=False)[:, 0]
    return float(np.mean(labels[nearest] == labels))


# --- Odd ones, twins, leaks -------------------------------------------------------------------------------------------


def loneliness(images: np.ndarray, labels: np.ndarray, k: int = 5) -> np.ndarray:
    """Mean Euclidean distance of each image to its ``k`` nearest other images of the same digit, (n,)."""
    lonely = np.full(len(images), np.nan)
    for digit in DIGITS:
        rows = np.flatnonzero(labels == digit)
        if len(rows) > 1:
            search = NearestNeighbors(n_neighbors=min(k, len(rows) - 1), algorithm="brute").fit(
                flat(images[rows])
            )
            lonely[rows] = search.kneighbors()[0].mean(1)
    return lonely


def loneliest(lonely: np.ndarray, labels: np.ndarray, count: int) -> np.ndarray:
    """Indices of the ``count`` loneliest images of each digit, (count, 10): a column a digit, the worst on top."""
    ranked = [np.flatnonzero(labels == digit) for digit in DIGITS]
    return np.stack(
        [rows[np.argsort(-lonely[rows], kind="stable")[:count]] for rows in ranked], axis=1
    )


def alike_pairs(images: np.ndarray, labels: np.ndarray) -> pd.DataFrame:
    """The closest two images of each pair of different digits, the closest pair first.

    Columns: ``first`` and ``second`` (indices), ``digit`` and ``other`` (their labels), Euclidean ``distance``.
    """
    groups = {digit: np.flatnonzero(labels == digit) for digit in np.unique(labels)}
    rows = []
    for digit, other in combinations(groups, 2):
        search = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(flat(images[groups[other]]))
        distances, nearest = (
            found[:, 0] for found in search.kneighbors(flat(images[groups[digit]]))
        )
        best = distances.argmin()
        rows.append(
            (groups[digit][best], groups[other][nearest[best]], digit, other, distances[best])
        )
    table = pd.DataFrame(rows, columns=["first", "second", "digit", "other", "distance"])
    return table.sort_values("distance", kind="stable", ignore_index=True)


def repeats(images: np.ndarray) -> int:
    """How many images are pixel for pixel the same as an earlier one."""
    return len(images) - len({image.tobytes() for image in np.ascontiguousarray(images)})


def copies(images: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Indices of the images that occur, pixel for pixel, among ``others`` (same shape and type)."""
    known = {image.tobytes() for image in np.ascontiguousarray(others)}
    return np.flatnonzero([image.tobytes() in known for image in np.ascontiguousarray(images)])


# --- Baselines --------------------------------------------------------------------------------------------------------


def vote(neighbour_labels: np.ndarray, k: int) -> np.ndarray:
    """The commonest digit in the first ``k`` columns of (n, neighbours), nearest first; the smaller one in a tie."""
    votes = (neighbour_labels[:, :k, None] == DIGITS).sum(1)
    return votes.argmax(1)


def scores(
    guesses: dict[str, dict[str, np.ndarray]], labels: dict[str, np.ndarray]
) -> dict[str, dict[str, dict]]:
    """``evaluation.accuracy_summary`` of each method on each split: ``guesses[method][split]`` against its labels."""
    return {
        method: {
            split: evaluation.accuracy_summary(labels[split], guess)
            for split, guess in splits.items()
        }
        for method, splits in guesses.items()
    }


# --- Digits drawn with a pen ------------------------------------------------------------------------------------------


def stroke_counts(strokes: Sequence[Sequence[np.ndarray]], labels: np.ndarray) -> pd.DataFrame:
    """Share of each digit (rows 0 to 9) that was drawn with one stroke, two, and so on (columns); rows sum to 1."""
    counts = pd.Series([len(drawing) for drawing in strokes], name="strokes")
    table = pd.crosstab(pd.Series(labels, name="digit"), counts, normalize="index")
    return table.reindex(DIGITS, fill_value=0.0).rename_axis("digit")


def examples(pairs: pd.DataFrame, labels: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    """Index of the first sample of each confusion; ``pairs`` as from ``evaluation.confused_pairs``."""
    return np.array(
        [
            np.flatnonzero((labels == digit) & (predictions == read))[0]
            for digit, read in zip(pairs["digit"], pairs["read as"], strict=True)
        ],
        dtype=int,
    )
