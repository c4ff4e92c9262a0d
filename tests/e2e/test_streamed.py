#!/usr/bin/env python3
"""Results that are written past the caches: right wherever their memory begins, at every CPU level that this machine runs; and only those that are
large and that the model does not read. Copies of a block pass the caches, too.

    test_streamed.py ACCELC
"""
import ctypes
import os
import subprocess
import sys
import tempfile

import accelc
import numpy as np
from accelc import _abi as abi

ROWS, COLUMNS, INNER = 2011, 1601, 8        # 12.9 MB; rows begin anywhere
LEVELS = ["x86-64", "x86-64-v3", "x86-64-v4"]
MODELS = {
    "map": ("%x: f32[2011,1601]", "%y = map { a * 2 + 1 } %x : f32[2011,1601]", lambda x, z: x * 2 + 1),
    "product": ("%x: f32[2011,8], %z: f32[8,1601]", '%y = contract "mk,kn->mn" %x, %z : f32[2011,1601]', lambda x, z: x @ z),
    "repeat": ("%x: f32[1601]", "%y = broadcast [2011, 1601] %x : f32[2011,1601]", lambda x, z: np.broadcast_to(x, (2011, 1601))),
    "halves": ("%x: f16[2011,3202]", "%y = map { a * 2 + 1 + abs(a) } %x : f16[2011,3202]", lambda x, z: x * 2 + 1 + abs(x)),
}
OTHERS = {
    "small": "graph @t (%x: f32[100,100]) -> (%y: f32[100,100]) {\n%y = map { a * 2 } %x : f32[100,100]\nreturn %y\n}",
    "core's share": "graph @t (%x: f32[900,1000]) -> (%y: f32[900,1000]) {\n%y = map { a * 2 } %x : f32[900,1000]\nreturn %y\n}",
    "read": "graph @t (%x: f32[2011,1601]) -> (%y: f32[2011,1601], %s: f32[1601]) {\n%y = map { exp(a) } %x : f32[2011,1601]\n"
            "%s = reduce.sum [0] %y : f32[1601]\nreturn %y, %s\n}",
}


def streams(compiler, text, level):
    args = [compiler, "--from=ir", "--target", level, "--emit=lir", "-", "-o", "-"]
    return ".streamed" in subprocess.run(args, input=text, capture_output=True, text=True, check=True).stdout


def run_at(session, feeds, out, like):
    """Runs with the result at address out."""
    session.run(feeds)
    value = abi.Value(data=out, bytes=like.nbytes)
    assert session._run(session._handle, session._in_address, ctypes.addressof(value)) == 0
    return np.ctypeslib.as_array(ctypes.cast(out, ctypes.POINTER(ctypes.c_uint8)), (like.nbytes,)).view(like.dtype).reshape(like.shape)


def check(compiler, name, level, folder, rng):
    inputs, line, reference = MODELS[name]
    result = line.split(" : ")[1]
    text = f"graph @t ({inputs}) -> (%y: {result}) {{\n{line}\nreturn %y\n}}"
    source, path = os.path.join(folder, "t.ir"), os.path.join(folder, f"{name}-{level}.so")
    with open(source, "w") as f:
        f.write(text)
    accelc.compile(source, path, "--target", level)
    model = accelc.load(path)
    session = model.session(threads=2)
    feeds = {i.name: rng.integers(-9, 9, i.shape).astype(i.dtype) for i in model.inputs}
    want = reference(feeds["x"], feeds.get("z"))
    memory = np.zeros(want.nbytes + 256, np.uint8)
    base = memory.ctypes.data + -memory.ctypes.data % 64
    for offset in (64, 64 + want.itemsize, 80, 96):
        memory[:] = 77
        got = run_at(session, feeds, base + offset, want)
        first = base + offset - memory.ctypes.data
        np.testing.assert_array_equal(got, want)
        assert (memory[:first] == 77).all() and (memory[first + want.nbytes:] == 77).all(), "bytes beside the result changed"
    assert (level != LEVELS[-1] and name != "repeat") or streams(compiler, text, level), "no store is streamed"


def main():
    compiler, rng = sys.argv[1], np.random.default_rng(1)
    with open("/proc/cpuinfo") as f:
        flags = f.read()
    for name in MODELS:
        for level in LEVELS[:1 + ("avx2" in flags) + ("avx512f" in flags)]:
            with tempfile.TemporaryDirectory() as folder:
                check(compiler, name, level, folder, rng)
            print(f"ok   {name} {level}")
    for name, text in OTHERS.items():
        level = LEVELS[1 if "share" in name else -1]
        assert not streams(compiler, text, level), f"{name}: streamed"
        print(f"ok   {name} stays in caches")


if __name__ == "__main__":
    main()
