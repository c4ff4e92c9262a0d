"""The Python package and accelc-run on hand-written models (fake_model.c). Needs cc, numpy and onnx, not the compiler:

    python -m unittest tests/runtime/test_py.py
"""
import ctypes as c
import gc
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from unittest import mock

HERE = os.path.dirname(os.path.abspath(__file__))
RUNTIME = os.path.join(HERE, "..", "..", "runtime")
sys.path.insert(0, os.path.join(RUNTIME, "python"))

import numpy as np  # noqa: E402

import accelc  # noqa: E402
from accelc import _abi as abi, _dlpack, _session  # noqa: E402

CC = os.environ.get("CC", "cc")
FOLDER = None


def setUpModule():
    global FOLDER
    FOLDER = tempfile.mkdtemp(prefix="accelc-test-")
    os.chdir(FOLDER)
    for model in (1, 2, 3):
        subprocess.run([CC, "-std=c17", "-O1", "-shared", "-fPIC", "-D_GNU_SOURCE", f"-DMODEL={model}", "-I", RUNTIME,
                        os.path.join(HERE, "fake_model.c"), os.path.join(RUNTIME, "rt_all.c"), "-o", f"m{model}.so",
                        "-lpthread"], check=True)
    subprocess.run([CC, "-std=c17", "-O1", "-I", RUNTIME, os.path.join(RUNTIME, "run.c"),
                    os.path.join(RUNTIME, "npy.c"),
                    os.path.join(RUNTIME, "profile.c"), "-o", "accelc-run", "-ldl", "-lpthread"], check=True)
    with open("accelc", "w") as f:              # "compiles" to m1.so, or fails like the real one
        f.write('#!/bin/sh\ncase "$*" in *--bad*) echo "x.onnx: error: no" >&2; exit 1;; esac\n'
                f'test -s "$1" || exit 3\ncp {FOLDER}/m1.so "$3"\n')
    os.chmod("accelc", stat.S_IRWXU)
    os.environ["ACCELC"] = os.path.join(FOLDER, "accelc")


def tearDownModule():
    shutil.rmtree(FOLDER)


def arr(n, start=0.0):
    return np.arange(n, dtype=np.float32) + np.float32(start)


class Sessions(unittest.TestCase):
    def test_description(self):
        m = accelc.load("m1.so")
        self.assertEqual([(p.name, p.dtype, p.shape) for p in m.inputs],
                         [("x", np.float32, ("n",)), ("y", np.float32, ("n",))])
        self.assertEqual(m.outputs[0].shape, ("n",))
        self.assertEqual(m.symbols, ("n",))
        self.assertIn("x: float32", repr(m))
        self.assertEqual(m.step_name(0), ("kernel", "node"))
        self.assertRegex(accelc.__version__, r"^\d+\.\d+")

    def test_run_and_shapes(self):
        m = accelc.load("m1.so")
        for threads in (0, 1, 2, 3):
            with m.session(threads=threads) as s:
                for n in (3, 5000, 0, 3, 1, 5000):
                    for _ in range(3):
                        out = s.run({"x": arr(n), "y": arr(n, 2)})
                        np.testing.assert_array_equal(out["z"], arr(n) * 2 + 2)
                        self.assertEqual(list(out), ["z"])

    def test_results_stay(self):
        s = accelc.load("m1.so").session()
        kept, views = [], []
        for i in range(20):
            z = s.run({"x": arr(100, i), "y": arr(100)})["z"]
            kept.append(z) if i % 2 else views.append(z[10:20])
        for i, z in enumerate(kept):
            np.testing.assert_array_equal(z, arr(100, 2 * i + 1) + arr(100))
        for i, z in enumerate(views):
            np.testing.assert_array_equal(z, (arr(100, 2 * i) + arr(100))[10:20])
        s.close()
        np.testing.assert_array_equal(kept[0], arr(100, 1) + arr(100))

    def test_buffers_come_back(self):
        s = accelc.load("m1.so").session()
        x, seen = arr(1000), set()
        with mock.patch.object(accelc._session, "_empty", wraps=accelc._session._empty) as made:
            for _ in range(50):
                out = s.run({"x": x, "y": x})
                seen.add(out["z"].__array_interface__["data"][0])
        self.assertLessEqual(len(seen), 3)
        self.assertLessEqual(made.call_count, 3)
        self.assertFalse(any(address % 64 for address in seen))

    def test_feedback(self):
        s = accelc.load("m1.so").session()
        z = np.zeros(10, np.float32)
        for _ in range(10):
            z = s.run({"x": z, "y": arr(10)})["z"]
        np.testing.assert_array_equal(z, arr(10) * 10)

    def test_changes_in_place_count(self):
        s = accelc.load("m1.so").session()
        x = arr(6)
        s.run({"x": x, "y": x})
        x += 1
        np.testing.assert_array_equal(s.run({"x": x, "y": x})["z"], 2 * x)
        wide = arr(12)[::2]
        s.run({"x": wide, "y": x})
        wide += 5
        np.testing.assert_array_equal(s.run({"x": wide, "y": x})["z"], wide + x)
        y = arr(6).reshape(2, 3)
        y.shape = (6,)
        np.testing.assert_array_equal(s.run({"x": y, "y": x})["z"], arr(6) + x)

    def test_conversions(self):
        s = accelc.load("m1.so").session()
        x = arr(4)
        for other in ([0, 1, 2, 3], x.astype(">f4"), np.asfortranarray(x), arr(8)[::2] / 2, memoryview(x)):
            np.testing.assert_array_equal(s.run({"x": other, "y": x})["z"], 2 * x)
        x.setflags(write=False)
        np.testing.assert_array_equal(s.run({"x": x, "y": x})["z"], 2 * x)

    def test_errors(self):
        s = accelc.load("m1.so").session()
        x = arr(4)
        for feeds, text in (({"x": x, "y": arr(5)}, 'input "y": dimension 0 ("n"): expected 4, got 5'),
                            ({"x": x, "y": x.astype(int)}, 'input "y": expected type float32, got int64'),
                            ({"x": x, "y": x[None]}, 'input "y": expected rank 1, got 2'),
                            ({"x": x}, "input 'y' is missing"), ({"x": x, "w": x}, "no input 'w'"),
                            ({"x": x, "y": None}, "input 'y' is missing"), ({"x": x, "y": x, "w": x}, "no input 'w'")):
            with self.assertRaises(accelc.Error) as e:
                s.run(feeds)
            self.assertIn(text, str(e.exception))
            np.testing.assert_array_equal(s.run({"x": x, "y": x})["z"], 2 * x)
        with self.assertRaisesRegex(accelc.Error, "no code for level"):
            accelc.load("m1.so").session(cpu="x86-64-v9")
        s.close()
        with self.assertRaisesRegex(accelc.Error, "closed"):
            s.run({"x": x, "y": x})

    def test_load_errors(self):
        with self.assertRaisesRegex(accelc.Error, "nothing.so"):
            accelc.load("nothing.so")
        with open("text.so", "w") as f:
            f.write("no library")
        with self.assertRaisesRegex(accelc.Error, "text.so"):
            accelc.load("text.so")

    def test_data_dependent(self):
        s = accelc.load("m2.so").session(threads=2)
        for k in (0, 3, 7, 5):
            x = np.zeros(10, np.float32)
            x[:k] = arr(k, 1)
            for _ in range(3):
                out = s.run({"x": x})
                np.testing.assert_array_equal(out["y"], arr(k, 1))
                np.testing.assert_array_equal(out["t"], 2 * x)
        with self.assertRaises(accelc.Error) as e:
            s.run({"x": -arr(3)})
        self.assertEqual((str(e.exception), e.exception.status), ("node 'c': x must not be negative", "EDATA"))

    def test_other_types(self):
        try:
            import ml_dtypes
        except ImportError:
            self.skipTest("ml_dtypes is not installed")
        s = accelc.load("m3.so").session()
        text = np.array(["", "grün", "x" * 100, "b", "c"], object)
        q = np.array([-8, 7, -1, 0, 3]).astype(ml_dtypes.int4)
        b = np.array([0.5, -2, 1, 3, 4]).astype(ml_dtypes.bfloat16)
        for _ in range(3):
            out = s.run({"s": text, "q": q, "b": b})
            self.assertEqual(list(out["S"]), list(text))
            self.assertEqual((out["Q"].dtype, out["B"].dtype), (q.dtype, b.dtype))
            self.assertEqual(out["Q"].astype(int).tolist(), q.astype(int).tolist())
            np.testing.assert_array_equal(out["B"].astype(np.float32), b.astype(np.float32))
        self.assertEqual(list(s.run({"s": text.astype("U"), "q": q, "b": b})["S"]), list(text))

    def test_many_maps(self):                   # of the same kind, which are read together, and of any other
        def value(kind, x=None, parts=None, n=0):
            v = abi.Value(kind=kind)
            if x is not None:
                sizes.append(np.array(x.shape))
                v.dtype, v.rank, v.dims, v.data, v.bytes = abi.number_of(x.dtype), 1, sizes[-1].ctypes.data, x.ctypes.data, x.nbytes
            v.elem, v.nelem = parts or 0, n
            return v

        def maps(pairs):
            flat = (abi.Value * (2 * len(pairs)))(*[value(abi.TENSOR, x) for pair in pairs for x in pair])
            rows = (abi.Value * len(pairs))(*[value(abi.MAP, None, c.addressof(flat[i]), 2) for i in range(0, len(flat), 2)])
            return _session._copy(value(abi.SEQUENCE, None, c.addressof(rows), len(rows)))

        sizes = []
        n, keys, other = 3 * _session._MANY, np.array([7, -2]), np.array([[7, -2]] * 99)
        x = np.arange(4 * n, dtype=np.float32).reshape(-1, 2)
        for pairs in ([(keys, r) for r in x[:n]], list(zip(other, x[:n])), list(zip(x[:n], other)), [(keys, x[3])] * n,
                      [(keys, r) for r in x[:2 * n:2]], [(keys, r) for r in x[n:0:-1]], [(keys, r) for r in x[:n]] + [(keys[:1], x[n, :1])],
                      list(zip(other, x.astype(np.float64)))[:n], [(keys[:0], x[0, :0])] * n,
                      [(keys, r) for r in x[:n - 1]] + [(keys, other[0])]):
            self.assertEqual(maps(pairs), [dict(zip(k.tolist(), v.tolist())) for k, v in pairs])

    def test_config(self):
        steps = []
        s = accelc.load("m1.so").session(threads=1, sym_max={"n": 100}, on_step=lambda *a: steps.append(a))
        s.run({"x": arr(4), "y": arr(4)})
        self.assertEqual([a[:2] for a in steps], [(0, 0)])
        with self.assertRaisesRegex(accelc.Error, "no symbol m"):
            accelc.load("m1.so").session(sym_max={"m": 3})

    def test_many_sessions_and_threads(self):
        m, bad = accelc.load("m1.so"), []

        def work():
            s = m.session(threads=2)
            for i in range(200):
                z = s.run({"x": arr(5000, i), "y": arr(5000)})["z"]
                if z[4999] != 2 * 4999 + i:
                    bad.append(z)
        threads = [threading.Thread(target=work) for _ in range(4)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        self.assertEqual(bad, [])
        gc.collect()

    def test_own_executor(self):
        ran = []

        def backwards(n, task):
            ran.append(n)
            for i in reversed(range(n)):
                task(i)
        m = accelc.load("m1.so")
        feed = {"x": arr(5000, 2), "y": arr(5000)}
        with m.session(threads=3, for_each=backwards) as s, m.session(threads=1) as t:
            self.assertEqual(s.run(feed)["z"].tobytes(), t.run(feed)["z"].tobytes())
        self.assertTrue(ran and max(ran) <= 3)

    def test_overhead(self):
        s = accelc.load("m1.so").session(threads=1)
        feeds = {"x": arr(4), "y": arr(4)}
        best = 1.0
        for _ in range(20):
            t = time.perf_counter()
            for _ in range(500):
                out = s.run(feeds)
            best = min(best, (time.perf_counter() - t) / 500)
        del out
        self.assertLess(best, 30e-6)            # about 2 on a quiet machine
        print(f"[{best * 1e6:.2f} us per run] ", end="", file=sys.stderr)


class Compiling(unittest.TestCase):
    def model(self):
        import onnx.helper as h
        x, y, z = (h.make_tensor_value_info(n, 1, ["n"]) for n in "xyz")
        return h.make_model(h.make_graph([h.make_node("Add", ["x", "y"], ["z"])], "g", [x, y], [z]))

    def test_compile(self):
        with open("a.onnx", "wb") as f:
            f.write(b"model")
        for source in ("a.onnx", b"model", self.model()):
            self.assertEqual(accelc.compile(source, "out.so"), "out.so")
            self.assertEqual(accelc.load("out.so").inputs[0].name, "x")
            os.remove("out.so")
        with self.assertRaises(accelc.CompileError) as e:
            accelc.compile("a.onnx", "out.so", "--bad")
        self.assertEqual(str(e.exception), "x.onnx: error: no")
        with self.assertRaisesRegex(accelc.CompileError, "status 3"):
            accelc.compile("none.onnx", "out.so")

    def test_same_name_again(self):             # the file behind a loaded path changes
        shutil.copy("m1.so", "same.so")
        first = accelc.load("same.so")
        os.remove("same.so")
        shutil.copy("m2.so", "same.so")
        self.assertEqual(len(accelc.load("same.so").inputs), 1)
        self.assertEqual(len(first.inputs), 2)

    def test_backend(self):
        backend = accelc.backend
        rep = backend.prepare(self.model())
        x = arr(5)
        np.testing.assert_array_equal(rep.run([x, x])[0], 2 * x)
        np.testing.assert_array_equal(rep.run({"x": x, "y": x})[0], 2 * x)
        self.assertIsInstance(rep.run((x, x)), tuple)
        with self.assertRaises(ValueError):
            rep.run([x, x, x])
        import onnx.helper as h
        np.testing.assert_array_equal(backend.run_node(h.make_node("Add", ["x", "y"], ["z"]), [x, x])[0], 2 * x)
        np.testing.assert_array_equal(backend.run_model(self.model(), [x, x])[0], 2 * x)
        self.assertTrue(backend.supports_device("CPU"))
        self.assertFalse(backend.supports_device("CUDA"))
        self.assertTrue(backend.is_compatible(self.model()))
        self.assertFalse(backend.is_compatible(self.model(), options=["--bad"]))
        from onnx import numpy_helper
        old = self.model()                      # an input that is an initializer too
        old.graph.initializer.append(numpy_helper.from_array(x, "y"))
        rep = backend.prepare(old)
        self.assertEqual(rep.inputs, ["x"])
        np.testing.assert_array_equal(rep.run([x, x])[0], 2 * x)


class Foreign:
    """A tensor of another library: an array that only DLPack can reach, on the host or said to be elsewhere."""
    def __init__(self, x, kind=1, number=None):
        self.x, self.shape, self.kind, self.number = x, x.shape, kind, number or abi.number_of(x.dtype)

    def __dlpack_device__(self):
        return self.kind, 0

    def __dlpack__(self, stream=None):
        return _dlpack.export(self.x.ctypes.data, self.kind, 0, self.shape, self.number, self)


class Strided(Foreign):
    def __dlpack__(self, stream=None):
        return self.x.__dlpack__()


class DLPack(unittest.TestCase):
    def setUp(self):
        self.session = accelc.load("m1.so").session(threads=1)

    def test_inputs(self):
        x, y = arr(7), arr(7, 1)
        for _ in range(3):
            np.testing.assert_array_equal(self.session.run({"x": Foreign(x), "y": y})["z"], x + y)
            x += 1                              # the memory, not a copy of it
        even = np.arange(14, dtype=np.float32)[::2]
        np.testing.assert_array_equal(self.session.run({"x": Strided(even), "y": Strided(y)})["z"], even + y)
        np.testing.assert_array_equal(self.session.run({"x": Foreign(x.astype(np.float64)), "y": y})["z"], x + y)
        self.assertEqual(self.session.run({"x": Foreign(arr(0)), "y": Strided(arr(0))})["z"].shape, (0,))
        import ml_dtypes
        b = np.array([1, 2, 3], ml_dtypes.bfloat16)
        got = accelc.load("m3.so").session().run({"s": np.array(["a", "b", "c"]), "q": np.array([1, 2, 3], ml_dtypes.int4), "b": Foreign(b)})
        self.assertIn(b.tobytes(), [v.tobytes() for v in got.values() if v is not None])

    def test_places(self):
        x, y = arr(7), arr(7, 1)
        for place in (np.zeros(7, np.float32), Foreign(np.zeros(7, np.float32)), Strided(np.zeros(7, np.float32))):
            got = self.session.run({"x": x, "y": y}, out={"z": place})
            self.assertIs(got["z"], place)
            np.testing.assert_array_equal(getattr(place, "x", place), x + y)
        np.testing.assert_array_equal(self.session.run({"x": x, "y": y}, on_device=True)["z"], x + y)  # there is none

    def test_wrong(self):
        x, y = arr(7), arr(7, 1)
        for out, text in (({"w": x}, 'no output'), ({"z": arr(6)}, "needs 28 bytes"), ({"z": arr(8)}, "has shape (7,), the array for it (8,)"),
                          ({"z": np.zeros(7)}, "another type"), ({"z": arr(14)[::2]}, "contiguous"), ({"z": [1]}, "expected an array"),
                          ({"z": Foreign(arr(7), 2)}, "is on device 1, the model runs on the host")):
            with self.assertRaises(accelc.Error) as e:
                self.session.run({"x": x, "y": y}, out=out)
            self.assertIn(text, str(e.exception))
        for bad, text in ((Foreign(x, 7), "device of kind 7"), (Foreign(x, 2), "is on device 1, the model runs on the host")):
            with self.assertRaises(accelc.Error) as e:
                self.session.run({"x": bad, "y": y})
            self.assertIn(text, str(e.exception))
        np.testing.assert_array_equal(self.session.run({"x": x, "y": y})["z"], x + y)
        self.assertFalse(_dlpack._lent)         # every capsule was given back

    def test_export(self):
        a = np.from_dlpack(Foreign(arr(5)))
        np.testing.assert_array_equal(a, arr(5))
        self.assertEqual(len(_dlpack._lent), 1)
        del a
        Foreign(arr(5)).__dlpack__()            # taken by nobody
        self.assertFalse(_dlpack._lent)


class Run(unittest.TestCase):
    def call(self, *args, status=0):
        done = subprocess.run(["./accelc-run", *args], capture_output=True, text=True)
        self.assertEqual(done.returncode, status, done.stderr)
        return done.stdout if status == 0 else done.stderr

    def test_files(self):
        np.save("x.npy", arr(7))
        np.save("y.npy", arr(7, 1))
        for extra in ([], ["--executor", "gang"], ["--executor", "tasks"], ["--executor", "serial"], ["--threads", "3"]):
            text = self.call("m1.so", "--input", "x=x.npy", "--input", "y=y.npy", "--output", "z=z.npy", "--repeat", "5",
                             "--warmup", "2", "--profile", *extra)
            np.testing.assert_array_equal(np.load("z.npy"), arr(7) * 2 + 1)
            self.assertRegex(text, r"latency ms: min [\d.]+  median [\d.]+  p99 [\d.]+  \(5 runs\)")
            self.assertIn("output z: float32 [7]", text)
            self.assertRegex(text, r"0 +[\d.]+ +100.0( +-){4}  kernel +node")
        measured = json.loads(self.call("m1.so", "--repeat", "3", "--profile", "--json", "-"))
        self.assertEqual((measured["runs"], [s["kernel"] for s in measured["steps"]]), (3, ["kernel"]))
        self.assertIn("cannot write none/x.json", self.call("m1.so", "--json", "none/x.json", status=1))

    def test_random(self):
        self.call("m1.so", "--dim", "n=5000", "--output", "z=a.npy", "--seed", "3", "--threads", "1")
        self.call("m1.so", "--dim", "n=5000", "--output", "z=b.npy", "--seed", "3", "--threads", "2")
        a = np.load("a.npy")
        self.assertEqual(a.shape, (5000,))
        np.testing.assert_array_equal(a, np.load("b.npy"))
        self.assertGreater(a.std(), 0.1)
        np.save("x.npy", arr(9))                # files decide sizes of random inputs
        self.call("m1.so", "--input", "x=x.npy", "--output", "z=a.npy")
        self.assertEqual(np.load("a.npy").shape, (9,))

    def test_info(self):
        text = self.call("./m1.so", "--info")
        self.assertIn("input x: tensor(float) [n]", text)
        self.assertIn("--repeat N", self.call("--help"))
        self.assertEqual(self.call("--help"), self.call("-h"))
        self.assertRegex(self.call("--version"), r"^accelc-run \S")

    def test_device(self):
        self.assertIn("output z: float32 [1]", self.call("m1.so", "--device", "cpu"))
        self.assertIn("m1.so: the model has no code for devices, only for the host", self.call("m1.so", "--device", "0", status=1))
        for wrong in ("gpu", "-1", "", "1x", "99999999999"):
            self.assertIn("--device: ", self.call("m1.so", "--device", wrong, status=2))

    def test_wrong_lines(self):
        for status, args, text in ((2, [], "which model?"), (2, ["m1.so", "--what", "1"], "no option --what"),
                                   (2, ["m1.so", "--repeat", "0"], "at least 1"), (2, ["m1.so", "--repeat"], "--repeat"),
                                   (2, ["m1.so", "--input", "x"], "NAME=VALUE"), (2, ["a", "b"], "two models"),
                                   (2, ["m1.so", "--executor", "magic"], "magic"),
                                   (1, ["none.so"], "none.so"), (1, ["m1.so", "--dim", "q=3"], "no such symbol"),
                                   (1, ["m1.so", "--input", "w=x.npy"], 'no input "w"'),
                                   (1, ["m1.so", "--output", "w=x.npy"], 'no output "w"'),
                                   (1, ["m1.so", "--input", "x=none.npy"], "No such file"),
                                   (1, ["m1.so", "--cpu", "x86-64-v9"], "no code for level")):
            self.assertIn(text, self.call(*args, status=status))

    def test_npy_types(self):
        import ml_dtypes
        q = np.array([-8, 7, -1], np.int8)
        np.save("q.npy", q)
        for b in (np.array([1, 2, 3], ml_dtypes.bfloat16), np.array([0x3f80, 0x4000, 0x4040], np.uint16)):
            np.save("b.npy", b)
            self.assertIn("cannot be random", self.call("m3.so", "--input", "q=q.npy", "--input", "b=b.npy", status=1))
        np.save("x.npy", np.asfortranarray(arr(7)))
        np.save("d.npy", np.zeros(7))
        np.save("e.npy", arr(7).astype(">f4"))
        for bad, text in (("d", "has type <f8, not float32"), ("e", "has type >f4, not float32")):
            self.assertIn(text, self.call("m1.so", "--input", f"x={bad}.npy", status=1))

    def test_hostile_npy(self):
        np.save("x.npy", arr(7))
        with open("x.npy", "rb") as f:
            good = f.read()
        self.assertIn(b"'shape': (7,)", good)

        def head(text, data=b"\0" * 28):
            text = text.encode()
            return b"\x93NUMPY\x01\0" + len(text).to_bytes(2, "little") + text + data
        dict_ = "{'descr': '<f4', 'fortran_order': False, 'shape': %s}\n"
        bad = [b"", good[:9], good[:40], good[:-1], good + b"\0", b"X" + good[1:], good[:6] + b"\x09" + good[7:],
               good[:8] + b"\xff\xff" + good[10:], b"\x93NUMPY\x02\0\xff\xff\xff\xff" + good[10:]]
        bad += [head(dict_ % s) for s in ("(-7,)", "(7", "7", "(7)", "(7,,)", "(0x7,)", "(99999999999999999999,)",
                                          "(4294967296, 4294967296)", "(4611686018427387904, 4)", "(1 7,)", "()",
                                          "(" + "1," * 33 + ")", "(7,)} {", "(7,), 'shape': (7,)", "(7,), 'x': 1")]
        bad += [head("{}"), head("{'descr': '<f4', 'shape': (7,)}"), head(dict_.replace("<f4", "<f44444444444444444") % "(7,)"),
                head(dict_.replace("<f4", "f4") % "(7,)"), head(dict_.replace("False", "0") % "(7,)"),
                head(dict_.replace("'<f4'", "[('a', '<f4')]") % "(7,)"), head(dict_.replace("<f4", "|O") % "(7,)")]
        for i, data in enumerate(bad):
            with open("bad.npy", "wb") as f:
                f.write(data)
            text = self.call("m1.so", "--input", "x=bad.npy", status=1)
            self.assertTrue(re.search(r'^accelc-run: input "x": bad.npy: \S', text), (i, text))
        rng = np.random.default_rng(0)
        for i in range(60):                     # one byte changed: an error or a run, never a crash
            data = bytearray(good)
            data[rng.integers(0, 128)] = rng.integers(0, 256)
            with open("bad.npy", "wb") as f:
                f.write(data)
            done = subprocess.run(["./accelc-run", "m1.so", "--input", "x=bad.npy"], capture_output=True)
            self.assertIn(done.returncode, (0, 1))


if __name__ == "__main__":
    unittest.main()
