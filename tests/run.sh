#!/usr/bin/env bash
# Sets the project up when needed, checks style, layers and types, runs the tests.
#     bash tests/run.sh            everything (Chromium, nginx and PostgreSQL where they are installed)
#     bash tests/run.sh fast       two minutes: no browser, no kernel, no server, nothing slow
# Further arguments go to pytest: bash tests/run.sh -k report
set -eu
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
python=$(./run_all.sh --setup-only)
"$python" -m ruff check .
"$python" -m ruff format --check --quiet .
PYTHONPATH=lib "$python" -c 'import sys; from importlinter.cli import lint_imports_command as lint; sys.exit(lint(["--no-cache"]))'
run=("$python" -m pytest -n 3 --dist loadfile --no-loadscope-reorder)  # whole files: the quick runs, niced, and two more
if [ "${1:-}" = fast ]; then
    shift
    exec "${run[@]}" -m "not slow and not browser and not service" "$@"
fi
"$python" -m mypy
exec "${run[@]}" "$@"
