#!/usr/bin/env bash
# Makes the environment when it is missing, then runs the notebooks 01 to 04 and writes outputs/<run>/report.html.
# ./run_all.sh --help lists the options.
set -eu
here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)

suitable() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' >/dev/null 2>&1; }

find_python() {
    local candidate
    for candidate in "$here/.venv/bin/python" "$here/.venv/Scripts/python.exe" python3 python3.{13,12,11} python; do
        if suitable "$candidate"; then
            echo "$candidate"
            return
        fi
    done
    command -v uv >/dev/null 2>&1 || return 1
    uv python find --quiet '>=3.11,<3.14' || { uv python install --quiet 3.12 && uv python find --quiet 3.12; }
}

if ! python=$(find_python); then
    echo "./run_all.sh: error: no Python 3.11, 3.12 or 3.13 found. Install one (https://www.python.org/downloads/)." >&2
    exit 2
fi
case " $* " in *" --help "* | *" -h "*) PYTHONPATH="$here/lib" exec "$python" -P -m digits.run.command --help ;; esac

# An active conda or virtual environment is used when it holds this checkout's package; else .venv, made when missing.
python=$("$python" -P "$here/lib/digits/run/setup.py" "$@") || exit $?
case " $* " in
    *" --setup-only "*) "$python" -P -m digits.run.command "$@" && echo "$python" ;;
    *) exec "$python" -P -m digits.run.command "$@" ;;
esac
