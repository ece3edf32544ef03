"""Making the environment: nothing is done twice, an interruption is mended, a failure is told and harms nothing."""

import importlib.util
import json
import shutil
import sys
from pathlib import Path

import jsonschema
import pytest

from digits.files import PROJECT
from digits.run import setup


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project with a lock but no environment; what would be installed is noted instead."""
    folder = tmp_path / "project"
    (folder / "lib/digits/app/jupyter/lab").mkdir(parents=True)
    (folder / "requirements.lock").write_text("a==1")
    (folder / "pyproject.toml").write_text("[project]")
    shutil.copy(
        PROJECT / "lib/digits/app/jupyter/lab/digits.json", folder / "lib/digits/app/jupyter/lab"
    )
    monkeypatch.setattr(setup, "installer", lambda python: ["install"])
    runs = setup.runs  # an environment without pip is made in a moment
    quick = lambda *command: runs(*command, *(["--without-pip"] if "venv" in command else []))  # noqa: E731
    monkeypatch.setattr(setup, "runs", quick)
    for name in ("VIRTUAL_ENV", "CONDA_PREFIX"):
        monkeypatch.delenv(name, raising=False)
    calls = []

    def call(command, project, environment):
        if command[0] == "install":
            calls.append((command, environment))
        return 0

    monkeypatch.setattr(setup, "call", call)
    return folder, calls


def test_an_environment_is_made_once(project, capsys):
    folder, calls = project
    assert setup.main([], folder) == 0 and len(calls) == 2
    assert "--require-hashes" in calls[0][0] and "--no-deps" in calls[1][0]
    assert capsys.readouterr().out.strip() == str(setup.python_of(folder / ".venv"))
    assert setup.main([], folder) == 0 and len(calls) == 2


def test_a_changed_lock_is_installed_into_the_same_environment(project):
    folder, calls = project
    setup.main([], folder)
    (folder / ".venv/mine").touch()
    (folder / "requirements.lock").write_text("a==2")
    setup.main([], folder)
    assert len(calls) == 4 and (folder / ".venv/mine").exists()


def test_a_project_that_was_renamed_gets_an_environment_of_its_own(project):
    """The programs in .venv/bin name the folder in which it was made."""
    folder, calls = project
    setup.main([], folder)
    (folder / ".venv/mine").touch()
    renamed = folder.rename(folder.with_name("renamed"))
    assert setup.main([], renamed) == 0 and len(calls) == 4
    assert not (renamed / ".venv/mine").exists()
    assert str(folder) not in (renamed / ".venv/bin/activate").read_text()
    assert setup.main([], renamed) == 0 and len(calls) == 4


def test_a_half_made_environment_is_made_anew(project, monkeypatch):
    folder, calls = project

    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(setup, "install", interrupted)
        setup.main([], folder)
    (folder / ".venv/half").touch()
    assert setup.main([], folder) == 0 and len(calls) == 2 and not (folder / ".venv/half").exists()


def test_a_failed_update_is_told_and_the_environment_kept(project, monkeypatch, capsys):
    folder, calls = project
    setup.main([], folder)
    (folder / ".venv/mine").touch()
    (folder / "requirements.lock").write_text("a==2")
    monkeypatch.setattr(setup, "call", lambda command, *_: int(command[0] == "install"))
    assert setup.main([], folder) == 1
    assert "package index" in capsys.readouterr().err
    assert (folder / ".venv/mine").exists() and not setup.up_to_date(folder)
    monkeypatch.setattr(setup, "call", lambda *_: 0)
    assert setup.main([], folder) == 0 and (folder / ".venv/mine").exists()


def test_a_wrong_request_is_told_before_anything_is_installed(project, monkeypatch):
    folder, calls = project
    monkeypatch.setattr(setup, "call", lambda *_: 2)
    assert setup.main(["--bogus"], folder) == 2 and not (folder / ".venv").exists()


def test_a_folder_in_which_nothing_can_be_written_is_told(project, capsys):
    folder, calls = project
    (folder / ".setup.lock").mkdir()  # as good as another user's: it cannot be opened
    assert (
        setup.main([], folder) == 1 and "cannot be made in this folder" in capsys.readouterr().err
    )


def test_an_intel_mac_is_refused_with_a_reason(project, monkeypatch, capsys):
    folder, calls = project
    monkeypatch.setattr("platform.system", lambda: "Darwin")
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    assert setup.main([], folder) == 1 and "LiteRT" in capsys.readouterr().err and not calls


def test_a_dollar_in_the_path_is_refused_before_anything_is_installed(project, capsys):
    folder, calls = project
    odd = folder.rename(folder.with_name("a $HOME"))
    assert setup.main([], odd) == 1 and "a $ in its name" in capsys.readouterr().err and not calls


def test_paths_are_relative_and_the_locale_can_spell_them(project, monkeypatch):
    """pip and uv read " #" in a requirement's path, and setuptools writes in the locale."""
    folder, calls = project
    odd = folder.rename(folder.with_name("a #b ü"))
    monkeypatch.setattr("locale.getencoding", lambda: "ANSI_X3.4-1968")  # LC_ALL=C
    site = odd / ".venv/lib/python3.12/site-packages"
    site.mkdir(parents=True)
    (site / "__editable__.digits-1.pth").write_text(str(odd / "lib"))
    assert setup.main([], odd) == 0
    assert (site / "__editable__.digits-1.pth").read_bytes().isascii()
    assert (site / (site / "__editable__.digits-1.pth").read_text().strip()).samefile(odd / "lib")
    for command, environment in calls:
        assert not [word for word in command if str(odd) in word]
        assert environment["LC_ALL"] in ("C.UTF-8", "UTF-8")


def test_an_active_environment_that_holds_this_checkout_is_used(monkeypatch, tmp_path):
    """One that lies elsewhere, as conda's do."""
    monkeypatch.delenv("CONDA_PREFIX", raising=False)
    monkeypatch.setenv("VIRTUAL_ENV", str(tmp_path / "env"))
    python = setup.python_of(tmp_path / "env")
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nshift\nPYTHONPATH={PROJECT}/lib exec {sys.executable} "$@"\n')
    python.chmod(0o755)  # without -I, so that this checkout is found whatever is installed
    assert setup.active_python(PROJECT) == python
    assert setup.active_python(tmp_path) is None  # the same environment, another checkout


def test_jupyterlab_starts_without_a_question(project):
    """What we set is in force in the environment and among the settings that JupyterLab has."""
    folder, _ = project
    setup.main([], folder)
    settings = folder / ".venv/share/jupyter/lab/settings/overrides.d/digits.json"
    ((name, ours),) = json.loads(settings.read_text()).items()
    plugin, schema = name.split(":")
    known = Path(sys.prefix) / f"share/jupyter/lab/schemas/{plugin}/{schema}.json"
    jsonschema.validate(ours, json.loads(known.read_text(encoding="utf-8")))


def test_packages_are_compiled_when_they_are_installed():
    """Where nothing may be written later (a container, a service), every start would compile TensorFlow."""
    folder = Path(importlib.util.find_spec("optuna").origin).parent  # much of it is never imported
    files = [Path(importlib.util.cache_from_source(str(file))) for file in folder.rglob("*.py")]
    assert len(files) > 100 and all(file.exists() for file in files)
