"""The data: MNIST, its offline stand-in, pen digits, the split for validation and the four arrays of a run.

What a file holds is judged by the content of its arrays, never by its name, its size or where it came from.
"""

import gzip
import hashlib
import math
import shutil
import struct
import tempfile
import warnings
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import numpy as np

from digits import files as paths
from digits.data import fetch, unipen
from digits.data.unipen import PenDigit
from digits.files import write_file, write_text

__all__ = [
    "LABEL_ERRORS", "STAND_IN_NOTICE", "DamagedFile", "DataError", "DataMissing", "DataWarning", "Dataset", "PenDigit",
    "PenDigitsMissing", "load", "load_arrays", "load_pen_digits", "one_hot", "save_arrays", "split",
]  # fmt: skip

STAND_IN_NOTICE = (
    "These are not MNIST results. scikit-learn's bundled 8 x 8 digits, enlarged to 28 x 28, stand in for MNIST: "
    "they show that the code runs, not how good the model is. For MNIST, let the computer reach the internet once, "
    "or put mnist.npz into a folder and set DIGITS_DATA to that folder."
)

# MNIST test images whose given label most raters reject: https://github.com/cleanlab/label-errors
# (Northcutt, Athalye and Mueller, Pervasive Label Errors in Test Sets, NeurIPS 2021).
LABEL_ERRORS = (
    947,
    1621,
    1901,
    2130,
    2462,
    2597,
    2654,
    3520,
    3558,
    5937,
    6651,
    6783,
    8527,
    9679,
    9729,
)


class Known(NamedTuple):
    """What one of MNIST's four arrays must be."""

    title: str
    stem: str  # of the IDX file
    shape: tuple[int, ...]
    idx: str  # SHA-256 of the uncompressed IDX file
    unordered: str  # SHA-256 of what does not change when the examples are shuffled, see _unordered


MNIST = {
    "x_train": Known(
        "training images", "train-images-idx3-ubyte", (60_000, 28, 28),
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "2ba98d30237c6903df2bed3698991acef39845d91234d42c9765994d214a0c80",
    ),
    "y_train": Known(
        "training labels", "train-labels-idx1-ubyte", (60_000,),
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "ec0c256f28ccfb8aaa043be9d33ee90623acb6b73586639eff676022b32c8337",
    ),
    "x_test": Known(
        "test images", "t10k-images-idx3-ubyte", (10_000, 28, 28),
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "f1eed9aa7c07ebb648a1d502f92f66606f7e0acbc1247c9850ebc11a7bfe6ab0",
    ),
    "y_test": Known(
        "test labels", "t10k-labels-idx1-ubyte", (10_000,),
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        "c20d656aea34d560d49c4d2ab72718a657e2cd7212979103ff077131ba07d184",
    ),
}  # fmt: skip
PEN_DIGITS = {  # split -> (number of digits, SHA-256 of the file, unpacked)
    "tra": (7494, "a66225d68d7d68591e62944df1ad33b3f5aa608e2df2505844b41f5568a80da4"),
    "tes": (3498, "ddb1c19e277a56c7ffe682cc024d6ab73696f9adcc1643ef9ed5aa753007e081"),
}
PEN_ZIP = "pen+based+recognition+of+handwritten+digits.zip"  # as UCI offers both files

# Mirrors are tried in turn; each is a complete set of addresses. What arrives is verified by content, as any file is,
# so a mirror that packs the same data anew is as good.
MNIST_MIRRORS = (
    ("https://storage.googleapis.com/tensorflow/tf-keras-datasets/mnist.npz",),
    tuple(
        f"https://ossci-datasets.s3.amazonaws.com/mnist/{known.stem}.gz" for known in MNIST.values()
    ),
)
PEN_MIRRORS = (
    (f"https://archive.ics.uci.edu/static/public/81/{PEN_ZIP}",),
    tuple(
        f"https://archive.ics.uci.edu/ml/machine-learning-databases/pendigits/pendigits-orig.{split}.Z"
        for split in PEN_DIGITS
    ),
)

LARGEST = (
    64 * 1024**2
)  # bytes that any one of these files may unpack to; the training images are 47 million
LARGEST_PACKED = (
    4 * 1024**2
)  # bytes of a .Z file, whose unpacking knows no limit; the pen digits' have under 1 million
REPLACE = "Replace it by a fresh copy, or delete it and let it be downloaded again."
RUN_EDA = "Run notebook 01_eda again: it writes these files."


class DataError(Exception):
    """Data that cannot be used; the message names the file, says what is wrong and what to do."""


class DamagedFile(DataError):
    """A file is there, and it is not what it should be."""

    def __init__(self, path: Path, problem: str, remedy: str):
        super().__init__(f"{path}: {problem}. {remedy}")
        self.path, self.problem = path, problem


class DataMissing(DataError):
    """Data that could not be had from anywhere; the message lists what was tried."""


class PenDigitsMissing(DataMissing):
    """The pen digits could not be had; what needs them can be left out."""


class DataWarning(UserWarning):
    """The data are fine, but not from where they were expected."""


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images and labels, ready for training."""

    name: str  # "mnist" or "digits"
    source: str  # where the arrays come from, for people
    x_train: np.ndarray  # (n, 28, 28, 1) float32 in [0, 1], light ink on dark
    y_train: np.ndarray  # (n,) int64, 0 to 9
    x_test: np.ndarray
    y_test: np.ndarray

    @property
    def is_mnist(self) -> bool:
        return self.name == "mnist"

    @cached_property
    def hashes(self) -> dict[str, str]:
        """SHA-256 of the bytes of each array, keyed by its name here."""
        return {name: hashlib.sha256(getattr(self, name)).hexdigest() for name in MNIST}


# Loading


def load(name: str = "auto", download: bool = True) -> Dataset:
    """Load a data set.

    Parameters
    ----------
    name
        "mnist": from the folder ``DIGITS_DATA``, else Keras's cache, else downloaded into that cache; verified.
        "digits": scikit-learn's bundled digits, made to look like MNIST.
        "auto": MNIST, and the bundled digits, with a warning, when it cannot be had.
    download
        Whether MNIST may be downloaded.

    Raises
    ------
    DataError
        When a file in ``DIGITS_DATA`` is damaged or is not MNIST; nothing else is tried then. Also when ``name`` is
        "mnist" and it cannot be had (`DataMissing`).
    """
    if name not in ("auto", "mnist", "digits"):
        raise DataError(f"There is no data set {name!r}. Choose auto, mnist or digits.")
    if name == "digits":
        return _bundled_digits()
    wanted = _Wanted(
        "MNIST", _read_mnist, _keep_mnist, paths.download_cache(), MNIST_MIRRORS if download else ()
    )
    try:
        arrays, source = _obtain(wanted)
    except DataMissing as error:
        if name == "mnist":
            raise
        warnings.warn(f"{STAND_IN_NOTICE}\n{error}", DataWarning, stacklevel=2)
        return _bundled_digits()
    return _dataset("mnist", f"MNIST {source}, verified by content", arrays)


def load_pen_digits(split: str) -> list[PenDigit]:
    """Load the pen trajectories of UCI's "Pen-Based Recognition of Handwritten Digits" (id 81, CC BY 4.0).

    Parameters
    ----------
    split
        "tra": 7,494 digits of 30 writers. "tes": 3,498 digits of 14 other writers.

    Returns
    -------
    list of PenDigit
        From the folder ``DIGITS_DATA``, else the cache beside Keras's data, else downloaded into it; verified.

    Raises
    ------
    PenDigitsMissing
        When they cannot be had.
    DataError
        When the file in ``DIGITS_DATA`` is damaged.
    """
    if split not in PEN_DIGITS:
        raise DataError(f"There are no pen digits {split!r}. Choose tra or tes.")
    cache = paths.download_cache() / "pendigits"
    wanted = _Wanted(
        f"pendigits-orig.{split}",
        lambda folder: _read_pen(folder, split),
        _keep_pen,
        cache,
        PEN_MIRRORS,
    )
    try:
        text, _ = _obtain(wanted)
    except DataMissing as error:
        raise PenDigitsMissing(str(error)) from error
    return unipen.parse(text)


class _Wanted(NamedTuple):
    """Something to be found in the given folder, the cache or a mirror."""

    title: str
    read: Callable  # (folder) -> verified content, None when it is not there; DataError when it is there and damaged
    keep: Callable  # (folder, content, cache) -> None: stores what was downloaded into folder
    cache: Path
    mirrors: tuple[tuple[str, ...], ...]


def _obtain(wanted: _Wanted) -> tuple:
    """The content, from whichever place has it first, and a phrase that names the place."""
    tried: list[str] = []
    found = _from_given(wanted, tried) or _from_cache(wanted, tried) or _from_mirrors(wanted, tried)
    if found is None:
        listed = "\n".join(f"  - {line}" for line in tried)
        remedy = "Connect to the internet, or set DIGITS_DATA to a folder that holds the files."
        raise DataMissing(f"{wanted.title} could not be had:\n{listed}\n{remedy}")
    return found


def _from_given(wanted: _Wanted, tried: list[str]) -> tuple | None:
    folder = paths.given_data()
    if folder is None:
        return None
    if not folder.is_dir():
        raise DataError(
            f"{folder}: DIGITS_DATA must name an existing folder. Correct it, or unset it."
        )
    content = wanted.read(folder)
    if content is None:
        tried.append(f"{folder} (DIGITS_DATA): holds no {wanted.title}")
        _warn(f"{tried[-1]}; looking for it elsewhere.")
        return None
    return content, "from DIGITS_DATA"


def _from_cache(wanted: _Wanted, tried: list[str]) -> tuple | None:
    try:
        content = wanted.read(wanted.cache)
    except DamagedFile as error:
        tried.append(f"{error.path}: {error.problem}")
        _warn(f"{tried[-1]}; trying to download it again.")
        return None
    if content is None:
        tried.append(f"{wanted.cache}: holds no {wanted.title}")
        return None
    return content, "from the Keras cache"


def _from_mirrors(wanted: _Wanted, tried: list[str]) -> tuple | None:
    for addresses in wanted.mirrors:
        try:
            with tempfile.TemporaryDirectory(
                prefix="digits-", ignore_cleanup_errors=True
            ) as folder:
                content = _download(addresses, Path(folder), wanted.read)
                _keep(wanted, Path(folder), content)
        except DataError as error:
            tried.append(str(error))
        except OSError as error:
            tried.append(f"{addresses[0]}: {error}")
        else:
            return content, f"downloaded from {urlsplit(addresses[0]).hostname}"
    return None


def _download(addresses: tuple[str, ...], folder: Path, read: Callable):
    """The verified content of one mirror, whose files are left in ``folder``."""
    for address in addresses:
        try:
            fetch.fetch(address, folder)
        except fetch.FetchError as error:
            raise DataError(f"{address}: {error}") from error
    try:
        content = read(folder)
    except DamagedFile as error:
        raise DataError(
            f"{addresses[0]}: sent something else; {error.path.name}: {error.problem}"
        ) from error
    if content is None:
        raise DataError(f"{addresses[0]}: sent something else")
    return content


def _keep(wanted: _Wanted, folder: Path, content) -> None:
    try:
        wanted.cache.mkdir(parents=True, exist_ok=True)
        wanted.keep(folder, content, wanted.cache)
    except OSError as error:
        _warn(
            f"{wanted.cache}: the download could not be kept here ({error}); it will be repeated next time.",
            1,
        )


def _warn(message: str, deeper: int = 0) -> None:
    warnings.warn(
        message, DataWarning, stacklevel=5 + deeper
    )  # past a _from function, _obtain and the public one


# MNIST


def _read_mnist(folder: Path) -> dict[str, np.ndarray] | None:
    """MNIST's four arrays out of ``mnist.npz`` or the four IDX files, verified; None when the folder has neither."""
    archive = folder / "mnist.npz"
    if archive.exists():
        arrays, files = _read_npz(archive), dict.fromkeys(MNIST, archive)
    else:
        files = {name: _find_idx(folder, known.stem) for name, known in MNIST.items()}
        absent = [MNIST[name].stem for name, path in files.items() if path is None]
        if len(absent) == len(MNIST):
            return None
        if absent:
            raise DamagedFile(
                folder, f"MNIST is incomplete, without {', '.join(absent)}", "Add what is missing."
            )
        arrays = {name: _read_idx(path) for name, path in files.items()}
    for name, array in arrays.items():
        _verify(name, array, files[name])
    return arrays


def _find_idx(folder: Path, stem: str) -> Path | None:
    """The IDX file, whose name is written with a dash or a dot before "idx", unpacked or gzipped."""
    names = (f"{name}{end}" for end in ("", ".gz") for name in (stem, stem.replace("-idx", ".idx")))
    return next((folder / name for name in names if (folder / name).exists()), None)


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    try:
        with zipfile.ZipFile(path) as archive:
            largest = max((member.file_size for member in archive.infolist()), default=0)
        if largest > LARGEST:
            raise ValueError("far larger than MNIST")
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: np.asarray(archive[name]) for name in MNIST if name in archive}
    except Exception as error:  # for a damaged head NumPy raises errors of many kinds
        raise DamagedFile(
            path, f"truncated, damaged or not an .npz file ({error})", REPLACE
        ) from error
    absent = [name for name in MNIST if name not in arrays]
    if absent:
        raise DamagedFile(path, f"has no array {', '.join(absent)}, so it is not MNIST", REPLACE)
    return arrays


def _read_idx(path: Path) -> np.ndarray:
    """An IDX file of bytes: 0, 0, 8, the number of axes, the length of each as big-endian uint32, the values."""
    data = _read_bytes(path)
    axes = int.from_bytes(data[3:4]) if data[:3] == b"\0\0\x08" else 0
    if axes not in (1, 3) or len(data) < 4 + 4 * axes:
        raise DamagedFile(
            path, f"not an IDX file of images or labels (begins with {data[:8]!r})", REPLACE
        )
    shape = struct.unpack_from(f">{axes}I", data, 4)
    values = np.frombuffer(data, np.uint8, offset=4 + 4 * axes)
    expected = math.prod(shape)
    if len(values) != expected:
        state = "truncated" if len(values) < expected else "has something appended"
        raise DamagedFile(
            path, f"{state}; it holds {len(values):,} of {expected:,} values", REPLACE
        )
    return values.reshape(shape)


def _read_bytes(path: Path) -> bytes:
    """A file's content, unpacked when it is gzipped, whatever its name says."""
    try:
        with path.open("rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
        with gzip.open(path) if packed else path.open("rb") as file:
            data = file.read(LARGEST + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DamagedFile(path, f"truncated or damaged ({error})", REPLACE) from error
    if len(data) > LARGEST:
        raise DamagedFile(path, "far larger than it should be", REPLACE)
    return data


def _verify(name: str, array: np.ndarray, path: Path) -> None:
    known = MNIST[name]
    found = _idx_hash(array) if array.dtype == np.uint8 else None
    if found == known.idx:
        return
    other = next((candidate for candidate in MNIST.values() if candidate.idx == found), None)
    if array.dtype != np.uint8:
        problem = f"are of type {array.dtype}, where MNIST has uint8"
    elif other is not None:
        problem = f"are swapped: MNIST's {other.title} are in their place"
    elif array.shape != known.shape:
        problem = f"have the shape {array.shape}, where MNIST has {known.shape}"
    elif _unordered(array) == known.unordered:
        problem = "are MNIST's in another order; this project needs the published one"
    else:
        problem = (
            "are not MNIST's: damaged, or another data set of the same form, such as Fashion-MNIST"
        )
    raise DamagedFile(path, f"the {known.title} ({name}) {problem}", REPLACE)


def _idx_hash(array: np.ndarray) -> str:
    """SHA-256 of the IDX file that holds this array of bytes."""
    header = struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    return hashlib.sha256(header + np.ascontiguousarray(array).tobytes()).hexdigest()


def _unordered(array: np.ndarray) -> str:
    """SHA-256 of the sum of all images, or of the number of each label: the same in any order of the examples."""
    content = (
        array.sum(axis=0, dtype="<i8")
        if array.ndim == 3
        else np.bincount(array, minlength=10).astype("<i8")
    )
    return hashlib.sha256(content.tobytes()).hexdigest()


def _keep_mnist(folder: Path, arrays: dict[str, np.ndarray], cache: Path) -> None:
    """As ``mnist.npz``, where and how Keras's own loader looks for it."""
    archive = folder / "mnist.npz"
    if not archive.exists():
        np.savez_compressed(archive, **arrays)  # type: ignore[arg-type]
    with archive.open("rb") as file:
        write_file(cache / archive.name, lambda kept: shutil.copyfileobj(file, kept))


def _dataset(name: str, source: str, arrays: dict[str, np.ndarray]) -> Dataset:
    """From images (n, 28, 28) in 0 to 255 and labels (n,)."""
    images = {key: arrays[key].astype(np.float32)[..., np.newaxis] for key in ("x_train", "x_test")}
    for image in images.values():
        image /= 255
    return Dataset(name, source, images["x_train"], arrays["y_train"].astype(np.int64),
                   images["x_test"], arrays["y_test"].astype(np.int64))  # fmt: skip


# The stand-in


def _bundled_digits() -> Dataset:
    """scikit-learn's digits (UCI, Alpaydin and Kaynak 1998), 1,437 for training and 360 for testing."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    bundled = load_digits()
    images = _like_mnist(bundled.images)
    x_train, x_test, y_train, y_test = train_test_split(
        images, bundled.target, test_size=0.2, stratify=bundled.target, random_state=0
    )
    source = "scikit-learn's bundled 8 x 8 digits, enlarged to 28 x 28, standing in for MNIST"
    return _dataset(
        "digits",
        source,
        {"x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": y_test},
    )


def _like_mnist(images: np.ndarray) -> np.ndarray:
    """Images (n, 8, 8) in 0 to 16, as MNIST would have them: (n, 28, 28) in 0 to 255.

    MNIST's rule: 20 x 20 with anti-aliasing, the centre of mass at the centre of 28 x 28. What lies between 0.3 and
    0.7 of full ink is stretched to the whole range, which gives the edges of the strokes MNIST's sharpness.
    """
    from scipy import ndimage

    large = ndimage.zoom(images / 16, (1, 2.5, 2.5), order=3, grid_mode=True, mode="grid-constant")
    framed = np.pad(((large - 0.3) / 0.4).clip(0, 1), ((0, 0), (4, 4), (4, 4)))
    for image in framed:
        off_centre = 14 - np.array(ndimage.center_of_mass(image))
        image[:] = np.roll(
            image, np.round(off_centre).astype(int), axis=(0, 1)
        )  # at most 3, the frame is 4 wide
    return 255 * framed


# Pen digits


def _read_pen(folder: Path, split: str) -> str | None:
    """The text of one file, verified; None when the folder has it in no form."""
    found = _find_pen(folder, f"pendigits-orig.{split}")
    if found is None:
        return None
    path, data = found
    count, expected = PEN_DIGITS[split]
    digest = hashlib.sha256(data).hexdigest()
    if digest == expected:
        return data.decode("ascii")
    raise DamagedFile(path, _pen_problem(data, digest, count), REPLACE)


def _find_pen(folder: Path, name: str) -> tuple[Path, bytes] | None:
    """The file as it is, packed by ``compress``, or in the archive that UCI offers."""
    plain, packed, archive = folder / name, folder / f"{name}.Z", folder / PEN_ZIP
    if plain.exists():
        return plain, _read_bytes(plain)
    if packed.exists():
        return packed, _unpack(_read_bytes(packed), packed)
    if archive.exists():
        return archive, _unpack(_read_member(archive, packed.name), archive)
    return None


def _read_member(path: Path, name: str) -> bytes:
    try:
        with zipfile.ZipFile(path) as archive, archive.open(name) as file:
            return file.read(LARGEST_PACKED + 1)
    except (
        OSError,
        EOFError,
        RuntimeError,
        KeyError,
        ValueError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise DamagedFile(
            path, f"truncated, damaged or without {name} ({error})", REPLACE
        ) from error


def _unpack(data: bytes, path: Path) -> bytes:
    from unlzw3 import unlzw

    try:
        if len(data) > LARGEST_PACKED:
            raise ValueError("far too large")
        return unlzw(data)
    except ValueError as error:
        raise DamagedFile(path, f"truncated or damaged ({error})", REPLACE) from error


def _pen_problem(data: bytes, digest: str, count: int) -> str:
    other = next((split for split, (_, known) in PEN_DIGITS.items() if known == digest), None)
    if other is not None:
        return f"swapped: this is the content of pendigits-orig.{other}"
    try:
        digits = unipen.parse(data.decode("ascii"))
    except ValueError as error:
        return f"truncated, damaged or no pen digits ({error})"
    return f"holds {len(digits):,} digits that are not the published {count:,}"


def _keep_pen(folder: Path, _text: str, cache: Path) -> None:
    for split in PEN_DIGITS:
        text = _read_pen(folder, split)
        if text is not None:
            write_text(cache / f"pendigits-orig.{split}", text)


# What a run works with


def split(y: np.ndarray, validation_size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices (training, validation) into the training set, stratified by label and shuffled (scikit-learn).

    Parameters
    ----------
    y
        Labels, (n,).
    validation_size
        Number of examples to hold out.
    seed
        The same seed gives the same split.
    """
    from sklearn.model_selection import train_test_split

    training, validation = train_test_split(
        np.arange(len(y)), test_size=validation_size, stratify=y, random_state=seed
    )
    return training, validation


def one_hot(y: np.ndarray) -> np.ndarray:
    """Labels (n,), 0 to 9, as float32 (n, 10) with a single 1 in each row.

    >>> one_hot([3]).astype(int).tolist()
    [[0, 0, 0, 1, 0, 0, 0, 0, 0, 0]]
    """
    y = np.asarray(y)
    if y.size and not (y.min() >= 0 and y.max() <= 9):
        raise DataError(f"Labels run from {y.min()} to {y.max()}; digits run from 0 to 9.")
    return np.eye(10, dtype=np.float32)[y]


def save_arrays(dataset: Dataset, folder: Path) -> None:
    """Write ``X_train.npy``, ``y_train.npy``, ``X_test.npy`` and ``y_test.npy`` (one-hot) into an existing folder."""
    for part in ("train", "test"):
        images, labels = getattr(dataset, f"x_{part}"), one_hot(getattr(dataset, f"y_{part}"))
        write_file(Path(folder) / f"X_{part}.npy", partial(np.save, arr=images))
        write_file(Path(folder) / f"y_{part}.npy", partial(np.save, arr=labels))


def load_arrays(folder: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Read back what `save_arrays` wrote.

    Returns
    -------
    X_train, y_train, X_test, y_test
        Images (n, 28, 28, 1) float32 in [0, 1]; labels one-hot, (n, 10) float32.

    Raises
    ------
    DataError
        When a file is missing, damaged, of another shape or type, or holds other values than these.
    """
    folder, arrays = Path(folder), []
    for part in ("train", "test"):
        images = _load_array(folder / f"X_{part}.npy", (28, 28, 1))
        labels = _load_array(folder / f"y_{part}.npy", (10,))
        if len(images) != len(labels):
            raise DamagedFile(
                folder, f"{len(images):,} images but {len(labels):,} labels for {part}", RUN_EDA
            )
        if not np.isin(labels, (0, 1)).all() or not (labels.sum(axis=1) == 1).all():
            raise DamagedFile(folder / f"y_{part}.npy", "not one-hot", RUN_EDA)
        arrays += [images, labels]
    x_train, y_train, x_test, y_test = arrays
    return x_train, y_train, x_test, y_test


def _load_array(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """An array (n, *shape), float32 in [0, 1]."""
    try:
        array = np.load(path, allow_pickle=False)
    except FileNotFoundError as error:
        raise DamagedFile(path, "is missing", RUN_EDA) from error
    except Exception as error:  # as for mnist.npz
        raise DamagedFile(path, f"truncated or damaged ({error})", RUN_EDA) from error
    if array.shape[1:] != shape or array.dtype != np.float32 or not len(array):
        raise DamagedFile(
            path, f"{array.shape} {array.dtype}, where (n, {shape}) float32 is expected", RUN_EDA
        )
    if not (array.min() >= 0 and array.max() <= 1):  # false for NaN too
        raise DamagedFile(path, "holds values outside 0 to 1", RUN_EDA)
    return array
