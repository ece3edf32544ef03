"""MNIST: every container, damage that a user may meet, every way that a download can go wrong."""

import gzip
import hashlib
import json
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage
from server import short, silent, stalling

from digits import data, files
from digits.data import mnist

IDX_MD5 = {  # of the published files, unpacked
    "x_train": "6bbc9ace898e44ae57da46a324031adb",
    "y_train": "a25bea736e30d166cdddb491f175f624",
    "x_test": "2646ac647ad5339dbf082846283269ea",
    "y_test": "27ae3e4e09519cfbb04c329615203637",
}


@pytest.fixture(autouse=True)
def no_other_data(cache):
    """Nothing on this machine but what a test makes."""


@pytest.fixture
def arrays(monkeypatch):
    """Four small arrays that take MNIST's place."""
    made = small_arrays(seed=1)
    hashes = {name: hashlib.sha256(idx(array)).hexdigest() for name, array in made.items()}
    monkeypatch.setattr(mnist, "SHA256", hashes)
    return made


def small_arrays(seed):
    rng, made = np.random.default_rng(seed), {}
    for part, n in (("train", 60), ("test", 20)):
        made[f"x_{part}"] = rng.integers(0, 256, (n, 28, 28), dtype=np.uint8)
        made[f"y_{part}"] = np.arange(n, dtype=np.uint8) % 10
    return made


def write_npz(folder, arrays):
    folder.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(folder / "mnist.npz", **arrays)
    return folder / "mnist.npz"


def idx(array):
    return struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def write_idx(folder, arrays, dotted=False, packed=False):
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in arrays.items():
        stem = mnist.IDX_FILES[name].replace("-idx", ".idx" if dotted else "-idx")
        content = gzip.compress(idx(array), 1) if packed else idx(array)
        (folder / (stem + ".gz" * packed)).write_bytes(content)


def assert_holds(dataset, arrays):
    assert dataset.is_mnist
    for name, array in arrays.items():
        got = getattr(dataset, name)
        if name.startswith("x"):
            assert got.dtype == np.float32 and got.shape == (*array.shape, 1)
            assert got.min() >= 0 and got.max() <= 1
            np.testing.assert_array_equal(np.round(got[..., 0] * 255), array)
        else:
            assert got.dtype == np.int64
            np.testing.assert_array_equal(got, array)


# Containers


def test_npz(given, arrays):
    write_npz(given, arrays)
    dataset = data.load()
    assert_holds(dataset, arrays)
    assert "DIGITS_DATA" in dataset.source and str(given) not in dataset.source
    assert set(dataset.hashes) == set(arrays)
    assert dataset.hashes["x_test"] == hashlib.sha256(dataset.x_test.tobytes()).hexdigest()


@pytest.mark.parametrize("folder", [".", "MNIST/raw"])  # torchvision's place
@pytest.mark.parametrize("dotted", [False, True])
@pytest.mark.parametrize("packed", [False, True])
def test_idx(given, arrays, folder, dotted, packed):
    write_idx(given / folder, arrays, dotted, packed)
    assert_holds(data.load("mnist"), arrays)


def test_a_packed_file_is_known_by_its_content(given, arrays):
    write_idx(given, arrays, packed=True)
    for path in given.iterdir():
        path.rename(path.with_suffix(""))
    assert_holds(data.load("mnist"), arrays)


def test_cache(cache, arrays):
    write_npz(cache, arrays)
    dataset = data.load()
    assert_holds(dataset, arrays)
    assert "cache" in dataset.source


@pytest.mark.slow
def test_real_mnist_is_known_in_every_container(real_data, tmp_path, monkeypatch):
    with np.load(real_data / "mnist.npz") as archive:
        arrays = {name: archive[name] for name in mnist.IDX_FILES}
    assert {name: hashlib.md5(idx(array)).hexdigest() for name, array in arrays.items()} == IDX_MD5
    from_npz = data.load("mnist")
    assert_holds(from_npz, {name: arrays[name] for name in ("x_test", "y_train", "y_test")})
    write_idx(tmp_path / "idx", arrays)
    monkeypatch.setenv("DIGITS_DATA", str(tmp_path / "idx"))
    assert data.load("mnist").hashes == from_npz.hashes


# Damage: one error that names the file, and nothing else is tried


def changed_pixel(arrays):
    images = arrays["x_test"].copy()
    images[7, 14, 14] ^= 1
    return arrays | {"x_test": images}


@pytest.mark.parametrize("write", [write_npz, write_idx])
@pytest.mark.parametrize(
    ("change", "name"),
    [
        (changed_pixel, "x_test"),
        (lambda arrays: arrays | {"x_train": arrays["x_train"][::-1].copy()}, "x_train"),
        (lambda arrays: arrays | {"x_train": arrays["x_test"]}, "x_train"),
        (lambda _: small_arrays(seed=2), "x_train"),
    ],
    ids=["a pixel", "another order", "swapped", "other data"],
)
def test_other_content_is_refused(given, cache, arrays, write, change, name):
    write_npz(cache, arrays)
    write(given, change(arrays))
    with pytest.raises(
        data.DataError, match=f"{name} is not MNIST's.*Fashion-MNIST.*Replace it"
    ) as caught:
        data.load()
    assert str(given) in str(caught.value) and not isinstance(caught.value, data.DataMissing)


NPZ_DAMAGE = {
    "empty": lambda content: b"",
    "a page": lambda content: b"<html>Sign in to the network</html>",
    "cut": lambda content: content[: len(content) // 3],
    "cut at the end": lambda content: content[:-300],
}


@pytest.mark.parametrize("damage", NPZ_DAMAGE.values(), ids=NPZ_DAMAGE)
def test_a_damaged_archive(given, arrays, damage):
    path = write_npz(given, arrays)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(data.DataError, match="mnist.npz: truncated, damaged or not.*Replace it"):
        data.load()


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("cut", [3, 100, -100])
def test_a_damaged_idx_file(given, arrays, packed, cut):
    write_idx(given, arrays, packed=packed)
    path = next(given.glob("train-images*"))
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(data.DataError, match=f"{path.name}: truncated.*Replace it"):
        data.load("mnist")


@pytest.mark.parametrize(
    ("break_it", "match"),
    [
        (lambda given: (given / "t10k-labels-idx1-ubyte").unlink(), "MNIST lacks t10k-labels-idx1"),
        (lambda given: (given / "mnist.npz").mkdir(), "mnist.npz: "),
    ],
)
def test_a_folder_that_cannot_be_used(given, arrays, break_it, match):
    write_idx(given, arrays)
    break_it(given)
    with pytest.raises(data.DataError, match=match):
        data.load()


class Payload:
    """An object that leaves a trace when it is unpickled."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return (Path.touch, (self.trace,))


def test_pickles_are_never_loaded(given, arrays, tmp_path):
    trap = np.array([Payload(tmp_path / "trace")], dtype=object)
    write_npz(given, arrays | {"y_test": trap})
    with pytest.raises(data.DataError, match="mnist.npz: .*pickle"):
        data.load()
    np.save(tmp_path / "X_train.npy", trap, allow_pickle=True)
    with pytest.raises(data.DataError, match="X_train.npy"):
        data.load_arrays(tmp_path)
    assert not (tmp_path / "trace").exists()


@pytest.mark.filterwarnings("ignore")  # zipfile and NumPy have things to say about some of these
@pytest.mark.parametrize("kind", ["npz", "idx", "gz"])
def test_random_damage_is_always_a_data_error(given, arrays, kind):
    rng = np.random.default_rng(5)
    write_npz(given, arrays) if kind == "npz" else write_idx(given, arrays, packed=kind == "gz")
    path = max(given.iterdir(), key=lambda path: path.stat().st_size)
    whole = path.read_bytes()
    for _ in range(20):
        content = bytearray(whole)
        place = rng.choice([rng.integers(0, 200), rng.integers(len(whole) - 400, len(whole))])
        content[place] = rng.integers(0, 256)
        path.write_bytes(content)
        try:
            assert_holds(data.load("mnist"), arrays)  # a byte that means nothing, such as a date
        except data.DataError as error:
            assert str(path) in str(error)


# Where data come from


def test_a_given_folder_must_exist(tmp_path, monkeypatch):
    monkeypatch.setenv("DIGITS_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(data.DataError, match="nowhere: DIGITS_DATA must name an existing folder"):
        data.load()


def test_a_given_folder_without_mnist_is_passed_over_aloud(given, cache, arrays):
    write_npz(cache, arrays)
    with pytest.warns(data.DataWarning, match=r"\(DIGITS_DATA\): holds no MNIST") as caught:
        assert_holds(data.load(), arrays)
    assert caught[0].filename == __file__


def test_unknown_names():
    with pytest.raises(data.DataError, match="'fashion'"):
        data.load("fashion")


def test_the_stand_in_says_so_and_is_never_taken_for_mnist(cache):
    with pytest.warns(data.DataWarning, match="not MNIST results") as caught:
        dataset = data.load()
    assert dataset.name == "digits" and not dataset.is_mnist and "standing in" in dataset.source
    assert f"{cache}: holds no MNIST" in str(caught[0].message)
    with pytest.raises(data.DataMissing, match="MNIST could not be had(?s:.*)set DIGITS_DATA"):
        data.load("mnist")


def test_the_stand_in_looks_like_mnist():
    dataset = data.load("digits")
    assert dataset.x_train.shape == (1437, 28, 28, 1) and dataset.x_test.shape == (360, 28, 28, 1)
    assert dataset.x_train.dtype == np.float32 and dataset.y_train.dtype == np.int64
    assert dataset.x_train.min() == 0 and dataset.x_train.max() == 1
    assert 0.1 < dataset.x_train.mean() < 0.2  # MNIST: 0.13
    centres = np.array([ndimage.center_of_mass(image[..., 0]) for image in dataset.x_test])
    assert np.abs(centres - 14).max() <= 0.51  # pixels
    assert np.ptp(np.bincount(dataset.y_test)) <= 2


# Downloads


@pytest.fixture
def body(arrays, tmp_path):
    """The bytes of the small mnist.npz."""
    return write_npz(tmp_path / "made", arrays).read_bytes()


@pytest.fixture
def mirrors(monkeypatch):
    """Set the mirrors, each an address or several."""

    def set_mirrors(*mirrors):
        sets = tuple((one,) if isinstance(one, str) else tuple(one) for one in mirrors)
        monkeypatch.setattr(mnist, "MIRRORS", sets)

    return set_mirrors


def test_download_is_kept_for_keras_and_for_us(server, body, arrays, mirrors, cache):
    mirrors(server.add("mnist.npz", body))
    dataset = data.load()
    assert_holds(dataset, arrays)
    assert "downloaded from 127.0.0.1" in dataset.source
    assert [path.name for path in cache.iterdir()] == ["mnist.npz"]
    assert (cache / "mnist.npz").read_bytes() == body
    assert "cache" in data.load().source and len(server.asked) == 1


def test_the_second_mirror_is_kept_in_the_form_of_keras(server, arrays, mirrors, cache):
    packed = {name: gzip.compress(idx(array)) for name, array in arrays.items()}
    parts = [server.add(f"{mnist.IDX_FILES[name]}.gz", packed[name]) for name in arrays]
    mirrors(server.add("missing/mnist.npz", 404), parts)
    assert_holds(data.load(), arrays)
    with np.load(cache / "mnist.npz") as archive:
        for name, array in arrays.items():
            np.testing.assert_array_equal(archive[name], array)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (404, "404"),
        (500, "500"),
        (short(bytes(2000)), "IncompleteRead"),
        (b"<html>Please pay for this network</html>", "truncated, damaged or not"),
        (silent, "[Tt]ime"),
        (stalling, "[Tt]imed out"),
    ],
    ids=["404", "500", "short", "page", "silent", "stalling"],
)
def test_a_bad_mirror_gives_way_to_the_next(
    server, body, arrays, mirrors, cache, monkeypatch, answer, reason
):
    monkeypatch.setattr(mnist, "TIMEOUT", (0.5, 0.5))
    bad, started = server.add("bad/mnist.npz", answer), time.monotonic()
    mirrors(bad)
    with pytest.raises(data.DataMissing, match=f"{bad}: .*{reason}"):
        data.load("mnist")
    assert not cache.exists() and time.monotonic() - started < 5
    mirrors(bad, server.add("mnist.npz", body))
    assert_holds(data.load("mnist"), arrays)


def test_a_machine_that_refuses_and_one_that_has_no_address(mirrors):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    mirrors(f"http://127.0.0.1:{port}/mnist.npz", "http://one.invalid/mnist.npz")
    with pytest.raises(data.DataMissing, match="refused(?s:.*)resolve"):
        data.load("mnist")


def test_the_network_can_be_forbidden(server, body, mirrors, monkeypatch):
    monkeypatch.setenv("DIGITS_OFFLINE", "1")
    mirrors(server.add("mnist.npz", body))
    with pytest.raises(data.DataMissing, match="DIGITS_OFFLINE"):
        data.load("mnist")
    monkeypatch.delenv("DIGITS_OFFLINE")
    with pytest.raises(data.DataMissing, match="holds no MNIST"):
        data.load("mnist", download=False)
    assert server.asked == []


def test_a_damaged_cache_is_replaced_only_by_something_better(server, body, arrays, mirrors, cache):
    path = write_npz(cache, arrays)
    path.write_bytes(body[:5000])
    mirrors(server.add("bad/mnist.npz", 404))
    with (
        pytest.warns(data.DataWarning, match="truncated.*trying to download it again"),
        pytest.raises(data.DataMissing, match="(?s)truncated.*404"),
    ):
        data.load("mnist")
    assert path.read_bytes() == body[:5000]
    mirrors(server.add("mnist.npz", body))
    with pytest.warns(data.DataWarning, match="truncated"):
        assert_holds(data.load(), arrays)
    assert path.read_bytes() == body


def test_a_cache_that_cannot_be_written(server, body, arrays, mirrors, cache):
    cache.parent.write_text("a file where the folder should be")
    mirrors(server.add("mnist.npz", body))
    with pytest.warns(data.DataWarning, match="could not be kept"):
        assert_holds(data.load(), arrays)


CHILD = """
import json, sys
from digits.data import mnist
mnist.SHA256, mnist.MIRRORS = json.loads(sys.argv[1]), ((sys.argv[2],),)
print(mnist.load("mnist").hashes["x_train"])
"""


def child(url):
    command = [sys.executable, "-c", CHILD, json.dumps(mnist.SHA256), url]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_two_processes_download_at_once(server, body, arrays, cache):
    gate = threading.Barrier(2, timeout=60)

    def answer(handler):
        gate.wait()  # neither gets its file before both have asked
        handler.send(body, len(body))

    url = server.add("mnist.npz", answer)
    processes = [child(url), child(url)]
    ends = [(process.communicate(timeout=90), process.returncode) for process in processes]
    assert [code for _, code in ends] == [0, 0], ends
    assert len({output for (output, _), _ in ends}) == 1
    assert [path.name for path in cache.iterdir()] == ["mnist.npz"]
    assert (cache / "mnist.npz").read_bytes() == body


@pytest.mark.slow
def test_a_killed_download_leaves_nothing_that_counts(server, body, arrays, mirrors, cache):
    asked = threading.Event()

    def answer(handler):
        handler.send(body[:5000], len(body))
        asked.set()
        handler.server.closing.wait(20)

    process = child(server.add("mnist.npz", answer))
    assert asked.wait(60)
    process.kill()
    process.communicate()
    assert not (cache / "mnist.npz").exists()
    mirrors(server.add("mnist.npz", body))
    assert_holds(data.load("mnist"), arrays)


# What a run works with


def test_split_is_stratified_disjoint_and_seeded():
    y = np.repeat(np.arange(10), [90, 110, 100, 100, 95, 105, 100, 100, 80, 120])
    training, validation = data.split(y, 200, seed=3)
    assert len(validation) == 200 and sorted([*training, *validation]) == list(range(1000))
    np.testing.assert_array_equal(np.bincount(y[validation]), np.bincount(y) // 5)
    np.testing.assert_array_equal(data.split(y, 200, seed=3)[1], validation)
    assert (data.split(y, 200, seed=4)[1] != validation).any()


def test_one_hot():
    encoded = data.one_hot(np.array([3, 0, 9]))
    assert encoded.dtype == np.float32 and encoded.shape == (3, 10)
    np.testing.assert_array_equal(encoded.argmax(axis=1), [3, 0, 9])
    for wrong in ([-1, 2], [10]):
        with pytest.raises(data.DataError, match="0 to 9"):
            data.one_hot(np.array(wrong))


@pytest.fixture
def saved(given, arrays, tmp_path):
    """A folder with the four arrays of the small data set."""
    write_npz(given, arrays)
    folder = tmp_path / "saved"
    folder.mkdir()
    data.save_arrays(data.load(), folder)
    return folder


def test_saved_arrays_come_back(saved):
    names = sorted(path.name for path in saved.iterdir())
    assert names == ["X_test.npy", "X_train.npy", "y_test.npy", "y_train.npy"]
    dataset = data.load()
    x_train, y_train, x_test, y_test = data.load_arrays(saved)
    np.testing.assert_array_equal(x_train, dataset.x_train)
    np.testing.assert_array_equal(x_test, dataset.x_test)
    np.testing.assert_array_equal(y_train.argmax(axis=1), dataset.y_train)
    np.testing.assert_array_equal(y_test.argmax(axis=1), dataset.y_test)
    assert y_train.dtype == np.float32 and y_train.shape == (60, 10)


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("X_train", np.zeros((60, 28, 28, 1))),
        ("X_train", np.zeros((60, 28, 28), np.float32)),
        ("X_test", np.full((20, 28, 28, 1), 2, np.float32)),
        ("X_test", np.full((20, 28, 28, 1), np.nan, np.float32)),
        ("X_test", np.zeros((0, 28, 28, 1), np.float32)),
        ("y_test", np.eye(10, dtype=np.float32)[[0] * 19]),
        ("y_train", np.full((60, 10), 0.1, np.float32)),
        ("y_train", np.zeros((60, 10), np.float32)),
    ],
    ids=["float64", "no channel", "above 1", "NaN", "none", "too few", "shares", "no label"],
)
def test_wrong_arrays(saved, name, array):
    np.save(saved / f"{name}.npy", array)
    with pytest.raises(data.DataError, match=f"{name}.npy: .*Run the first notebook again"):
        data.load_arrays(saved)


def test_truncated_and_missing_arrays(saved):
    path = saved / "X_test.npy"
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(data.DataError, match="X_test.npy: missing or damaged"):
        data.load_arrays(saved)
    path.unlink()
    with pytest.raises(data.DataError, match="X_test.npy: missing or damaged"):
        data.load_arrays(saved)


def test_a_failed_save_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.npy"
    path.write_bytes(b"old")

    def fail(file):
        file.write(b"new")
        raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space"):
        files.write_file(path, fail)
    assert path.read_bytes() == b"old" and os.listdir(tmp_path).count("a.npy") == 1
    assert [*tmp_path.glob(".a*")] == []


def test_light_to_import():
    heavy = "tensorflow", "sklearn", "scipy", "pandas", "pooch", "requests"
    code = f"import sys, digits.data; sys.exit(any(name in sys.modules for name in {heavy}))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
