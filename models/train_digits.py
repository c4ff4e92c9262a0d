#!/usr/bin/env python3
"""Trains the digit classifier of the demo from scratch: plain numpy, one CPU, under a minute.

    train_digits.py [FOLDER]        needs numpy, onnx and scikit-learn (whose bundled digits are the data)

Writes digits.onnx and one test image per digit, digit-N.pgm (a picture) and digit-N.npy (the model's input).
The net: image/16 -> conv 3x3, 16 -> relu -> maxpool -> conv 3x3, 32 -> relu -> dense 10 -> softmax, for any batch size.
Seeds are fixed, so that the same versions of numpy and its BLAS write the same file.
"""
import os
import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_digits

EPOCHS, BATCH, RATE = 60, 64, 2e-3


def patches(x):
    """[n,c,h,w] -> [n,h,w,c*9]: the 3x3 surroundings of every pixel, zero outside."""
    n, c, h, w = x.shape
    p = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    v = np.lib.stride_tricks.sliding_window_view(p, (3, 3), axis=(2, 3))
    return np.ascontiguousarray(v.transpose(0, 2, 3, 1, 4, 5)).reshape(n, h, w, c * 9)


def unpatch(g, c):
    """The transpose of patches: adds every patch's gradient to the pixels it came from."""
    n, h, w, _ = g.shape
    g = g.reshape(n, h, w, c, 3, 3)
    out = np.zeros((n, c, h + 2, w + 2), np.float32)
    for i in range(3):
        for j in range(3):
            out[:, :, i:i + h, j:j + w] += g[..., i, j].transpose(0, 3, 1, 2)
    return out[:, :, 1:-1, 1:-1]


def forward(p, x):
    """Class scores, and what backward needs."""
    a0 = patches(x / np.float32(16))
    z1 = a0 @ p["w1"].reshape(16, 9).T + p["b1"]                        # [n,8,8,16]
    r1 = np.maximum(z1, 0)
    cells = r1.reshape(-1, 4, 2, 4, 2, 16)
    m1 = cells.max(axis=(2, 4))                                         # [n,4,4,16]
    a1 = patches(m1.transpose(0, 3, 1, 2))
    z2 = a1 @ p["w2"].reshape(32, 144).T + p["b2"]                      # [n,4,4,32]
    r2 = np.maximum(z2, 0)
    flat = r2.transpose(0, 3, 1, 2).reshape(len(x), 512)
    return flat @ p["w3"] + p["b3"], (a0, z1, cells, m1, a1, z2, flat)


def gradients(p, x, label):
    score, (a0, z1, cells, m1, a1, z2, flat) = forward(p, x)
    n = len(x)
    e = np.exp(score - score.max(axis=1, keepdims=True))
    d = e / e.sum(axis=1, keepdims=True)                                # softmax
    d[np.arange(n), label] -= 1
    d /= n
    g = {"w3": flat.T @ d, "b3": d.sum(axis=0)}
    d2 = (d @ p["w3"].T).reshape(n, 32, 4, 4).transpose(0, 2, 3, 1) * (z2 > 0)
    g["w2"] = np.tensordot(d2, a1, ((0, 1, 2), (0, 1, 2))).reshape(32, 16, 3, 3)
    g["b2"] = d2.sum(axis=(0, 1, 2))
    dm = unpatch(d2 @ p["w2"].reshape(32, 144), 16).transpose(0, 2, 3, 1)
    first = cells == m1[:, :, None, :, None, :]
    d1 = (first * dm[:, :, None, :, None, :]).reshape(n, 8, 8, 16) * (z1 > 0)
    g["w1"] = np.tensordot(d1, a0, ((0, 1, 2), (0, 1, 2))).reshape(16, 1, 3, 3)
    g["b1"] = d1.sum(axis=(0, 1, 2))
    return g


def shifted(rng, x):
    """Each image moved by up to one pixel, so that position matters less."""
    out = np.empty_like(x)
    p = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    for i, (dy, dx) in enumerate(rng.choice(3, (len(x), 2), p=(0.15, 0.7, 0.15))):
        out[i] = p[i, :, dy:dy + 8, dx:dx + 8]
    return out


def train(x, label):
    rng = np.random.default_rng(1)
    shapes = {"w1": (16, 1, 3, 3), "b1": (16,), "w2": (32, 16, 3, 3), "b2": (32,), "w3": (512, 10), "b3": (10,)}
    fan = {"w1": 9, "w2": 144, "w3": 512}
    p = {k: (rng.standard_normal(s) * np.sqrt(2 / fan[k]) if k in fan else np.zeros(s)).astype(np.float32)
         for k, s in shapes.items()}
    mean = {k: np.zeros_like(v) for k, v in p.items()}
    square = {k: np.zeros_like(v) for k, v in p.items()}
    step = 0
    for epoch in range(EPOCHS):
        rate = RATE * (1 + np.cos(np.pi * epoch / EPOCHS)) / 2
        order = rng.permutation(len(x))
        for i in range(0, len(x), BATCH):
            pick = order[i:i + BATCH]
            step += 1
            for k, g in gradients(p, shifted(rng, x[pick]), label[pick]).items():       # Adam
                mean[k] += 0.1 * (g - mean[k])
                square[k] += 0.001 * (g * g - square[k])
                p[k] -= rate * (mean[k] / (1 - 0.9 ** step)) / (np.sqrt(square[k] / (1 - 0.999 ** step)) + 1e-8)
    return {k: v.astype(np.float32) for k, v in p.items()}


def to_onnx(p):
    p = dict(p, scale=np.array(1 / 16, np.float32))
    nodes = [
        helper.make_node("Mul", ["image", "scale"], ["scaled"], "scale"),
        helper.make_node("Conv", ["scaled", "w1", "b1"], ["c1"], "conv1", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"], "relu1"),
        helper.make_node("MaxPool", ["r1"], ["m1"], "pool1", kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Conv", ["m1", "w2", "b2"], ["c2"], "conv2", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c2"], ["r2"], "relu2"),
        helper.make_node("Flatten", ["r2"], ["flat"], "flatten", axis=1),
        helper.make_node("Gemm", ["flat", "w3", "b3"], ["score"], "dense"),
        helper.make_node("Softmax", ["score"], ["probability"], "softmax", axis=1),
    ]
    graph = helper.make_graph(
        nodes, "digits", [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 1, 8, 8])],
        [helper.make_tensor_value_info("probability", TensorProto.FLOAT, ["batch", 10])],
        [numpy_helper.from_array(v, k) for k, v in p.items()])
    model = helper.make_model(graph, producer_name="accelc models/train_digits.py", ir_version=8,
                              opset_imports=[helper.make_opsetid("", 17)])
    onnx.checker.check_model(model, full_check=True)
    return model


def write_pgm(path, image):
    """Plain PGM, dark on light, so that a shell can read it."""
    rows = "\n".join(" ".join(f"{16 - int(v):2d}" for v in row) for row in image)
    with open(path, "w") as f:
        f.write(f"P2\n8 8\n16\n{rows}\n")


def main():
    folder = sys.argv[1] if len(sys.argv) > 1 else os.path.dirname(os.path.abspath(__file__))
    data = load_digits()
    x, label = data.images[:, None].astype(np.float32), data.target
    order = np.random.default_rng(0).permutation(len(x))
    test, rest = order[:360], order[360:]
    p = train(x[rest], label[rest])
    right = forward(p, x[test])[0].argmax(axis=1) == label[test]
    print(f"{right.sum()} of {len(test)} test images are right ({100 * right.mean():.1f} %)")
    path = os.path.join(folder, "digits.onnx")
    onnx.save(to_onnx(p), path)
    for digit in range(10):
        i = next(k for k in test if label[k] == digit)
        np.save(os.path.join(folder, f"digit-{digit}.npy"), x[i:i + 1])
        write_pgm(os.path.join(folder, f"digit-{digit}.pgm"), x[i, 0])
    print(f"{path}: {os.path.getsize(path)} bytes")


if __name__ == "__main__":
    main()
