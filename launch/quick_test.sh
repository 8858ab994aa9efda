#!/bin/sh
# Check that a configuration trains, and diagnose the result: quick_test.sh [CONFIG] [EPOCHS] [a.b=c ...]
# CONFIG is configs/cross_no_skip.yaml unless it is given.
#
# Trains for EPOCHS epochs (default 2) in runs/quick_test/NAME, then prints the diagnosis (launch/diagnose.py) and
# whether training succeeded. Exits with the exit code of the training (listed in configs/errors.py).
#
# Environment: PYTHON is the interpreter (default: that of the project's .venv, else python3); QUICK_TEST_DIR is the
# folder for the runs (default: runs/quick_test).
set -u

usage() {
    echo "usage: $0 [CONFIG] [EPOCHS] [a.b=c ...]" >&2
    exit 2
}

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
case ${1-} in
*.yaml | *.json) config=$1 && shift ;;
*) config=$root/configs/cross_no_skip.yaml ;;
esac
epochs=2
case ${1-} in
'' | *=*) ;;
*[!0-9.]*) usage ;;
*) epochs=$1 && shift ;;
esac

if [ -z "${PYTHON-}" ]; then
    PYTHON=python3
    [ -x "$root/.venv/bin/python" ] && PYTHON=$root/.venv/bin/python
fi
name=$(basename -- "$config")
name=${name%.*}
run=${QUICK_TEST_DIR:-$root/runs/quick_test}/$name
[ -f "$run/config.yaml" ] && rm -rf -- "$run" # left by an earlier quick test: start from scratch

"$PYTHON" "$root/launch/train.py" --config "$config" --epochs "$epochs" --run-dir "$run" "$@"
code=$?
if [ $code -eq 0 ]; then
    "$PYTHON" "$root/launch/diagnose.py" --run "$run"
    echo "PASSED: $name trained for $epochs epochs without errors ($run)"
else
    echo "FAILED: $name ended with exit code $code ($run)" >&2
fi
exit $code
