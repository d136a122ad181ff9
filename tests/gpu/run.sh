#!/usr/bin/env bash
# Runs the tests that need a GPU on a machine without a network. Usage: tests/gpu/run.sh WHEELS [ARGUMENT OF PYTEST...]
# WHEELS: a folder with the wheels that are missing on this machine. README.md beside this file says how to make it.
# What it makes it removes, but for $OUT, if that is set: gpu.json has all figures, tests.xml the result of each test.
set -euo pipefail
wheels=$(realpath "$1")
shift
cd "$(dirname "$0")/../.."

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check --no-index --no-deps --no-compile "$wheels"/*.whl
# What is not among the wheels comes from the packages of this machine's python3.
packages() { "$1" -c 'import sysconfig; print(sysconfig.get_path("purelib"))'; }
echo "import site; site.addsitedir('$(packages python3)')" >"$(packages "$work/venv/bin/python")/machine.pth"

export PYTHONPATH=$PWD PYTHONUNBUFFERED=1 TMPDIR=$work # the checkout, not the wheel of msfser
echo "installed in $SECONDS s"
# pytest prints its summary when it is interrupted.
timeout --foreground --signal=INT --kill-after=10 $((${LIMIT:-465} - SECONDS)) "$work/venv/bin/python" -m pytest tests/gpu \
  --basetemp="$work/tests" -p no:cacheprovider -o faulthandler_timeout=150 --durations=0 ${OUT:+--junitxml="$OUT/tests.xml"} "$@"
