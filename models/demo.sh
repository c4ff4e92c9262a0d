#!/bin/sh
# demo.sh [DIGIT|FILE.npy ...]: installs what is missing (Debian 12, root or sudo), builds accelc, compiles the digit classifier
# and shows pictures with what the model sees in them, and how long that took. Without arguments: all ten samples.
# ACCELC_BUILD=DIR puts the build folders elsewhere.
set -eu
cd "$(dirname "$0")/.."
build=${ACCELC_BUILD:-$PWD}
. tests/setup.sh
# shellcheck disable=SC2086,SC2154 # a list of words, from setup.sh
need_packages $build_packages
mkdir -p "$build"
need_python "$build/build-venv" "onnx==1.22.0" "onnx"

here=$build/build-release
if [ ! -f "$here/build.ninja" ]; then
    cmake -S . -B "$here" --preset release --log-level=WARNING -DACCELC_TESTS=OFF -DPython3_EXECUTABLE="$build/build-venv/bin/python"
fi
cmake --build "$here" --target accelc accelc-run -- --quiet

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
echo "$ accelc models/digits.onnx -o digits.so"
"$here/accelc" models/digits.onnx -o "$work/digits.so"
echo "$(wc -c <models/digits.onnx) bytes of ONNX are $(wc -c <"$work/digits.so") bytes of shared object"

# Eight rows of eight pixels, 0 (black) to 16 (white): grey squares in a terminal, characters elsewhere.
picture() {
    colour=0
    [ -t 1 ] && colour=1
    awk -v colour=$colour 'NR > 3 {
        printf "  "
        for (i = 1; i <= NF; i++)
            if (colour) printf "\033[48;5;%dm  \033[0m", ($i >= 16 ? 231 : 232 + int($i * 1.4))
            else printf "%s", substr("@@%%##**++==--::..      ", 1 + 2 * int($i * 11 / 16), 2)
        print ""
    }' "$1"
}

[ $# -gt 0 ] || set -- 0 1 2 3 4 5 6 7 8 9
for what in "$@"; do
    input=$what
    [ -f "$what" ] || input=models/digit-$what.npy
    echo
    [ -f "${input%.npy}.pgm" ] && picture "${input%.npy}.pgm"
    "$here/accelc-run" "$work/digits.so" --input "image=$input" --output "probability=$work/p.npy" --threads 1 \
        --warmup 100 --repeat 1000 >"$work/said"
    # 128 bytes of header, then ten floats
    od -An -v -w4 -tf4 -j128 "$work/p.npy" | awk '
        $1 > best { best = $1; digit = NR - 1 }
        END { printf "  this is a %d (%.1f %%)", digit, 100 * best }'
    awk '/^latency/ { printf ", %.1f us\n", 1000 * $4 }' "$work/said"
done
