"""Comparisons: every condition changes one thing, long studies go on, intervals are those of the textbook."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from digits import data, files
from digits.data.augmentation import NONE, Augmentation
from digits.training import fit as training
from digits.training import study
from toys import bars

CONFIG = training.TrainingConfig(epochs=1, batch_size=20, seed=3)


@pytest.fixture(scope="module")
def images():
    return bars(120)


@pytest.fixture
def sets(images):
    x, y = images
    return {"validation": (x[:50], y[:50].argmax(1)), "pen": (x[50:70], y[50:70].argmax(1))}


def test_every_change_changes_one_thing():
    found = study.conditions(CONFIG)
    whole = found.pop(study.EVERYTHING)
    assert found.pop(study.NO_AUGMENTATION).augmentation is None
    parts = set()
    for name, one in found.items():
        different = [key for key in vars(whole) if getattr(one, key) != getattr(whole, key)]
        assert len(different) == 1, name
        if different == ["augmentation"]:
            changed = [
                part
                for part, value in vars(one.augmentation).items()
                if value != getattr(whole.augmentation, part)
            ]
            assert len(changed) == 1 and getattr(one.augmentation, changed[0]) == 0
            parts |= set(changed)
        if different == ["config"]:
            changed = [key for key in vars(CONFIG) if vars(one.config)[key] != vars(CONFIG)[key]]
            assert len(changed) == 1
    assert parts == set(vars(Augmentation()))


@pytest.mark.slow
def test_the_conditions_reach_the_training(images, sets, monkeypatch):
    """What arrives at ``fit``: labels, non-digits, augmentation, schedule."""
    x, y = images
    seen = {}
    monkeypatch.setattr(
        training,
        "fit",
        lambda model, x, y, validation, config, mixture, non_digits, title: seen.update(
            y=y,
            config=config,
            mixture=mixture,
            others=non_digits,
            title=title,
            dropout=model.get_layer("dropout_1").rate,
        ),
    )
    monkeypatch.setattr(study, "score", lambda model, sets: {})
    for name, condition in study.conditions(CONFIG).items():
        study.train("keras_example", x, y, sets, condition, name)
        assert (seen["others"] is None) == (name == "no non-digits"), name
        assert (seen["mixture"] is None) == (name == study.NO_AUGMENTATION)
        assert (seen["y"].max() < 1) == (name == "labels smoothed by 0.1") and np.allclose(
            seen["y"].sum(1), 1
        )
        assert (seen["dropout"] == 0) == (name == "no dropout") and seen["title"] == name
    assert len(study.non_digits_for(x, y, 1)) == 0.4 * len(x)


@pytest.mark.slow
def test_a_training_is_scored_on_every_set_and_repeats(images, sets):
    condition = study.Condition(CONFIG, None, non_digits=False)
    (net, row), (_, again) = (study.train("micro", *images, sets, condition) for _ in range(2))
    wrong = (net.predict(sets["pen"][0], verbose=0).argmax(1) != sets["pen"][1]).sum()
    assert (row["pen_errors"], row["pen_n"], row["validation_n"]) == (wrong, 20, 50)
    assert row["parameters"] == net.count_params() and row.pop("seconds") > 0
    assert row.items() <= again.items()


def test_a_study_that_was_interrupted_goes_on(images, sets, tmp_path, monkeypatch):
    jobs = {name: ("micro", study.Condition(CONFIG)) for name in ("a", "b")}
    calls = []

    def train(network, x, y, sets, condition, title):
        calls.append((title, condition.config.seed))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return None, {"validation_errors": len(title) + condition.config.seed}

    monkeypatch.setattr(study, "train", train)
    with pytest.raises(KeyboardInterrupt):
        study.repeat(jobs, [1, 2], *images, sets, tmp_path / "kept.json")
    assert len(json.loads((tmp_path / "kept.json").read_text())["runs"]) == 2
    runs = study.repeat(jobs, [1, 2], *images, sets, tmp_path / "kept.json")
    assert calls == [("a", 1), ("b", 1), ("a", 2), ("a", 2), ("b", 2)]
    assert runs["validation_errors"].tolist() == [2, 2, 3, 3]


def rows(accuracies):
    """Runs of made-up accuracies on 1,000 images: {name: one for each seed}."""
    return pd.DataFrame(
        [
            {
                "name": name,
                "seed": seed,
                "validation_accuracy": value,
                "validation_n": 1000,
                "validation_errors": round(1000 * (1 - value)),
            }
            for name, values in accuracies.items()
            for seed, value in enumerate(values)
        ]
    )


def test_effects_are_paired_by_seed_and_their_interval_is_students():
    base = np.array([0.98, 0.97, 0.99])
    gains = {"better": np.array([0.004, 0.006, 0.005]), "same": np.array([0.001, -0.001, 0.0])}
    table = study.effects(
        rows({study.EVERYTHING: base} | {name: base + gain for name, gain in gains.items()}),
        "validation",
    )
    assert list(table.index) == ["better", "same"] and (table["seeds"] == 3).all()
    np.testing.assert_allclose(table["points"], [0.5, 0.0], atol=1e-9)
    spread = np.sqrt(
        (np.var(100 * gains["better"], ddof=1) + np.var(100 * gains["same"], ddof=1)) / 2
    )
    width = stats.t.ppf(0.975, 4) * spread / np.sqrt(3)
    np.testing.assert_allclose(table["high"] - table["points"], width)
    assert table.loc["better", "low"] > 0 > table.loc["same", "low"]


def test_a_single_seed_leaves_what_counting_leaves_open():
    table = study.effects(rows({study.EVERYTHING: [0.98], "worse": [0.95]}), "validation")
    assert table.loc["worse", "points"] == pytest.approx(-3)
    assert table.loc["worse", "high"] + 3 == pytest.approx(100 * 1.96 * np.sqrt(20 + 50) / 1000)


def test_a_change_with_fewer_seeds_is_paired_with_its_own():
    """And its interval is wider, though both share one standard deviation."""
    runs = rows({study.EVERYTHING: [0.98, 0.97, 0.99], "a": [0.97, 0.95, 0.96], "b": [0.97, 0.97]})
    table = study.effects(runs, "validation")
    np.testing.assert_allclose(table["points"], [-2, -0.5], atol=1e-9)
    assert list(table["seeds"]) == [3, 2]
    spread = np.sqrt((2 * np.var([-1, -2, -3], ddof=1) + np.var([-1, 0], ddof=1)) / 3)
    widths = stats.t.ppf(0.975, 3) * spread / np.sqrt([3, 2])
    np.testing.assert_allclose(table["high"] - table["points"], widths)


def test_parts_are_priced_against_the_recipe_and_never_against_another(tmp_path, monkeypatch):
    """What is asked for and the whole recipe, once each; an unknown part or another recipe: no."""
    output, trained = tmp_path / "study.json", []

    def train(network, x, y, sets, condition, title):
        trained.append((title, condition.config.seed, condition.config.decay))
        row = {"validation_accuracy": 0.9, "pen_accuracy": 0.8, "seconds": 1.0}
        return None, row

    monkeypatch.setattr(study, "train", train)
    monkeypatch.setattr(study, "images", lambda: (*bars(40), None))
    monkeypatch.setattr(study, "validation_sets", dict)
    some = ["--output", str(output), "parts", "--only", "constant learning rate", "--seeds"]
    study.main([*some, "1"])
    study.main([*some, "1", "2"])
    whole = study.EVERYTHING
    assert trained == [
        (whole, 1, True), ("constant learning rate", 1, False),
        (whole, 2, True), ("constant learning rate", 2, False)
    ]  # fmt: skip
    assert len(json.loads(output.read_text())["parts"]["runs"]) == 4
    with pytest.raises(SystemExit, match="some of: the whole recipe"):
        study.main([*some[:4], "no luck", "--seeds", "1"])
    with pytest.raises(SystemExit, match="study.json is of another recipe"):
        study.main([*some, "1", "--epochs", "3"])

    def interrupted(*_):
        raise KeyboardInterrupt

    output.rename(tmp_path / "whole.json")  # and one that was interrupted is of its own recipe, too
    monkeypatch.setattr(study, "train", interrupted)
    with pytest.raises(KeyboardInterrupt):
        study.main([*some, "1"])
    with pytest.raises(SystemExit, match="study.parts.json is of another recipe"):
        study.main([*some, "1", "--epochs", "3"])


def test_pen_digits_are_drawn_as_the_app_draws_them():
    stem = data.PenDigit((np.array([[250, 100], [250, 400]], np.float32),), 1, 7)
    images, labels = study.pen_images([stem, stem])
    assert images.shape == (2, 28, 28, 1) and images.dtype == np.float32 and list(labels) == [1, 1]
    ys, xs = np.nonzero(images[0, ..., 0] > 0.3)
    assert np.ptp(ys) + 1 in (19, 20, 21) and np.ptp(xs) < 6 and 13 <= xs.mean() <= 15


def test_nothing_is_augmented_by_none():
    assert not any(vars(NONE).values())


@pytest.mark.parametrize("name", ["parts", "search", "seeds"])
def test_results_go_to_the_committed_files_unless_told_otherwise(name, tmp_path):
    expected = files.SEEDS if name == "seeds" else files.STUDY
    assert study.parse([name]).output == expected
    assert study.parse(["--output", str(tmp_path), name]).output == tmp_path


def test_the_committed_seeds_are_summed_up_as_they_were():
    """And read by the notebook: the file was written by an earlier form of this module."""
    kept = files.read_json(files.SEEDS)
    found = study.summary(kept["runs"])
    assert found.keys() == kept["summary"].keys()
    for name, values in kept["summary"].items():
        for key, value in values.items():
            np.testing.assert_allclose(found[name][key], value, rtol=1e-9)
