#!/usr/bin/env python3
"""Models for a GPU, by the runtime for GPUs: with the look-alike of the driver, which runs the emulated kernels; and without a driver,
where the level for the CPU takes its place. The same bits as the artefact made for the look-alike, and close to the host.

    device.py ACCELC FAKECUDA [--all]       every other model, or all
"""
import ctypes
import json
import os
import subprocess
import sys
import tempfile

import accelc
import emulated
import models
import numpy as np
import onnx
import onnx.parser


class Counts(ctypes.Structure):
    _fields_ = [(n, ctypes.c_long) for n in ("calls", "live", "launches", "uploads", "downloads", "moves")]


def exchange(model, feeds, look):
    """Results stay on the device, become operands of another session there, and are places for results; a stream of the caller's."""
    with model.session(device=0) as a, model.session(device=0) as b:
        want = a.run(feeds)["y"]
        y = a.run(feeds, on_device=True)["y"]
        assert isinstance(y, accelc.DeviceArray) and y.shape == want.shape and (y.numpy() == want).all()
        up, down = look.contents.uploads, look.contents.downloads
        z = b.run({**feeds, "x": y}, on_device=True)["y"]
        assert look.contents.downloads == down and look.contents.uploads - up == len(feeds) - 1, "copies of what is on the device"
        want2 = a.run({**feeds, "x": want})["y"]
        assert (z.numpy() == want2).all()
        assert a.run(feeds, out={"y": z})["y"] is z and (z.numpy() == want).all()
        for what in (y.numpy, y.__dlpack__, lambda: b.run({**feeds, "x": y})):
            try:
                what()
                raise AssertionError("a result of an earlier run is there")
            except accelc.Error as e:
                assert "until the session's next run" in str(e), e
    driver, stream, context = ctypes.CDLL(os.environ["ACCELC_LIBCUDA"]), ctypes.c_void_p(), ctypes.c_void_p()
    assert driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0) == driver.cuCtxPushCurrent_v2(context) == 0
    assert driver.cuStreamCreate(ctypes.byref(stream), 1) == 0
    with model.session(device=0, stream=stream.value) as session:
        assert (session.run(feeds)["y"] == want).all()
    assert driver.cuStreamDestroy_v2(stream) == driver.cuCtxPopCurrent_v2(ctypes.byref(context)) == driver.cuDevicePrimaryCtxRelease_v2(0) == 0


def run_on_device(so, feeds_path, results_path):
    """In a process of its own, as the look-alike reads its environment once: two runs of one session, with the threads of each kernel in
    opposite orders. Results are those of the first, and whether the other has the same bits."""
    feeds = np.load(feeds_path, allow_pickle=True)
    model = accelc.load(so)
    with model.session(threads=1) as session:
        results, again = ({k: np.array(v) for k, v in session.run(dict(feeds)).items()} for _ in range(2))
    look = ctypes.CDLL(os.environ["ACCELC_LIBCUDA"]).fakecuda_look
    look.restype = ctypes.POINTER(Counts)
    for device in ("cpu", 1):  # the look-alike has two
        before = look().contents.launches
        with model.session(device=device) as session:
            session.run(dict(feeds))
        assert (look().contents.launches > before) == (device == 1), f"{look().contents.launches - before} launches on {device}"
    if model.name == "elementwise":
        exchange(model, dict(feeds), look())
    try:
        model.session(device=7)
        raise AssertionError("device 7 is there")
    except accelc.Error as e:
        assert "there is no GPU 7, the machine has 2" in str(e), e
    np.savez(results_path, launches=look().contents.launches, live=look().contents.live,
             same=all(v.tobytes() == again[k].tobytes() for k, v in results.items()), **{f"out_{k}": v for k, v in results.items()})


def command_line(so, feeds, fakecuda, emulation, folder):
    """accelc-run --device: a GPU, the host, a GPU that is not there, and no driver."""
    for n, x in feeds.items():
        np.save(f"{folder}/{n}.npy", x)

    def call(device, lib=fakecuda, *options):
        line = [os.environ["ACCELC_RUN"], so, "--device", device, *options, "--output", f"y={folder}/y.npy",
                *(a for n in feeds for a in ("--input", f"{n}={folder}/{n}.npy"))]
        done = subprocess.run(line, capture_output=True, text=True, env={**os.environ, "ACCELC_LIBCUDA": lib, "ACCELC_EMU_KERNELS": emulation})
        return done.stderr or np.load(f"{folder}/y.npy")
    emulated.same(call("1"), call("cpu"), "accelc-run")
    for _ in range(2):
        emulated.same(call("1", fakecuda, "--code-cache", f"{folder}/code"), call("cpu"), "accelc-run with a folder for machine code")
        assert len(os.listdir(f"{folder}/code")) == 1, os.listdir(f"{folder}/code")
    line = [os.environ["ACCELC"], "bench", so, "--device", "1", "--repeat", "2", "--json", "-",
            *(a for n in feeds for a in ("--input", f"{n}={folder}/{n}.npy"))]
    done = subprocess.run(line, capture_output=True, text=True, check=True,
                          env={**os.environ, "ACCELC_LIBCUDA": fakecuda, "ACCELC_EMU_KERNELS": emulation})
    steps = json.loads(done.stdout)["steps"]
    moved = sum(x.nbytes for x in feeds.values()) + feeds["x"].nbytes
    assert [s["device"] for s in steps] == [1] and steps[0]["us"] > 0 and steps[0]["bytes"] == moved, steps
    for device, lib, message in (("2", fakecuda, "there is no GPU 2, the machine has 2"),
                                 ("0", f"{folder}/none.so", "the driver of the GPU is missing")):
        text = call(device, lib)
        assert message in text, text
    emulated.same(call("cpu", f"{folder}/none.so"), call("1"), "accelc-run without a driver")


def weights_of_a_level(folder):
    """A device with room for its level's weights alone: those that a level for the CPU has packed stay on the host."""
    w = np.random.default_rng(0).standard_normal((256, 512)).astype(np.float32)
    graph = onnx.helper.make_graph([onnx.helper.make_node("MatMul", ["x", "w"], ["y"])], "m", [onnx.helper.make_tensor_value_info("x", 1, [3, 256])],
                                   [onnx.helper.make_tensor_value_info("y", 1, [3, 512])], [onnx.numpy_helper.from_array(w, "w")])
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9), f"{folder}/w.onnx")
    accelc.compile(f"{folder}/w.onnx", f"{folder}/w.so", "--target", "gpu-emulated-sm_90a,gpu-emulated,x86-64-v3")
    size = os.path.getsize(f"{folder}/w.so")
    assert 2 * w.nbytes < size < 3 * w.nbytes, f"{size} bytes: levels for GPUs do not share weights, or that for the CPU packs none"
    os.environ["ACCELC_EMU_MEMORY"] = str(w.nbytes * 3 // 2)
    x = np.ones((3, 256), np.float32)
    with accelc.load(f"{folder}/w.so").session(device=0) as session:
        emulated.same(np.asarray(session.run({"x": x})["y"]), x @ w, "weights of a level")
    del os.environ["ACCELC_EMU_MEMORY"]


def main():
    if sys.argv[1] == "--run":
        return run_on_device(*sys.argv[2:])
    command, fakecuda = map(os.path.abspath, sys.argv[1:3])
    with tempfile.TemporaryDirectory(prefix="accelc-device-") as folder:
        for i, name in enumerate(list(models.MODELS)[::1 if "--all" in sys.argv else 2]):
            os.environ["ACCELC_EMU_ARCH"] = "80" if i % 2 else "90"  # sm_90a is a level of its own
            path, so, emulation, feeds_path, results_path = (f"{folder}/{name}{end}"
                                                             for end in (".onnx", ".so", "-emulated.so", "-in.npz", "-out.npz"))
            onnx.save(onnx.parser.parse_model(models.text(name)), path)
            feeds = emulated.feeds_of(path, np.random.default_rng(len(name)))
            np.savez(feeds_path, **feeds)
            accelc.compile(path, so, "--target", "cuda,x86-64", "--gpu", "sm_80,sm_90a", "--name", name)
            accelc.compile(path, emulation, "--target", "gpu-emulated-sm_90a,gpu-emulated", "--name", name)
            env = {**os.environ, "ACCELC_LIBCUDA": fakecuda, "ACCELC_EMU_KERNELS": emulation}
            subprocess.run([sys.executable, __file__, "--run", so, feeds_path, results_path], check=True, env=env)
            got = np.load(results_path, allow_pickle=True)
            os.environ["ACCELC_LIBCUDA"] = fakecuda
            with accelc.load(emulation).session() as session:
                want = session.run(feeds)
            os.environ["ACCELC_LIBCUDA"] = f"{folder}/none.so"
            host = accelc.load(so).session().run(feeds)
            assert got["launches"] > 0 and got["live"] == 0, f"{name}: {got['launches']} launches, {got['live']} things left over"
            assert got["same"], f"{name}: the order of threads matters"
            for n, w in want.items():
                g, w = got[f"out_{n}"], np.asarray(w)
                assert g.dtype == w.dtype and g.tobytes() == w.tobytes(), f"{name}, {n}: {g} instead of {w}"
                emulated.same(np.asarray(host[n]), w, f"{name}, {n}, without a driver")
            if name == "elementwise":
                os.environ["ACCELC_LIBCUDA"] = fakecuda
                weights_of_a_level(folder)
                command_line(so, feeds, fakecuda, emulation, folder)
            print(f"ok   {name}, {got['launches']} launches")


if __name__ == "__main__":
    main()
