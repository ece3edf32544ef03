#!/usr/bin/env bash
# Sets the project up when needed, checks the style of code and notebooks and the types, runs the tests.
# Arguments go to pytest: bash tests/run.sh -k report
set -eu
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
python=$(./run_all.sh --setup-only)
"$python" -m ruff check .
"$python" -m mypy
exec "$python" -m pytest "$@"
