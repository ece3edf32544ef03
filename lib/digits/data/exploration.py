"""What the data looks like in numbers: shapes, a map, odd and alike images, duplicates.

Everywhere: ``images`` (n, 28, 28[, 1]) float in [0, 1], light ink; ``labels`` (n,) from 0 to 9.
"""

from itertools import combinations

import cv2
import numpy as np
import pandas as pd
from scipy import ndimage, stats
from skimage.morphology import skeletonize
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from sklearn.metrics import pairwise_distances_argmin_min
from sklearn.neighbors import NearestNeighbors
from threadpoolctl import threadpool_limits

DIGITS = np.arange(10)


def sample(n: int, size: int, seed: int) -> np.ndarray:
    """Sorted indices of ``size`` of ``n`` items, drawn without replacement; at most all."""
    return np.sort(np.random.default_rng(seed).permutation(n)[:size])


def flat(images: np.ndarray) -> np.ndarray:
    """Images as rows of pixels, (n, 784) float32."""
    return np.asarray(images, np.float32).reshape(len(images), -1)


# Whole classes


def class_counts(splits: dict[str, np.ndarray]) -> pd.DataFrame:
    """How many images of each digit (rows) each split holds (columns)."""
    counts = {name: np.bincount(labels, minlength=10) for name, labels in splits.items()}
    return pd.DataFrame(counts, index=pd.Index(DIGITS, name="digit"))


def first_of_each(labels: np.ndarray, count: int) -> np.ndarray:
    """Indices of the first ``count`` images of 0, then of 1, and so on."""
    return np.concatenate([np.flatnonzero(labels == digit)[:count] for digit in DIGITS])


def class_averages(images: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each digit's pixels: two arrays (10, 28, 28)."""
    pictures = np.asarray(images).reshape(len(images), *images.shape[1:3])
    groups = [pictures[labels == digit] for digit in DIGITS]
    means, deviations = zip(*((group.mean(0), group.std(0)) for group in groups), strict=True)
    return np.stack(means), np.stack(deviations)


# The shape of one image


def longest_sides(images: np.ndarray) -> np.ndarray:
    """Longer side of the bounding box of all ink, (n,) in pixels; 0 for a blank image."""
    return np.array([max(cv2.boundingRect(inked)[2:]) for inked in (images > 0).astype(np.uint8)])


def _moments(images: np.ndarray) -> tuple[np.ndarray, ...]:
    """Centre of each image's ink (x, y), variance of y, covariance; (n,) each, pixels."""
    y, x = (axis.ravel() for axis in np.indices(images.shape[1:3], dtype=np.float64))
    sums = flat(images).astype(np.float64) @ np.stack([np.ones_like(y), x, y, y**2, y * x], 1)
    with np.errstate(invalid="ignore"):
        x, y, yy, xy = (sums[:, 1:] / sums[:, :1]).T
    return x, y, yy - y**2, xy - x * y


def centres(images: np.ndarray) -> np.ndarray:
    """Centre of mass of each image's ink, (n, 2): x and y in pixels; NaN for a blank one."""
    return np.stack(_moments(images)[:2], axis=1)


def ink(images: np.ndarray) -> np.ndarray:
    """Mean intensity of each image, (n,) in [0, 1]: how much of the paper is covered."""
    return flat(images).mean(1, dtype=np.float64)


def slants(images: np.ndarray) -> np.ndarray:
    """Slant of each image in degrees, (n,): 0 is upright, positive leans right; NaN without height.

    The angle of the shear that leaves columns and rows of the ink uncorrelated, as in LeCun et al.
    (1998), "Gradient-based learning applied to document recognition", section III.A ("deslanting").
    """
    _, _, variance, covariance = _moments(images)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.degrees(np.arctan(-covariance / variance))  # rows grow downwards, hence the sign


def stroke_width(image: np.ndarray) -> float:
    """Width of the pen in pixels: twice the median distance from the skeleton to the paper.

    At half of the darkest ink, enlarged, so that quarters of a pixel count. NaN for a blank image.
    """
    enlarged = cv2.resize(np.squeeze(np.asarray(image, np.float32)), None, fx=4, fy=4)
    inked = np.pad(enlarged > enlarged.max() / 2, 1)
    if not inked.any():
        return float("nan")
    to_paper = ndimage.distance_transform_edt(inked)[skeletonize(inked)]
    return float(2 * np.median(to_paper) / 4)


def shape_table(images: np.ndarray, labels: np.ndarray) -> pd.DataFrame:
    """A row an image: ``digit``, ``ink`` (%), ``stroke width`` (pixels), ``slant`` (degrees)."""
    widths = [stroke_width(image) for image in images]
    columns = {"ink": 100 * ink(images), "stroke width": widths, "slant": slants(images)}
    return pd.DataFrame({"digit": labels, **columns})


def extremes(values: pd.Series, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions of the ``count`` smallest values, the smallest first, and of the largest."""
    order = values.reset_index(drop=True).dropna().sort_values(kind="stable").index.to_numpy()
    return order[:count], order[::-1][:count]


def shape_summary(table: pd.DataFrame) -> pd.DataFrame:
    """Median and middle nine tenths of ``shape_table``: a row for each digit and one for "all".

    The columns: the quantity, then ``median``, ``low`` and ``high`` (5th and 95th percentile).
    """
    values = table.drop(columns="digit")
    groups = {str(digit): group for digit, group in values.groupby(table["digit"])}
    quantiles = {}
    for name, group in (groups | {"all": values}).items():
        of_group = group.quantile([0.5, 0.05, 0.95]).set_axis(["median", "low", "high"])
        quantiles[name] = of_group.T.stack()
    return pd.DataFrame(quantiles).T.rename_axis("digit")


def deslant(images: np.ndarray) -> np.ndarray:
    """Each image sheared about its centre of mass until its slant is 0; a blank one stays blank."""
    pictures = np.asarray(images, np.float32).reshape(len(images), *images.shape[1:3])
    leaning = np.nan_to_num(np.tan(np.radians(slants(images))))
    middle = np.nan_to_num(centres(images)[:, 1])
    options = {"dsize": pictures.shape[:0:-1], "flags": cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP}
    upright = []
    for image, lean, row in zip(pictures, leaning, middle, strict=True):
        source = np.array([[1, -lean, lean * row], [0, 1, 0]])
        upright.append(cv2.warpAffine(image, source, **options))
    return np.stack(upright).reshape(images.shape)


# A map of all images, odd ones, twins, duplicates, neighbours


def embed(
    images: np.ndarray, seed: int, components: int = 50, perplexity: float = 30
) -> tuple[np.ndarray, np.ndarray]:
    """Images in the plane, twice, each (n, 2): their first two principal components, and t-SNE.

    t-SNE (van der Maaten and Hinton 2008) keeps neighbours together, starting from ``components``
    principal components; distances between far groups mean nothing in it.
    """
    reduced = PCA(min(components, len(images)), random_state=seed).fit_transform(flat(images))
    perplexity = min(perplexity, (len(images) - 1) / 3)
    tsne = TSNE(2, perplexity=perplexity, max_iter=500, random_state=seed)
    with threadpool_limits(1):  # its steps are short: threads cost more than they bring
        return reduced[:, :2], tsne.fit_transform(reduced)


def neighbour_agreement(points: np.ndarray, labels: np.ndarray) -> float:
    """Share of points, (n, d), whose nearest other point has the same label."""
    nearest = NearestNeighbors(n_neighbors=1).fit(points).kneighbors(return_distance=False)[:, 0]
    return float(np.mean(labels[nearest] == labels))


def knn_distance(images: np.ndarray, labels: np.ndarray, k: int = 5) -> np.ndarray:
    """Mean Euclidean distance of each image to its ``k`` nearest others of the same digit, (n,)."""
    distance = np.full(len(images), np.nan)
    for digit in DIGITS:
        rows = np.flatnonzero(labels == digit)
        if len(rows) > 1:
            search = NearestNeighbors(n_neighbors=min(k, len(rows) - 1), algorithm="brute")
            distance[rows] = search.fit(flat(images[rows])).kneighbors()[0].mean(1)
    return distance


def alike_pairs(images: np.ndarray, labels: np.ndarray) -> pd.DataFrame:
    """The closest two images of each pair of different digits, the closest pair first.

    Columns: the indices ``first``, ``second``; their labels ``digit``, ``other``; ``distance``.
    """
    groups = {digit: np.flatnonzero(labels == digit) for digit in np.unique(labels)}
    rows = []
    for digit, other in combinations(groups, 2):
        pictures = (flat(images[groups[which]]) for which in (digit, other))
        nearest, distances = pairwise_distances_argmin_min(*pictures)
        best = distances.argmin()
        pair = groups[digit][best], groups[other][nearest[best]]
        rows.append((*pair, digit, other, distances[best]))
    table = pd.DataFrame(rows, columns=["first", "second", "digit", "other", "distance"])
    return table.sort_values("distance", kind="stable", ignore_index=True)


def duplicates(images: np.ndarray, others: np.ndarray | None = None) -> np.ndarray:
    """Indices of images that are, pixel for pixel, in ``others`` or, without, an earlier one."""
    pixels = pd.Series([image.tobytes() for image in images])
    if others is None:
        return np.flatnonzero(pixels.duplicated())
    return np.flatnonzero(pixels.isin([image.tobytes() for image in others]))


def vote(neighbour_labels: np.ndarray, k: int) -> np.ndarray:
    """The commonest digit in the first ``k`` columns, (n,); the smaller one in a tie."""
    return stats.mode(neighbour_labels[:, :k], axis=1).mode
