"""The command line: what is asked for is checked before anything runs, and resolved once."""

import pytest

from bench import Bench, write_notebook
from digits.files import PROJECT, RunError
from digits.run import command

NOTEBOOKS = PROJECT / "notebooks"
PROFILES = command.read_profiles(NOTEBOOKS)
NO_CHAPTERS = PROFILES.pop("no_chapters")


@pytest.fixture
def bench(tmp_path) -> Bench:
    """Two tiny notebooks."""
    return Bench(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--bogus"], "unrecognized arguments"),
        (["--profil", "quick"], "unrecognized arguments"),
        (["--profile", "huge"], "invalid choice"),
        (["--dataset", "cifar"], "invalid choice"),
        (["--set", "bogus=1"], "no notebook has the parameter 'bogus'"),
        (["--set", "03_x.size=1"], "no notebook '03_x'"),
        (["--set", "02_training.rate=1"], "has no parameter 'rate'"),
        (["--set", "size=1.5"], "'size' is of type int"),
        (["--set", "size=True"], "'size' is of type int"),
        (["--set", "size={[]:1}"], "'size' is of type int"),
        (["--set", "flag=1"], "'flag' is of type bool"),
        (["--set", "rate=fast"], "'rate' is of type float"),
        (["--set", "rate=1e999"], "finite"),
        (["--set", "rate=-1"], "'rate' takes 0 to 10, not -1.0"),
        (["--set", "01.size=1000001"], "'size' takes 0 to 1_000_000"),
        (["--set", "network=tiny"], "'network' takes small, large or huge, not 'tiny'"),
        (["--set", "layers=[5]"], "'layers' takes one, two or three, not 5"),
        (["--set", "layers=['one', 'four']"], "not 'four'"),
        (["--set", "layers=one"], "'layers' is of type list"),
        (["--set", "size"], "PARAMETER=VALUE"),
        (["--set", "dataset=cifar"], "takes auto, mnist or digits"),
        (["--set", "run_name=x"], "--run"),
        (["--from", "9"], "no notebook '9'"),
        (["--from", "02"], "no run 'latest'"),
        (["--run", "../x"], "no name for a run"),
        (["--run", "reference"], "published run"),
        (["--run", "x.failed"], "the runner's own"),
        (["--run", ""], "no name for a run"),
        (["--check"], "holds no run"),
        (["--check", "nowhere.json"], "no file nowhere.json"),
        (["--check", "run.json", "--set", "seed=2"], "takes profile, data and parameters"),
        (["--check", "run.json", "--profile", "quick"], "takes profile, data and parameters"),
        (["--check", "run.json", "--from", "02"], "takes profile, data and parameters"),
        (["--publish", "x", "--from", "02"], "--publish takes"),
        (["--publish", "nowhere"], "cannot be published"),
    ],
)
def test_a_wrong_request_is_refused_before_anything_runs(bench, arguments, complaint):
    process = bench.play(*arguments)
    assert process.returncode == 2 and complaint in process.stderr
    folders = bench.outputs.iterdir() if bench.outputs.exists() else ()
    assert not [path for path in folders if path.is_dir()]


def test_a_data_folder_that_does_not_exist_is_refused(bench):
    process = bench.play(DIGITS_DATA=str(bench.home / "nowhere"))
    assert process.returncode == 2 and "is no folder" in process.stderr


@pytest.mark.parametrize(
    "setting",
    [
        "02_training.architecture=nonsense",
        "batch_size=0",
        "epochs=-3",
        "04_optimization.students=[5]",
        "04_optimization.students=['mini']",
        "dropout=1.5",
        "learning_rate=0",
        "sparsities=[1.0]",
        "architectures=['no luck']",
    ],
)
def test_a_value_that_a_real_notebook_does_not_bear_is_refused(capsys, setting):
    assert command.main(["--set", setting, "--setup-only"]) == 2
    assert " takes " in capsys.readouterr().err


def test_every_profile_fits_the_notebooks_and_every_parameter_says_what_it_takes():
    notebooks = command.find_notebooks(NOTEBOOKS, NO_CHAPTERS)
    assert list(PROFILES) == ["quick", "standard", "full"]
    for profile in PROFILES.values():
        command.effective(notebooks, profile, [])
    silent = {
        f"{notebook.name}.{name}"
        for notebook in notebooks
        for name, value in notebook.defaults.items()
        if name not in notebook.limits and name != "run_name" and not isinstance(value, bool)
    }
    assert not silent


@pytest.mark.slow  # TensorFlow is imported
def test_the_choices_in_the_notebooks_are_those_of_the_library():
    from digits.training import networks

    (second, fourth) = command.find_notebooks(NOTEBOOKS, NO_CHAPTERS)[1::2]
    for parameter in ("architectures", "students"):
        assert sorted(command.choices(fourth.limits[parameter])) == sorted(networks.NAMES)
    assert set(command.choices(second.limits["architecture"])) <= set(networks.NAMES)


def test_a_new_notebook_is_a_chapter_and_the_app_is_none(bench):
    for name in ("05_draw", "06_more"):
        write_notebook(bench.notebooks / f"{name}.ipynb", name, "seed = 1  # a seed", [])
    found = command.find_notebooks(bench.notebooks, ["05_draw"])
    assert [notebook.name for notebook in found] == ["01_eda", "02_training", "06_more"]


def test_values_take_the_type_of_the_default(bench):
    notebooks = command.find_notebooks(bench.notebooks, [])
    settings = ["rate=2", "flag=false", "used=1", "01.size=7", "layers=['two', 'three']"]
    values = command.effective(notebooks, {"02_training": {"network": "huge"}}, settings)
    assert values["01_eda"] == {
        "run_name": "interactive",
        "dataset": "auto",
        "used": "1",
        "rate": 2.0,
        "flag": False,
        "size": 7,
        "pause": 0.0,
        "seed": 1,
    }
    training = values["02_training"]
    assert (training["size"], training["network"]) == (100, "huge")
    assert training["layers"] == ["two", "three"]


@pytest.mark.parametrize(
    "source",
    [
        "a = 1 + x",
        "a, b = 1, 2",
        "import os",
        "a = print()",
        "a = b = 1",
        "%matplotlib inline",
        "a = {[]: 1}",
    ],
)
def test_a_parameters_cell_holds_literals_only(source):
    with pytest.raises(RunError):
        command.read_parameters(source, "x.ipynb")


def test_a_default_or_a_profile_that_its_own_notebook_refuses_is_told(bench):
    (bench.notebooks / "profiles.toml").write_text("no_chapters = []\n[quick.01_eda]\nrate = 11\n")
    process = bench.play("--profile", "quick")
    assert process.returncode == 2 and "profiles.toml: 'rate' takes 0 to 10" in process.stderr
    write_notebook(bench.notebooks / "02_training.ipynb", "x", "epochs = 0  # 1 to 9: passes", [])
    process = bench.play()
    assert process.returncode == 2 and "02_training.ipynb: 'epochs' takes 1 to 9" in process.stderr


@pytest.mark.parametrize("text", ["[quick", "no_chapters = []\n[quick.09_x]\na = 1", ""])
def test_broken_profiles_are_told(bench, text):
    (bench.notebooks / "profiles.toml").write_text(text)
    process = bench.play("--profile", "quick")
    assert process.returncode == 2 and "profile" in process.stderr
