"""MNIST and its offline stand-in, the split for validation, and the four arrays of a run.

What a file holds is judged by the content of its arrays, never by its name or where it came from.
"""

import gzip
import hashlib
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

from digits.files import download_cache, given_data, write_file

STAND_IN_NOTICE = (
    "These are not MNIST results. scikit-learn's bundled 8 x 8 digits, enlarged to 28 x 28, stand "
    "in for MNIST: they show that the code runs, not how good the model is. For MNIST, let the "
    "computer reach the internet once, or put mnist.npz into a folder and set DIGITS_DATA to that "
    "folder."
)

# MNIST test images whose given label most raters reject: https://github.com/cleanlab/label-errors
# (Northcutt, Athalye and Mueller, Pervasive Label Errors in Test Sets, NeurIPS 2021).
LABEL_ERRORS = (947, 1621, 1901, 2130, 2462, 2597, 2654, 3520, 3558, 5937, 6651, 6783, 8527, 9679)
LABEL_ERRORS += (9729,)

IDX_FILES = {
    "x_train": "train-images-idx3-ubyte",
    "y_train": "train-labels-idx1-ubyte",
    "x_test": "t10k-images-idx3-ubyte",
    "y_test": "t10k-labels-idx1-ubyte",
}
SHA256 = {  # of the IDX files, unpacked
    "x_train": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "y_train": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "x_test": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "y_test": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}

# Tried in turn; each is a complete set of addresses.
_GOOGLE = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/mnist.npz"
_PYTORCH = "https://ossci-datasets.s3.amazonaws.com/mnist"
MIRRORS = ((_GOOGLE,), tuple(f"{_PYTORCH}/{name}.gz" for name in IDX_FILES.values()))

TIMEOUT = (6, 10)  # seconds: to connect, and between two pieces of a download
REPLACE = "Replace it by a fresh copy, or delete it and let it be downloaded again."
MAKE_AGAIN = "Run the first notebook again: it writes these files."


class DataError(Exception):
    """Data that cannot be used; the message names the file, says what is wrong and what to do."""


class DamagedFile(DataError):
    """A file is there, and it is not what it should be."""

    def __init__(self, path: Path, problem: str, remedy: str = REPLACE):
        super().__init__(f"{path}: {problem}. {remedy}")
        self.problem = f"{path.name}: {problem}"


class DataMissing(DataError):
    """Data that could not be had from anywhere; the message lists what was tried."""


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
        return {name: hashlib.sha256(getattr(self, name)).hexdigest() for name in IDX_FILES}


def load(name: str = "auto", download: bool = True) -> Dataset:
    """Load a data set.

    Parameters
    ----------
    name
        "mnist": from the folder ``DIGITS_DATA`` (or ``MNIST/raw`` in it), else Keras's cache, else
        downloaded into that cache; verified. "digits": scikit-learn's bundled digits, made to look
        like MNIST. "auto": MNIST, and the bundled digits, with a warning, when it cannot be had.
    download
        Whether MNIST may be downloaded.

    Raises
    ------
    DataError
        When a file in ``DIGITS_DATA`` is damaged or is not MNIST; nothing else is tried then. Also
        when ``name`` is "mnist" and it cannot be had (`DataMissing`).
    """
    if name not in ("auto", "mnist", "digits"):
        raise DataError(f"There is no data set {name!r}. Choose auto, mnist or digits.")
    if name == "digits":
        return _bundled_digits()
    try:
        mirrors = MIRRORS if download else ()
        arrays, source = obtain("MNIST", _read_mnist, _keep_mnist, download_cache(), mirrors)
    except DataMissing as error:
        if name == "mnist":
            raise
        warnings.warn(f"{STAND_IN_NOTICE}\n{error}", DataWarning, stacklevel=2)
        return _bundled_digits()
    return _dataset("mnist", f"MNIST {source}, verified by content", arrays)


def obtain(title: str, read: Callable, keep: Callable, cache: Path, mirrors: tuple) -> tuple:
    """Content from the given folder, the cache or a mirror, and a phrase that names the place.

    ``read(folder)`` gives the verified content, None when the folder has it in no form, and raises
    `DamagedFile`; ``keep(folder, content)`` puts into the cache what was downloaded into
    ``folder``. DataError when the given folder is damaged or none, `DataMissing` when no place has
    the content.
    """
    tried = []
    given = given_data()
    if given is not None:
        if not given.is_dir():
            raise DataError(
                f"{given}: DIGITS_DATA must name an existing folder. Correct it, or unset it."
            )
        content = read(given)
        if content is not None:
            return content, "from DIGITS_DATA"
        tried.append(f"{given} (DIGITS_DATA): holds no {title}")
        warnings.warn(f"{tried[-1]}; looking for it elsewhere.", DataWarning, stacklevel=3)
    try:
        content = read(cache)
        if content is not None:
            return content, "from the Keras cache"
        tried.append(f"{cache}: holds no {title}")
    except DamagedFile as error:
        tried.append(f"{cache}/{error.problem}")
        warnings.warn(f"{tried[-1]}; trying to download it again.", DataWarning, stacklevel=3)
    for addresses in mirrors:
        # in a folder of its own, so that nobody meets a part, whoever else downloads or dies
        # meanwhile
        with tempfile.TemporaryDirectory(prefix="digits-", ignore_cleanup_errors=True) as folder:
            try:
                for address in addresses:
                    _download(address, Path(folder))
                content = read(Path(folder))
            except DataError as error:
                tried.append(f"{addresses[0]}: {getattr(error, 'problem', error)}")
                continue
            try:
                cache.mkdir(parents=True, exist_ok=True)
                keep(Path(folder), content)
            except OSError as error:
                words = f"{cache}: the download could not be kept here and will be repeated"
                warnings.warn(f"{words} ({error}).", DataWarning, stacklevel=3)
            return content, f"downloaded from {urlsplit(addresses[0]).hostname}"
    listed = "\n".join(f"  - {line}" for line in tried)
    remedy = "Connect to the internet, or set DIGITS_DATA to a folder that holds the files."
    raise DataMissing(f"{title} could not be had:\n{listed}\n{remedy}")


def _download(url: str, folder: Path) -> None:
    """One file, under the name that its address ends with; DataError says why it cannot be had."""
    import pooch
    import requests

    if os.environ.get("DIGITS_OFFLINE", "0") not in ("", "0"):
        raise DataError("DIGITS_OFFLINE forbids the network")
    pooch.get_logger().setLevel(logging.WARNING)
    downloader = pooch.HTTPDownloader(progressbar=sys.stderr.isatty(), timeout=TIMEOUT)
    try:
        name = Path(urlsplit(url).path).name
        pooch.retrieve(url, None, fname=name, path=folder, downloader=downloader)
    except (requests.RequestException, OSError) as error:
        cause = error.args[0] if error.args else error  # what urllib3 says, inside requests'
        raise DataError(f"{type(error).__name__}, {getattr(cause, 'reason', error)}") from error


def _read_mnist(folder: Path) -> dict[str, np.ndarray] | None:
    """MNIST's four arrays out of ``mnist.npz`` or the IDX files, verified; None without either."""
    archive = folder / "mnist.npz"
    if archive.exists():
        paths = dict.fromkeys(IDX_FILES, archive)
        try:
            with np.load(archive, allow_pickle=False) as found:
                arrays = {name: np.asarray(found[name]) for name in IDX_FILES}
        except Exception as error:  # for a damaged head NumPy raises errors of many kinds
            problem = f"truncated, damaged or not MNIST's .npz file ({error})"
            raise DamagedFile(archive, problem) from error
    else:
        paths = {name: _find_idx(folder, stem) for name, stem in IDX_FILES.items()}
        absent = [IDX_FILES[name] for name, path in paths.items() if path is None]
        if len(absent) == len(paths):
            return None
        if absent:
            raise DamagedFile(folder, f"MNIST lacks {', '.join(absent)}", "Add what is missing.")
        arrays = {name: _read_idx(path) for name, path in paths.items()}
    for name, array in arrays.items():
        header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
        found = hashlib.sha256(header + array.tobytes()).hexdigest()
        if array.dtype != np.uint8 or found != SHA256[name]:
            likely = "damaged, in another order, or another data set, such as Fashion-MNIST"
            raise DamagedFile(paths[name], f"{name} is not MNIST's: {likely}")
    return arrays


def _find_idx(folder: Path, stem: str) -> Path | None:
    """The file, plain or gzipped, with "-idx" or ".idx", here or in torchvision's place."""
    places = (folder, folder / "MNIST" / "raw", folder / "raw")
    names = [f"{name}{end}" for end in ("", ".gz") for name in (stem, stem.replace("-idx", ".idx"))]
    found = (place / name for place in places for name in names if (place / name).exists())
    return next(found, None)


def _read_idx(path: Path) -> np.ndarray:
    """An IDX file: 0, 0, 8, the number of axes, each length (big-endian uint32), the bytes."""
    data = read_bytes(path)
    try:
        axes = data[3]
        shape = np.frombuffer(data, ">u4", axes, offset=4)
        return np.frombuffer(data, np.uint8, offset=4 + 4 * axes).reshape(shape)
    except (IndexError, ValueError) as error:
        raise DamagedFile(path, f"truncated or not an IDX file ({error})") from error


def read_bytes(path: Path) -> bytes:
    """A file's content, unpacked when it is gzipped, whatever its name says; `DamagedFile`."""
    try:
        data = path.read_bytes()
        return gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data
    except Exception as error:  # of the system, of gzip and of zlib
        raise DamagedFile(path, f"truncated or damaged ({error})") from error


def _keep_mnist(folder: Path, arrays: dict[str, np.ndarray]) -> None:
    """As ``mnist.npz``, where Keras's own loader looks for it, with the bytes that it knows."""
    archive = folder / "mnist.npz"
    if not archive.exists():
        np.savez_compressed(archive, **arrays)  # type: ignore[arg-type]
    write_file(download_cache() / "mnist.npz", lambda file: file.write(archive.read_bytes()))


def _dataset(name: str, source: str, arrays: dict[str, np.ndarray]) -> Dataset:
    """From images (n, 28, 28) in 0 to 255 and labels (n,)."""
    images = {key: arrays[key].astype(np.float32)[..., np.newaxis] for key in ("x_train", "x_test")}
    for image in images.values():
        image /= 255
    labels = {key: arrays[key].astype(np.int64) for key in ("y_train", "y_test")}
    return Dataset(name, source, **images, **labels)


def _bundled_digits() -> Dataset:
    """scikit-learn's digits (UCI, Alpaydin and Kaynak 1998), 1,437 for training, 360 for testing.

    By MNIST's rule: 20 x 20 with anti-aliasing, the centre of mass at the centre of 28 x 28. What
    lies between 0.3 and 0.7 of full ink is stretched to the whole range, which gives the edges of
    the strokes MNIST's sharpness.
    """
    from scipy import ndimage
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    bundled = load_digits()
    enlarge = {"order": 3, "grid_mode": True, "mode": "grid-constant"}
    large = ndimage.zoom(bundled.images / 16, (1, 2.5, 2.5), **enlarge)
    images = np.pad(((large - 0.3) / 0.4).clip(0, 1), ((0, 0), (4, 4), (4, 4)))
    for image in images:
        off_centre = 14 - np.array(ndimage.center_of_mass(image))  # at most 3, the frame is 4 wide
        image[:] = np.roll(image, np.round(off_centre).astype(int), axis=(0, 1))
    given = bundled.target
    parts = train_test_split(255 * images, given, test_size=0.2, stratify=given, random_state=0)
    arrays = dict(zip(("x_train", "x_test", "y_train", "y_test"), parts, strict=True))
    source = "scikit-learn's bundled 8 x 8 digits, enlarged to 28 x 28, standing in for MNIST"
    return _dataset("digits", source, arrays)


# What a run works with


def split(y: np.ndarray, validation_size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices (training, validation) into labels ``y`` (n,), stratified, shuffled by the seed."""
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
    """Write ``X_train.npy``, ``y_train.npy`` (one-hot), ``X_test.npy``, ``y_test.npy``."""
    for part in ("train", "test"):
        images, labels = getattr(dataset, f"x_{part}"), one_hot(getattr(dataset, f"y_{part}"))
        write_file(Path(folder) / f"X_{part}.npy", partial(np.save, arr=images))
        write_file(Path(folder) / f"y_{part}.npy", partial(np.save, arr=labels))


def load_arrays(folder: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Read back what `save_arrays` wrote: X_train, y_train, X_test, y_test.

    Images (n, 28, 28, 1) float32 in [0, 1]; labels one-hot, (n, 10) float32. DataError when a file
    is missing, damaged, of another shape or type, or holds other values than these.
    """
    arrays: list[np.ndarray] = []
    for name in ("X_train", "y_train", "X_test", "y_test"):
        path = Path(folder) / f"{name}.npy"
        try:
            array = np.load(path, allow_pickle=False)
        except Exception as error:  # as for mnist.npz
            raise DamagedFile(path, f"missing or damaged ({error})", MAKE_AGAIN) from error
        shape = (28, 28, 1) if name.startswith("X") else (10,)
        usable = array.dtype == np.float32 and array.shape[1:] == shape and len(array) > 0
        if not usable or not (array.min() >= 0 and array.max() <= 1):  # false for NaN too
            expected = f"(n, {', '.join(map(str, shape))}) float32 in [0, 1]"
            raise DamagedFile(path, f"{array.shape} {array.dtype} is not {expected}", MAKE_AGAIN)
        if name.startswith("y") and not (
            len(array) == len(arrays[-1])
            and np.isin(array, (0, 1)).all()
            and (array.sum(1) == 1).all()
        ):
            raise DamagedFile(path, "not the one-hot labels of its images", MAKE_AGAIN)
        arrays.append(array)
    x_train, y_train, x_test, y_test = arrays
    return x_train, y_train, x_test, y_test
