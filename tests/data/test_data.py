"""The data: every container, every damage and every way that a download can go wrong."""

import gzip
import hashlib
import http.server
import io
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from digits import files as records
from digits.data import fetch, unipen
from digits.data import mnist as data

REAL = os.environ.get("DIGITS_DATA")  # read now: the fixture below hides it from every test
needs_mnist = pytest.mark.skipif(
    not REAL or not (Path(REAL) / "mnist.npz").exists(), reason="DIGITS_DATA has no MNIST"
)
needs_pen_digits = pytest.mark.skipif(
    not REAL or not (Path(REAL) / "pendigits-orig.tes").exists(),
    reason="DIGITS_DATA has no pen digits",
)
IDX_MD5 = {  # of the published files, unpacked
    "x_train": "6bbc9ace898e44ae57da46a324031adb",
    "y_train": "a25bea736e30d166cdddb491f175f624",
    "x_test": "2646ac647ad5339dbf082846283269ea",
    "y_test": "27ae3e4e09519cfbb04c329615203637",
}
PEN_MD5 = {"tra": "28e269fb7eaf8cb51af3f561743a0de5", "tes": "af059c4c2017f25d371999f05757d1dc"}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty Keras cache, no given folder, no mirror, no memory of silent machines."""
    for variable in ("DIGITS_DATA", "DIGITS_OFFLINE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setattr(data, "MNIST_MIRRORS", ())
    monkeypatch.setattr(data, "PEN_MIRRORS", ())
    monkeypatch.setattr(fetch, "_silent", {})
    return tmp_path / "keras" / "datasets"


@pytest.fixture
def given(tmp_path, monkeypatch):
    """An empty folder that DIGITS_DATA names."""
    folder = tmp_path / "given"
    folder.mkdir()
    monkeypatch.setenv("DIGITS_DATA", str(folder))
    return folder


@pytest.fixture
def mnist(monkeypatch):
    """Four small arrays that take MNIST's place: what MNIST must be is replaced by what these are."""
    arrays = small_arrays(seed=1)
    known = {
        name: data.MNIST[name]._replace(
            shape=a.shape, idx=data._idx_hash(a), unordered=data._unordered(a)
        )
        for name, a in arrays.items()
    }
    monkeypatch.setattr(data, "MNIST", known)
    return arrays


def small_arrays(seed):
    rng = np.random.default_rng(seed)
    arrays = {}
    for part, n in (("train", 60), ("test", 20)):
        arrays[f"x_{part}"] = rng.integers(0, 256, (n, 28, 28), dtype=np.uint8)
        arrays[f"y_{part}"] = np.arange(n, dtype=np.uint8) % 10
    return arrays


def write_npz(folder, arrays):
    folder.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(folder / "mnist.npz", **arrays)
    return folder / "mnist.npz"


def idx(array):
    return struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def write_idx(folder, arrays, dotted=False, packed=False):
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in arrays.items():
        stem = data.MNIST[name].stem.replace("-idx", ".idx" if dotted else "-idx")
        content = gzip.compress(idx(array), 1) if packed else idx(array)
        (folder / (stem + ".gz" * packed)).write_bytes(content)


def assert_holds(dataset, arrays):
    assert dataset.is_mnist
    for name, array in arrays.items():
        got = getattr(dataset, name)
        if name.startswith("x"):
            assert got.dtype == np.float32 and got.shape == (*array.shape, 1)
            np.testing.assert_array_equal(np.round(got[..., 0] * 255), array)
            assert got.min() >= 0 and got.max() <= 1
        else:
            assert got.dtype == np.int64
            np.testing.assert_array_equal(got, array)


# Containers


def test_npz(given, mnist):
    write_npz(given, mnist)
    dataset = data.load()
    assert_holds(dataset, mnist)
    assert "DIGITS_DATA" in dataset.source and str(given) not in dataset.source


@pytest.mark.parametrize("dotted", [False, True])
@pytest.mark.parametrize("packed", [False, True])
def test_idx(given, mnist, dotted, packed):
    write_idx(given, mnist, dotted, packed)
    assert_holds(data.load("mnist"), mnist)


def test_a_packed_file_is_known_by_its_content(given, mnist):
    write_idx(given, mnist, packed=True)
    for path in given.iterdir():
        path.rename(path.with_suffix(""))
    assert_holds(data.load("mnist"), mnist)


def test_cache(cache, mnist):
    write_npz(cache, mnist)
    dataset = data.load()
    assert_holds(dataset, mnist)
    assert "cache" in dataset.source


def test_hashes_tell_data_sets_apart(given, mnist):
    write_npz(given, mnist)
    dataset = data.load()
    assert set(dataset.hashes) == set(mnist)
    assert dataset.hashes["x_test"] == hashlib.sha256(dataset.x_test.tobytes()).hexdigest()


@needs_mnist
def test_real_mnist_is_known_in_every_container(tmp_path, monkeypatch):
    with np.load(Path(REAL) / "mnist.npz") as archive:
        arrays = {name: archive[name] for name in data.MNIST}
    assert {name: hashlib.md5(idx(array)).hexdigest() for name, array in arrays.items()} == IDX_MD5
    assert {name: data._unordered(array) for name, array in arrays.items()} == {
        name: known.unordered for name, known in data.MNIST.items()
    }
    monkeypatch.setenv("DIGITS_DATA", REAL)
    from_npz = data.load("mnist")
    assert_holds(from_npz, {name: arrays[name] for name in ("x_test", "y_train", "y_test")})
    write_idx(tmp_path / "idx", {name: arrays[name] for name in ("x_train", "y_train")})
    write_idx(
        tmp_path / "idx",
        {name: arrays[name] for name in ("x_test", "y_test")},
        dotted=True,
        packed=True,
    )
    monkeypatch.setenv("DIGITS_DATA", str(tmp_path / "idx"))
    assert data.load("mnist").hashes == from_npz.hashes


@needs_mnist
def test_real_mnist_in_another_order_is_refused(given):
    with np.load(Path(REAL) / "mnist.npz") as archive:
        arrays = {name: archive[name] for name in data.MNIST}
    order = np.random.default_rng(0).permutation(10_000)
    arrays |= {"x_test": arrays["x_test"][order], "y_test": arrays["y_test"][order]}
    write_idx(given, arrays)
    with pytest.raises(data.DataError, match="test images .* in another order"):
        data.load()


# Damage


def damaged(given, match, name="auto"):
    """The one line that a damaged given folder is answered with, which nothing else may replace."""
    with pytest.raises(data.DataError, match=match) as caught:
        data.load(name)
    assert not isinstance(caught.value, data.DataMissing)
    message = str(caught.value)
    assert str(given) in message and "Replace it" in message
    return message


def swap(arrays, a, b):
    return arrays | {a: arrays[b], b: arrays[a]}


@pytest.mark.parametrize(
    ("a", "b", "match"),
    [
        ("x_train", "x_test", "training images .* swapped: MNIST's test images"),
        ("y_train", "y_test", "training labels .* swapped: MNIST's test labels"),
        ("x_test", "y_test", "test images .* swapped: MNIST's test labels"),
    ],
)
@pytest.mark.parametrize("write", [write_npz, write_idx])
def test_swapped(given, mnist, a, b, match, write):
    arrays = swap(mnist, *sorted((a, b), key=list(mnist).index))
    write(given, arrays)
    if a == "x_test":
        match = "swapped"
    damaged(given, match)


def test_shuffled(given, mnist):
    write_npz(given, mnist | {"x_train": mnist["x_train"][::-1]})
    damaged(given, "training images .* in another order")
    write_npz(given, mnist | {"y_test": np.roll(mnist["y_test"], 1)})
    damaged(given, "test labels .* in another order")


def test_foreign(given, mnist):
    write_npz(given, small_arrays(seed=2))
    damaged(given, "not MNIST's.*Fashion-MNIST")


def test_a_single_changed_pixel(given, mnist):
    changed = mnist["x_test"].copy()
    changed[7, 14, 14] ^= 1
    write_idx(given, mnist | {"x_test": changed})
    assert "t10k-images-idx3-ubyte" in damaged(given, "test images .* not MNIST's")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"x_train": np.zeros((60, 784), np.uint8)}, r"shape \(60, 784\)"),
        ({"x_train": np.zeros((60, 28, 28), np.float64)}, "type float64"),
        ({"y_test": np.zeros(19, np.uint8)}, r"shape \(19,\)"),
        ({"y_test": np.array("five")}, "type <U4"),
    ],
)
def test_wrong_shape_or_type(given, mnist, change, match):
    write_npz(given, mnist | change)
    damaged(given, match)


def test_an_array_is_missing(given, mnist):
    write_npz(given, {name: array for name, array in mnist.items() if name != "y_test"})
    damaged(given, "no array y_test")


@pytest.mark.parametrize(
    "content",
    [b"", b"PK\x03\x04", b"<html>Sign in to the network</html>", bytes(1000)],
    ids=["empty", "cut", "page", "0"],
)
def test_not_an_archive(given, mnist, content):
    (given / "mnist.npz").write_bytes(content)
    damaged(given, "mnist.npz: truncated, damaged or not an .npz")


@pytest.mark.parametrize("share", [0.3, 0.99])
def test_truncated_archive(given, mnist, share):
    path = write_npz(given, mnist)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    damaged(given, "mnist.npz: truncated", name="mnist")


@pytest.mark.parametrize("packed", [False, True])
def test_truncated_idx(given, mnist, packed):
    write_idx(given, mnist, packed=packed)
    path = next(given.glob("train-images*"))
    path.write_bytes(path.read_bytes()[:-100])
    assert path.name in damaged(given, "truncated")


def test_odd_idx(given, mnist):
    write_idx(given, mnist)
    path = given / "t10k-labels-idx1-ubyte"
    path.write_bytes(path.read_bytes() + b"\0")
    damaged(given, "t10k-labels-idx1-ubyte: has something appended")
    path.write_bytes(struct.pack(">4B3I", 0, 0, 8, 3, 2**32 - 1, 2**32 - 1, 2**32 - 1))
    damaged(given, "holds 0 of 79,228,162,458,924,105,385,300,197,375 values")
    path.write_bytes(b"\0\0\x08")
    damaged(given, "not an IDX file")


def test_incomplete_idx(given, mnist):
    write_idx(given, mnist)
    (given / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(data.DataError, match="incomplete, without t10k-labels-idx1-ubyte"):
        data.load()


def test_a_file_that_cannot_be_opened(given):
    (given / "mnist.npz").mkdir()
    damaged(given, "mnist.npz: ")


class Payload:
    """An object that leaves a trace when it is unpickled."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return (Path.touch, (self.trace,))


def test_pickles_are_never_loaded(given, mnist, tmp_path):
    trap = np.array([Payload(tmp_path / "trace")], dtype=object)
    write_npz(given, mnist | {"y_test": trap})
    damaged(given, "mnist.npz: .*pickle")
    np.save(tmp_path / "X_train.npy", trap, allow_pickle=True)
    with pytest.raises(data.DataError, match="X_train.npy"):
        data.load_arrays(tmp_path)
    assert not (tmp_path / "trace").exists()


def test_nothing_unpacks_without_limit(given, mnist, monkeypatch):
    monkeypatch.setattr(data, "LARGEST", 10_000)
    write_npz(given, mnist)
    damaged(given, "far larger than MNIST")
    (given / "mnist.npz").unlink()
    write_idx(given, mnist, packed=True)
    damaged(given, "far larger")


def test_a_damaged_head_in_a_sound_archive(given, mnist):
    """The archive's own checksum holds; what NumPy then makes of the head is not always a ValueError."""
    write_npz(given, {name: array for name, array in mnist.items() if name != "y_test"})
    head = b"{'descr': '|u1', 'fortran_order': False, 'shape': (20,)".ljust(117) + b"\n"
    with zipfile.ZipFile(given / "mnist.npz", "a") as archive:
        archive.writestr(
            "y_test.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head + bytes(20)
        )
    damaged(given, "mnist.npz: truncated, damaged")


@pytest.mark.filterwarnings("ignore")  # zipfile and NumPy have things to say about some of these
@pytest.mark.parametrize("kind", ["npz", "idx", "gz"])
def test_random_damage_is_always_a_data_error(given, mnist, kind):
    rng = np.random.default_rng(5)
    write_npz(given, mnist) if kind == "npz" else write_idx(given, mnist, packed=kind == "gz")
    path = max(given.iterdir(), key=lambda path: path.stat().st_size)
    whole = path.read_bytes()
    for _ in range(60):
        content = bytearray(whole)
        heads = [
            rng.integers(0, 200),
            rng.integers(len(whole) - 400, len(whole)),
            rng.integers(0, len(whole)),
        ]
        content[rng.choice(heads)] = rng.integers(0, 256)
        path.write_bytes(content)
        try:
            assert_holds(data.load("mnist"), mnist)  # a byte that means nothing, such as a date
        except data.DataError as error:
            assert str(path) in str(error)


# Where data come from


def test_a_given_folder_must_exist(tmp_path, monkeypatch):
    monkeypatch.setenv("DIGITS_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(
        data.DataError, match="nowhere: DIGITS_DATA must name an existing folder"
    ) as caught:
        data.load()
    assert not isinstance(caught.value, data.DataMissing)


def test_a_given_folder_without_mnist_is_passed_over_aloud(given, cache, mnist):
    write_npz(cache, mnist)
    with pytest.warns(data.DataWarning, match=r"\(DIGITS_DATA\): holds no MNIST") as caught:
        assert_holds(data.load(), mnist)
    assert caught[0].filename == __file__


def test_a_damaged_given_file_is_not_replaced_by_the_cache(given, cache, mnist):
    write_npz(cache, mnist)
    (given / "mnist.npz").write_bytes(b"PK")
    damaged(given, "truncated")


def test_unknown_names():
    with pytest.raises(data.DataError, match="'fashion'"):
        data.load("fashion")
    with pytest.raises(data.DataError, match="'test'"):
        data.load_pen_digits("test")


def test_the_stand_in_says_so(cache):
    with pytest.warns(data.DataWarning, match="not MNIST results") as caught:
        dataset = data.load()
    assert (
        dataset.name == "digits"
        and not dataset.is_mnist
        and "standing in for MNIST" in dataset.source
    )
    assert f"{cache}: holds no MNIST" in str(caught[0].message)


def test_mnist_has_no_stand_in():
    with pytest.raises(data.DataMissing, match="MNIST could not be had"):
        data.load("mnist")


def test_a_damaged_cache_without_a_network(cache, mnist):
    path = write_npz(cache, mnist)
    half = path.read_bytes()[:5000]
    path.write_bytes(half)
    with pytest.warns(data.DataWarning, match="mnist.npz: truncated"):
        assert not data.load().is_mnist
    with (
        pytest.warns(data.DataWarning),
        pytest.raises(data.DataMissing, match="mnist.npz: truncated"),
    ):
        data.load("mnist")
    assert path.read_bytes() == half


# Downloads, from a server of our own


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers, self.asked, self.closing = {}, [], threading.Event()
        self.url = f"http://127.0.0.1:{self.server_port}"

    def add(self, name, answer):
        self.answers[f"/{name}"] = answer
        return f"{self.url}/{name}"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        answer = self.server.answers.get(self.path, 404)
        if isinstance(answer, int):
            self.send_error(answer)
        elif isinstance(answer, bytes):
            self.send(answer, len(answer))
        else:
            answer(self)

    def send(self, body, announced):
        self.send_response(200)
        self.send_header("Content-Length", str(announced))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def short(body):
    """All but the last bytes that were announced, then the connection closes."""
    return lambda handler: handler.send(body[:-100], len(body))


def stalling(body):
    """Half of the body, then silence."""

    def answer(handler):
        handler.send(body[: len(body) // 2], len(body))
        handler.server.closing.wait(20)

    return answer


def silent(handler):
    handler.server.closing.wait(20)


def dripping(handler):
    """One byte at a time, each well before a socket would lose patience."""
    handler.send(b"", 10**6)
    while not handler.server.closing.wait(0.02):
        handler.wfile.write(b"x")


def endless(handler):
    handler.send_response(200)
    handler.end_headers()
    while not handler.server.closing.is_set():
        handler.wfile.write(bytes(100_000))


@pytest.fixture
def server():
    server = Server()
    threading.Thread(
        target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
    ).start()
    yield server
    server.closing.set()
    server.shutdown()
    server.server_close()


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(fetch, "ANSWER", 0.5)
    monkeypatch.setattr(fetch, "STALL", 1.0)


@pytest.fixture
def body(mnist, tmp_path):
    """The bytes of the small mnist.npz."""
    return write_npz(tmp_path / "made", mnist).read_bytes()


@pytest.fixture
def mirrors(monkeypatch):
    """Set the mirrors of MNIST, one address each or several."""

    def set_mirrors(*mirrors):
        sets = tuple((mirror,) if isinstance(mirror, str) else tuple(mirror) for mirror in mirrors)
        monkeypatch.setattr(data, "MNIST_MIRRORS", sets)

    return set_mirrors


def idx_mirror(server, arrays):
    return [
        server.add(f"{data.MNIST[name].stem}.gz", gzip.compress(idx(array)))
        for name, array in arrays.items()
    ]


def test_download_is_kept_for_keras_and_for_us(server, body, mnist, mirrors, cache):
    mirrors(server.add("mnist.npz", body))
    dataset = data.load()
    assert_holds(dataset, mnist)
    assert "downloaded from 127.0.0.1" in dataset.source
    assert [path.name for path in cache.iterdir()] == ["mnist.npz"]
    assert (cache / "mnist.npz").read_bytes() == body
    assert "cache" in data.load().source and len(server.asked) == 1


def test_progress_is_shown_to_a_person_and_not_to_a_log(server, tmp_path, monkeypatch):
    def half_then_wait(handler):
        handler.send(bytes(100_000), 200_000)
        until = time.monotonic() + (5 if screen.isatty() else 0.5)  # seconds for the bar to come
        while "/200k" not in screen.getvalue() and time.monotonic() < until:
            time.sleep(0.05)
        handler.wfile.write(bytes(100_000))

    url = server.add("mnist.npz", half_then_wait)
    for person in (True, False):
        screen = io.StringIO()
        screen.isatty = lambda person=person: person
        monkeypatch.setattr(sys, "stderr", screen)
        assert fetch.fetch(url, tmp_path).stat().st_size == 200_000
        assert (
            "mnist.npz from 127.0.0.1" in screen.getvalue() and "/200k" in screen.getvalue()
        ) is person
        (tmp_path / "mnist.npz").unlink()


def test_the_second_mirror_is_kept_in_the_form_of_keras(server, mnist, mirrors, cache):
    mirrors(server.add("missing/mnist.npz", 404), idx_mirror(server, mnist))
    assert_holds(data.load(), mnist)
    with np.load(cache / "mnist.npz") as archive:
        for name, array in mnist.items():
            np.testing.assert_array_equal(archive[name], array)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (404, "answers 404 Not Found"),
        (500, "answers 500 Internal Server Error"),
        (short, "ended early"),
        (b"<html>Please pay for this network</html>", "sent something else.*not an .npz"),
    ],
    ids=["404", "500", "short", "page"],
)
def test_a_bad_mirror_gives_way_to_the_next(server, body, mnist, mirrors, cache, answer, reason):
    bad = server.add("bad/mnist.npz", short(body) if answer is short else answer)
    mirrors(bad)
    with pytest.raises(data.DataMissing, match=reason) as caught:
        data.load("mnist")
    assert bad in str(caught.value)
    assert not cache.exists()
    mirrors(bad, server.add("mnist.npz", body))
    assert_holds(data.load("mnist"), mnist)


def test_a_download_of_other_data_is_refused(server, mnist, mirrors, cache, tmp_path):
    foreign = write_npz(tmp_path / "foreign", small_arrays(seed=3)).read_bytes()
    mirrors(server.add("mnist.npz", foreign))
    with pytest.raises(data.DataMissing, match="training images .* not MNIST's"):
        data.load("mnist")
    assert not cache.exists()


@pytest.mark.parametrize("answer", [silent, stalling, dripping, endless])
def test_patience_ends(server, body, mnist, mirrors, impatient, monkeypatch, cache, answer):
    monkeypatch.setattr(fetch, "LIMIT", 10**6)
    mirrors(server.add("slow/mnist.npz", stalling(body) if answer is stalling else answer))
    started = time.monotonic()
    with pytest.raises(
        data.DataMissing, match="no answer within|stalled after|sends more than|Timeout"
    ):
        data.load("mnist")
    assert time.monotonic() - started < 3
    assert not cache.exists()


def test_an_offline_machine_soon_gets_the_stand_in(mirrors, impatient, monkeypatch):
    """A name look-up that hangs, as behind a dead router; no timeout of a socket covers it."""
    assert len(data.MNIST_MIRRORS) * fetch.ANSWER <= 15
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: time.sleep(5))
    mirrors("http://one.invalid/mnist.npz", "http://two.invalid/mnist.npz")
    started = time.monotonic()
    with pytest.warns(data.DataWarning, match="one.invalid.*\n.*two.invalid"):
        assert data.load().name == "digits"
    assert time.monotonic() - started < 4


def test_a_silent_machine_is_not_asked_twice(server, impatient, tmp_path):
    url = server.add("a", silent)
    for reason in ("no answer", "did not answer a moment ago"):
        with pytest.raises(fetch.FetchError, match=reason):
            fetch.fetch(url, tmp_path)
    assert len(server.asked) == 1


def test_a_machine_that_refuses(mirrors):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    mirrors(f"http://127.0.0.1:{port}/mnist.npz")
    with pytest.raises(data.DataMissing, match="refused"):
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


def test_a_damaged_cache_is_replaced_only_by_something_better(server, body, mnist, mirrors, cache):
    path = write_npz(cache, mnist)
    path.write_bytes(body[:5000])
    mirrors(server.add("bad/mnist.npz", short(body)))
    with (
        pytest.warns(data.DataWarning, match="truncated.*trying to download it again"),
        pytest.raises(data.DataMissing, match="(?s)truncated.*ended early"),
    ):
        data.load("mnist")
    assert path.read_bytes() == body[:5000]
    mirrors(server.add("mnist.npz", body))
    with pytest.warns(data.DataWarning, match="truncated"):
        assert_holds(data.load(), mnist)
    assert path.read_bytes() == body


def test_a_cache_that_cannot_be_written(server, body, mnist, mirrors, cache):
    cache.parent.write_text("a file where the folder should be")
    mirrors(server.add("mnist.npz", body))
    with pytest.warns(data.DataWarning, match="could not be kept"):
        assert_holds(data.load(), mnist)


CHILD = """
import json, sys
from digits.data import mnist as data
known, url = json.loads(sys.argv[1]), sys.argv[2]
data.MNIST = {name: data.Known(k[0], k[1], tuple(k[2]), k[3], k[4]) for name, k in known.items()}
data.MNIST_MIRRORS = ((url,),)
print(data.load("mnist").hashes["x_train"])
"""


def child(url):
    command = [sys.executable, "-c", CHILD, json.dumps(data.MNIST), url]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_two_processes_download_at_once(server, body, cache):
    gate = threading.Barrier(2, timeout=15)

    def answer(handler):
        gate.wait()  # neither gets its file before both have asked
        handler.send(body, len(body))

    url = server.add("mnist.npz", answer)
    ends = [
        (process.communicate(timeout=30), process.returncode)
        for process in [child(url), child(url)]
    ]
    assert [code for _, code in ends] == [0, 0], ends
    assert len({output for (output, _), _ in ends}) == 1
    assert [path.name for path in cache.iterdir()] == ["mnist.npz"]
    assert (cache / "mnist.npz").read_bytes() == body


def test_a_killed_download_leaves_nothing_that_counts(server, body, mnist, mirrors, cache):
    asked = threading.Event()

    def answer(handler):
        handler.send(body[:5000], len(body))
        asked.set()
        handler.server.closing.wait(20)

    process = child(server.add("mnist.npz", answer))
    assert asked.wait(20)
    process.kill()
    process.communicate()
    assert not (cache / "mnist.npz").exists()
    mirrors(server.add("mnist.npz", body))
    assert_holds(data.load("mnist"), mnist)


# The stand-in


def test_the_stand_in_looks_like_mnist():
    dataset = data.load("digits")
    assert dataset.x_train.shape == (1437, 28, 28, 1) and dataset.x_test.shape == (360, 28, 28, 1)
    assert dataset.x_train.dtype == np.float32 and dataset.y_train.dtype == np.int64
    assert dataset.x_train.min() == 0 and dataset.x_train.max() == 1
    assert 0.1 < dataset.x_train.mean() < 0.2  # MNIST: 0.13
    centres = np.array([ndimage.center_of_mass(image[..., 0]) for image in dataset.x_test])
    assert np.abs(centres - 14).max() <= 0.51  # pixels
    assert np.ptp(np.bincount(dataset.y_test)) <= 2
    assert data.load("digits").hashes == dataset.hashes


# Pen digits

UNIPEN = """.INCLUDE        dene.doc

.LEXICON "0" "1"
.HIERARCHY      DIGIT

.SEGMENT DIGIT    0 ? "7"
.COMMENT 7 12  224
.PEN_DOWN
 100  400
 300  400
 200  100
.PEN_UP
.DT 100

.SEGMENT DIGIT    1-2 ? "4"
.PEN_DOWN
 0  500
.PEN_UP
.DT 100
.PEN_DOWN
 500  0
 499  1
.PEN_UP
.DT 100
"""


def test_unipen():
    seven, four = unipen.parse(UNIPEN)
    assert (seven.label, seven.writer, four.label, four.writer) == (7, 12, 4, None)
    np.testing.assert_array_equal(seven.strokes[0], [[100, 100], [300, 100], [200, 400]])
    assert seven.strokes[0].dtype == np.float32
    assert [stroke.tolist() for stroke in four.strokes] == [[[0, 0]], [[500, 500], [499, 499]]]


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        (" 200  100\n", " 200\n", "line 11, '200'"),
        (" 200  100\n", " 200  1e2\n", "line 11"),
        (" 200  100\n", " 200  100 5\n", "line 11"),
        (" 200  100\n", " 200  501\n", "line 11.*outside the tablet"),
        (" 200  100\n", " -1  100\n", "line 11.*outside the tablet"),
        ('0 ? "7"', '0 ? "x"', "line 6.*label"),
        ('0 ? "7"', '0 ? "17"', "line 6.*label"),
        (".HIERARCHY      DIGIT", ".SURPRISE", "line 4.*not a keyword"),
        (".SEGMENT DIGIT    0", "", "line 6"),
        (".PEN_UP\n.DT 100\n\n", "\n\n", "line 14.*no .PEN_UP"),
        (".COMMENT 7 12  224\n", ".PEN_DOWN\n", "line 8.*down already"),
        ("\n 100  400\n 300  400\n 200  100\n", "\n", "line 9.*without a point"),
        (".COMMENT 7 12  224\n.PEN_DOWN\n", "", "line 7.*while the pen is up"),
        (" 499  1\n.PEN_UP\n.DT 100\n", "", "line 21, the last one.*no .PEN_UP"),
    ],
)
def test_malformed_unipen(old, new, match):
    assert UNIPEN.count(old) == 1
    with pytest.raises(ValueError, match=match):
        unipen.parse(UNIPEN.replace(old, new))


def lzw(content):
    """As ``compress`` packs it: literals of 9 bits, the table cleared before codes could grow longer."""
    codes = []
    for start in range(0, len(content), 247):
        block = [*content[start : start + 247]]
        codes += (
            block if start + 247 >= len(content) else [*block, 256]
        )  # 248 codes: a whole number of bytes
    bits = sum(code << (9 * place) for place, code in enumerate(codes))
    return b"\x1f\x9d\x90" + bits.to_bytes((9 * len(codes) + 7) // 8, "little")


@pytest.fixture
def pen(monkeypatch):
    """Two small files that take the pen digits' place."""
    files = {"tra": UNIPEN, "tes": UNIPEN.replace('"7"', '"1"').replace(".COMMENT 7", ".COMMENT 1")}
    known = {name: (2, hashlib.sha256(text.encode()).hexdigest()) for name, text in files.items()}
    monkeypatch.setattr(data, "PEN_DIGITS", known)
    return {f"pendigits-orig.{name}": text.encode() for name, text in files.items()}


def pen_zip(files):
    with zipfile.ZipFile(file := io.BytesIO(), "w") as archive:
        for name, content in files.items():
            archive.writestr(f"{name}.Z", lzw(content))
    return file.getvalue()


def write_pen(folder, files, form):
    folder.mkdir(parents=True, exist_ok=True)
    if form == "zip":
        (folder / data.PEN_ZIP).write_bytes(pen_zip(files))
    for name, content in files.items() if form != "zip" else ():
        (folder / (f"{name}.Z" if form == "Z" else name)).write_bytes(
            lzw(content) if form == "Z" else content
        )


@pytest.mark.parametrize("form", ["plain", "Z", "zip"])
def test_pen_digits(given, pen, form):
    write_pen(given, pen, form)
    assert [digit.label for digit in data.load_pen_digits("tra")] == [7, 4]
    assert [digit.label for digit in data.load_pen_digits("tes")] == [1, 4]


@needs_pen_digits
@pytest.mark.parametrize(("split", "count", "writers"), [("tra", 7494, 30), ("tes", 3498, 14)])
def test_real_pen_digits(monkeypatch, split, count, writers):
    monkeypatch.setenv("DIGITS_DATA", REAL)
    content = (Path(REAL) / f"pendigits-orig.{split}").read_bytes()
    assert hashlib.md5(content).hexdigest() == PEN_MD5[split]
    digits = data.load_pen_digits(split)
    assert len(digits) == count
    assert {digit.writer for digit in digits} == set(range(1, writers + 1))
    points = np.concatenate([stroke for digit in digits for stroke in digit.strokes])
    assert points.min() >= 0 and points.max() <= 500
    seven = next(digit for digit in digits if digit.label == 7)
    first, last = seven.strokes[0][0], seven.strokes[0][-1]
    assert last[1] > first[1]  # a 7 is written from the top, and y grows downwards


def test_pen_digits_missing(pen):
    with pytest.raises(data.PenDigitsMissing, match="pendigits-orig.tes could not be had"):
        data.load_pen_digits("tes")
    assert issubclass(data.PenDigitsMissing, data.DataError)


@pytest.mark.parametrize(
    ("form", "damage", "match"),
    [
        ("plain", lambda content: content[:-16], "line 22, the last one.*no .PEN_UP"),
        ("plain", lambda content: content.replace(b"300", b"3OO"), "line 10, '3OO  400'"),
        (
            "plain",
            lambda content: content.replace(b"300", b"301"),
            "2 digits that are not the published 2",
        ),
        ("plain", lambda content: bytes(range(256)), "no pen digits"),
        ("Z", lambda content: content[:60], "truncated"),
        ("Z", lambda content: b"\x1f\x8b" + content[2:], "truncated or damaged"),
        ("Z", lambda content: bytes(5_000_000), "far too large"),
        ("zip", lambda content: content[:-40], "truncated, damaged or without"),
    ],
)
def test_damaged_pen_digits(given, pen, form, damage, match):
    write_pen(given, pen, form)
    path = next(path for path in given.iterdir() if ".tra" in path.name or form == "zip")
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(data.DataError, match=match) as caught:
        data.load_pen_digits("tra")
    assert not isinstance(caught.value, data.PenDigitsMissing)
    assert str(path) in str(caught.value)


def test_swapped_pen_digits(given, pen):
    write_pen(given, pen, "plain")
    shutil.copy(given / "pendigits-orig.tra", given / "pendigits-orig.tes")
    with pytest.raises(data.DataError, match="swapped: this is the content of pendigits-orig.tra"):
        data.load_pen_digits("tes")


def test_pen_digits_download_once(server, pen, monkeypatch, cache):
    broken = server.add(data.PEN_ZIP, pen_zip(pen)[:-40])
    parts = tuple(server.add(f"old/{name}.Z", lzw(content)) for name, content in pen.items())
    monkeypatch.setattr(data, "PEN_MIRRORS", ((broken,), parts))
    assert data.load_pen_digits("tes")[0].label == 1
    assert data.load_pen_digits("tra")[0].label == 7
    assert len(server.asked) == 3
    assert {path.name: path.read_bytes() for path in (cache / "pendigits").iterdir()} == pen


def test_pen_digits_from_the_archive(server, pen, monkeypatch):
    monkeypatch.setattr(data, "PEN_MIRRORS", ((server.add(data.PEN_ZIP, pen_zip(pen)),),))
    assert data.load_pen_digits("tra")[0].label == 7


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
def saved(given, mnist, tmp_path):
    """A folder with the four arrays of the small data set."""
    write_npz(given, mnist)
    folder = tmp_path / "saved"
    folder.mkdir()
    data.save_arrays(data.load(), folder)
    return folder


def test_saved_arrays_come_back(saved, mnist):
    assert sorted(path.name for path in saved.iterdir()) == [
        "X_test.npy",
        "X_train.npy",
        "y_test.npy",
        "y_train.npy",
    ]
    dataset = data.load()
    x_train, y_train, x_test, y_test = data.load_arrays(saved)
    np.testing.assert_array_equal(x_train, dataset.x_train)
    np.testing.assert_array_equal(x_test, dataset.x_test)
    np.testing.assert_array_equal(y_train.argmax(axis=1), dataset.y_train)
    np.testing.assert_array_equal(y_test.argmax(axis=1), dataset.y_test)
    assert y_train.dtype == np.float32 and y_train.shape == (60, 10)


@pytest.mark.parametrize(
    ("name", "array", "match"),
    [
        ("X_train", np.zeros((60, 28, 28, 1)), "float64"),
        ("X_train", np.zeros((60, 28, 28), np.float32), r"\(60, 28, 28\)"),
        ("X_test", np.full((20, 28, 28, 1), 2, np.float32), "outside 0 to 1"),
        ("X_test", np.full((20, 28, 28, 1), np.nan, np.float32), "outside 0 to 1"),
        ("X_test", np.zeros((0, 28, 28, 1), np.float32), "expected"),
        ("X_test", np.zeros((19, 28, 28, 1), np.float32), "19 images but 20 labels for test"),
        ("y_train", np.full((60, 10), 0.1, np.float32), "y_train.npy: not one-hot"),
        ("y_train", np.zeros((60, 10), np.float32), "y_train.npy: not one-hot"),
    ],
)
def test_wrong_arrays(saved, name, array, match):
    np.save(saved / f"{name}.npy", array)
    with pytest.raises(data.DataError, match=match) as caught:
        data.load_arrays(saved)
    assert "01_eda" in str(caught.value)


def test_truncated_and_missing_arrays(saved):
    path = saved / "X_test.npy"
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(data.DataError, match="X_test.npy: truncated"):
        data.load_arrays(saved)
    path.unlink()
    with pytest.raises(data.DataError, match="X_test.npy: is missing"):
        data.load_arrays(saved)


def test_a_failed_save_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.npy"
    path.write_bytes(b"old")

    def fail(file):
        file.write(b"new")
        raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space"):
        records.write_file(path, fail)
    assert path.read_bytes() == b"old" and [*tmp_path.glob(".a*")] == []


def test_light_to_import():
    heavy = "tensorflow", "sklearn", "scipy", "pooch", "requests"
    code = f"import sys, digits.data.mnist; sys.exit(any(name in sys.modules for name in {heavy}))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
