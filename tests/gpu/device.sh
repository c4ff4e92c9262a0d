#!/bin/sh
# device.sh BUILD OUT [SECONDS]: everything that only a real GPU can tell, in one go of at most SECONDS (840): what is there; correctness; speed of
# products, convolutions and attention with every schedule, and rows of codegen/gpu_tuned.def for the fastest; beside PyTorch, where that is
# installed. Each part has a share of the time, goes to a file of its own in OUT, and its failure does not stop the others; the end tells which failed.
# BUILD has accelc, accelc-run and tests/ (build there, or bring a build). Parts that compare with ONNX Runtime need onnx, onnxruntime and numpy.
# ACCELC_TEST_GPU=0: the look-alike of the driver instead, with small sizes, to try this script without a GPU.
set -u
build=$(cd "$1" && pwd) out=$2 seconds=${3:-840} failed=""
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$out" && out=$(cd "$out" && pwd)
export ACCELC="$build/accelc" ACCELC_RUN="$build/accelc-run" PYTHONPATH="$here/../../runtime/python" PYTHONUNBUFFERED=1
export ACCELC_CUDA_CACHE="$out/code"
python=${PYTHON:-python3} small=""
if [ "${ACCELC_TEST_GPU:-1}" = 0 ]; then
    unset ACCELC_TEST_GPU
    export ACCELC_LIBCUDA="$build/tests/libfakecuda.so" ACCELC_EMU_CLOCK=1
    small="--small --check"
else
    export ACCELC_TEST_GPU=1
    nvidia-smi 2>&1 | head -20
fi

# part NAME PERCENT COMMAND ..: its last lines are shown
part() {
    name=$1 limit=$((seconds * $2 / 100))
    shift 2
    begun=$(date +%s)
    timeout "$limit" "$@" >"$out/$name.txt" 2>&1
    status=$?
    [ $status -eq 0 ] || failed="$failed $name($status)"
    echo "== $name: status $status, $(($(date +%s) - begun)) s"
    tail -n 4 "$out/$name.txt"
}

if $python -c 'import numpy, onnx' 2>/dev/null; then
    if [ -n "$small" ]; then
        part attention 20 "$python" "$here/attention.py" "$ACCELC"
    else
        part templates 8 "$python" "$here/templates.py" "$ACCELC"
        part attention 5 "$python" "$here/attention.py" "$ACCELC"
        part tiles 20 "$python" "$here/tiles.py" "$ACCELC"
        if $python -c 'import onnxruntime' 2>/dev/null; then
            part networks 6 "$python" "$here/networks.py" "$ACCELC"
            part networks-sm_90a 6 "$python" "$here/networks.py" "$ACCELC" --hopper
        fi
    fi
else
    echo "== correctness: numpy or onnx is missing"
    failed="$failed correctness"
fi
[ -n "$small" ] || part peers 6 "$python" "$here/peers.py" "$ACCELC"
# It stops by itself, so that what it has written is whole.
part tune 48 "$python" "$here/tune.py" "$ACCELC" "$out/gpu_tuned.def" --seconds $((seconds * 42 / 100)) $small
echo "== rows: $(grep -c . "$out/gpu_tuned.def")"
rm -r "$ACCELC_CUDA_CACHE" 2>/dev/null
[ -z "$failed" ] || { echo "failed:$failed"; exit 1; }
