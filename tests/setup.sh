#!/bin/sh
# setup.sh: what a fresh Debian 12 lacks to build and test accelc, with apt and pip. Sourced by all.sh and models/demo.sh,
# which give need_packages the Debian packages and need_python a folder for the environment and the pip packages.
# Does nothing, and needs no network and no rights, when all is there.

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null 2>&1; then
        sudo "$@"
    else
        echo "accelc: to install packages, run this as root, install sudo, or run: apt-get install $packages" >&2
        exit 1
    fi
}

need_packages() {
    packages=
    for package in "$@"; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || packages="$packages $package"
    done
    [ -z "$packages" ] && return
    if ! command -v apt-get >/dev/null 2>&1; then
        echo "accelc: no apt-get here; what Debian calls$packages must be installed by hand" >&2
        packages=
        return
    fi
    echo "installing$packages"
    # shellcheck disable=SC2086 # a list of words
    as_root env DEBIAN_FRONTEND=noninteractive sh -c 'apt-get update -q && apt-get install -q -y --no-install-recommends "$@"' sh $packages
}

# need_python FOLDER 'pip names' 'modules': an environment of its own; Debian refuses pip outside of one.
need_python() {
    if ! "$1/bin/python" -c "import $3" 2>/dev/null; then
        echo "installing $2 (Python) in $1"
        "${PYTHON:-python3}" -m venv "$1"
        # shellcheck disable=SC2086
        "$1/bin/python" -m pip install -q --disable-pip-version-check $2
    fi
}

# shellcheck disable=SC2034
build_packages="gcc g++ libc6-dev cmake ninja-build pkg-config llvm-19-dev lld-19 zlib1g-dev libzstd-dev libprotobuf-c-dev protobuf-c-compiler python3 python3-venv"
