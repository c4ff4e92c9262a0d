#!/usr/bin/env python3
"""Whole networks against ONNX Runtime: bench/check.py of ../shared with every executor, and the same bits from all of them.

    run.py ACCELC [MODEL...] [--executors team,serial,openmp]

Without models: the list below. check.py compares threads 1, 2, 3 at every binding; here their results are also hashed and
compared between executors, on one set of inputs. Needs ../shared ($ACCELC_SHARED).
"""
import argparse
import os
import subprocess
import sys
import tempfile

MODELS = """mnist light_bvlc_alexnet light_densenet121 light_inception_v1 light_inception_v2 light_resnet50 light_shufflenet
light_squeezenet light_vgg19 light_zfnet512 ultraface_rfb320 magika_v3_3 resnet18 resnet50 resnet50_dyn mobilenet_v2
mobilenet_v3_large efficientnet_b0 densenet121 inception_v3 vgg16 regnet_y_400mf mnasnet1_0 unet espcn yolo_n bert_base
minilm_l6 gpt2 vit_b_16 t5_encoder dlrm wide_deep autoencoder tcn_forecast transformer_forecast causal_opset23
mobilenetv2_qdq""".split()
SHARED = os.path.abspath(os.environ.get("ACCELC_SHARED") or os.path.join(os.path.dirname(__file__), "..", "..", "..", "shared"))
CHECK = os.path.join(SHARED, "bench", "check.py")

HASH = """
import hashlib, sys, accelc, numpy as np
so, card = sys.argv[1:3]
sys.path.insert(0, sys.argv[3])
import harness, json, onnx, os
fill = harness.fill_module()
data = json.load(open(card)) if os.path.exists(card) else {}
if data.get("inputs"):
    feeds = fill.inputs(data, (data.get("bindings") or [{}])[0], seed=0)
else:
    model = onnx.load(card[:-5] + ".onnx", load_external_data=False)
    harness.bind_dims(model, {})
    feeds = harness.random_inputs(model, {})
for threads in (1, 2, 3):
    h = hashlib.sha256()
    for name, v in sorted(accelc.load(so).session(threads=threads).run(feeds).items()):
        h.update(v.tobytes() if isinstance(v, np.ndarray) and v.dtype != object else repr(v).encode())
    print(h.hexdigest())
"""


def digests(so, name):
    card = os.path.join(SHARED, "models", name + ".json")
    done = subprocess.run([sys.executable, "-c", HASH, so, card, os.path.join(SHARED, "bench")], capture_output=True, text=True)
    return set(done.stdout.split()) if not done.returncode else {done.stderr.strip().splitlines()[-1]}


def check(name, executors):
    """What is wrong with a model; None if nothing is."""
    seen, report = set(), ""
    for executor in executors:
        with tempfile.TemporaryDirectory(prefix="accelc-model-") as keep:
            done = subprocess.run([sys.executable, CHECK, name, "--keep", keep, f"--options=--executor {executor}"],
                                  capture_output=True, text=True)
            report = done.stdout.splitlines()[0] if done.stdout else done.stderr.strip()
            if done.returncode:
                return f"{executor}: {report}"
            seen |= digests(os.path.join(keep, name + ".so"), name)
    return None if len(seen) == 1 else f"executors differ: {sorted(seen)}"


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("accelc")
    p.add_argument("model", nargs="*")
    p.add_argument("--executors", default="team,serial,openmp")
    a = p.parse_args()
    if not os.path.exists(CHECK):
        print(f"skipped: {CHECK} is not here")
        return 0
    os.environ["ACCELC"] = os.path.abspath(a.accelc)
    failed = 0
    for name in a.model or MODELS:
        wrong = check(name, a.executors.split(","))
        failed += wrong is not None
        print(f"{'FAIL' if wrong else 'ok  '} {name}" + (f": {wrong}" if wrong else ""), flush=True)
    print(f"{len(a.model or MODELS) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
