"""Making the environment: nothing is done twice, an interruption is mended, a failure is told and harms nothing."""

import json
import sys

import jsonschema
import pytest

from digits.run import setup as bootstrap


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project with a lock but no environment; what would be installed is noted instead."""
    (tmp_path / "requirements.lock").write_text("a==1")
    (tmp_path / "pyproject.toml").write_text("[project]")
    monkeypatch.setattr(bootstrap, "PROJECT", tmp_path)
    monkeypatch.setattr(bootstrap, "LOCK", tmp_path / "requirements.lock")
    monkeypatch.setattr(bootstrap, "VENV", tmp_path / ".venv")
    monkeypatch.setattr(bootstrap, "STAMP", tmp_path / ".venv/digits-setup")
    monkeypatch.setattr(bootstrap, "check_command_line", lambda arguments: None)
    monkeypatch.setattr(bootstrap, "installer", lambda: ["install"])
    monkeypatch.delenv("VIRTUAL_ENV", raising=False)
    monkeypatch.delenv("CONDA_PREFIX", raising=False)
    calls = []
    monkeypatch.setattr(bootstrap, "call", lambda command, failure: calls.append(command))
    return tmp_path, calls


def test_an_environment_is_made_once(project, capsys):
    folder, calls = project
    assert bootstrap.main([]) == 0 and len(calls) == 2
    assert "--require-hashes" in calls[0] and "--no-deps" in calls[1]
    assert capsys.readouterr().out.strip() == str(bootstrap.venv_python())
    assert bootstrap.main([]) == 0 and len(calls) == 2


def test_a_changed_lock_is_installed_into_the_same_environment(project):
    folder, calls = project
    bootstrap.main([])
    (folder / ".venv/mine").touch()
    (folder / "requirements.lock").write_text("a==2")
    bootstrap.main([])
    assert len(calls) == 4 and (folder / ".venv/mine").exists()


def test_a_half_made_environment_is_made_anew(project, monkeypatch):
    folder, calls = project

    def interrupted(command, failure):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(bootstrap, "call", interrupted)
        bootstrap.main([])
    (folder / ".venv/half").touch()
    assert bootstrap.main([]) == 0 and len(calls) == 2 and not (folder / ".venv/half").exists()


def test_a_failed_update_is_told_and_the_environment_kept(project, monkeypatch, capsys):
    folder, calls = project
    bootstrap.main([])
    (folder / ".venv/mine").touch()
    (folder / "requirements.lock").write_text("a==2")

    def offline(command, failure):
        raise bootstrap.SetupError(failure)

    monkeypatch.setattr(bootstrap, "call", offline)
    assert bootstrap.main([]) == 1
    assert "package index" in capsys.readouterr().err
    assert (folder / ".venv/mine").exists() and not bootstrap.up_to_date()
    assert bootstrap.STAMP.read_text() != bootstrap.UNFINISHED


def test_an_active_environment_that_holds_this_checkout_is_used(monkeypatch, tmp_path):
    if bootstrap.VENV.resolve() == bootstrap.Path(sys.prefix).resolve():
        monkeypatch.setattr(bootstrap, "VENV", tmp_path)
    monkeypatch.delenv("CONDA_PREFIX", raising=False)
    monkeypatch.setenv("VIRTUAL_ENV", sys.prefix)
    assert bootstrap.active_environment() == bootstrap.python_of(bootstrap.Path(sys.prefix))
    monkeypatch.setattr(bootstrap, "PROJECT", tmp_path)  # the same environment, another checkout
    assert bootstrap.active_environment() is None


def test_jupyterlab_starts_without_a_question(project):
    """What we set is in force in the environment and among the settings that JupyterLab has."""
    folder, _ = project
    bootstrap.main([])
    ((name, ours),) = json.loads(
        (folder / ".venv/share/jupyter/lab/settings/overrides.d/digits.json").read_text()
    ).items()
    plugin, schema = name.split(":")
    known = bootstrap.Path(sys.prefix) / f"share/jupyter/lab/schemas/{plugin}/{schema}.json"
    jsonschema.validate(ours, json.loads(known.read_text(encoding="utf-8")))
