#!/bin/sh
# Does this configuration train at all, and what is to be expected of it? quick_test.sh CONFIG [EPOCHS] [a.b=c ...]
#
# Trains EPOCHS epochs (2) into runs/quick_test/NAME, prints the diagnosis (launch/diagnose.py) and how it ended, and
# ends with the exit code of the training (table in configs/errors.py). PYTHON names the interpreter, or the project's
# own .venv is taken; QUICK_TEST_DIR is another folder for the runs.
set -u

usage() {
    echo "usage: $0 CONFIG [EPOCHS] [a.b=c ...]" >&2
    exit 2
}

[ $# -ge 1 ] || usage
config=$1
shift
epochs=2
case ${1-} in
'' | *=*) ;;
*[!0-9.]*) usage ;;
*) epochs=$1 && shift ;;
esac

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
if [ -z "${PYTHON-}" ]; then
    PYTHON=python3
    [ -x "$root/.venv/bin/python" ] && PYTHON=$root/.venv/bin/python
fi
name=$(basename -- "$config")
name=${name%.*}
run=${QUICK_TEST_DIR:-$root/runs/quick_test}/$name
[ -f "$run/config.yaml" ] && rm -rf -- "$run" # an earlier quick test: this one starts from nothing

"$PYTHON" "$root/launch/train.py" --config "$config" --epochs "$epochs" --run-dir "$run" "$@"
code=$?
if [ $code -eq 0 ]; then
    "$PYTHON" "$root/launch/diagnose.py" --run "$run"
    echo "PASSED: $name trained $epochs epochs without an error ($run)"
else
    echo "FAILED: $name ended with exit code $code ($run)" >&2
fi
exit $code
