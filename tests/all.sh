#!/bin/sh
# all.sh [ctest options]: everything from nothing. Installs what is missing (Debian 12, root or sudo), builds the release, asan and
# hostile configurations in build-*, and runs every test of the release and the quick tests of the other two in one ctest, so
# its totals end the output. Networks of ../shared are tested by `ctest --test-dir build-release -L model`,
# every case of every operator by -L op.
# ACCELC_BUILD=DIR puts the build folders elsewhere; JOBS=N says how many processes to use.
set -eu
cd "$(dirname "$0")/.."
source=$PWD
build=${ACCELC_BUILD:-$source}
jobs=${JOBS:-$(nproc)}
started=$(date +%s)
. tests/setup.sh
# shellcheck disable=SC2086,SC2154 # a list of words, from setup.sh
need_packages $build_packages check make libjpeg62-turbo-dev libpng-dev libwebp-dev libtiff-dev libopenjp2-7-dev
mkdir -p "$build"
need_python "$build/build-venv" "onnx==1.22.0 numpy ml_dtypes onnxruntime" "onnx, numpy, ml_dtypes, onnxruntime"
python=$build/build-venv/bin/python

launcher=
command -v ccache >/dev/null 2>&1 && launcher=-DCMAKE_C_COMPILER_LAUNCHER=ccache
folders=
for preset in release asan hostile; do
    folder=$build/build-$preset
    werror=OFF # only the optimised build: sanitizers make gcc warn of what cannot be
    [ $preset = release ] && werror=ON
    # shellcheck disable=SC2086
    cmake -S . -B "$folder" --preset $preset --log-level=WARNING -DACCELC_TESTS=ON -DACCELC_WERROR=$werror -DPython3_EXECUTABLE="$python" $launcher
    cmake --build "$folder" -j "$jobs" -- -k 0 --quiet
    folders="$folders $folder"
done
echo "built in $(($(date +%s) - started)) s"

# One ctest over all three.
mkdir -p "$build/build-tests"
for folder in $folders; do
    echo "subdirs(\"$folder\")"
done >"$build/build-tests/CTestTestfile.cmake"
cd "$build/build-tests"
exec ctest -j "$jobs" -LE '^(model|op|gpu)$' --output-on-failure "$@"
