"""com.microsoft: tokens of strings, hashes of strings, texts of tokens, sparse matrices, pooling with masks, transforms of real signals."""
import numpy as np

from op_test import Case, Sparse, f16, f32, f64, i32, i64, ints, strings

MS = "com.microsoft."
TEXTS = ("Hello World", "I love computer science !", "", " ", "a", "a,b; c", "  lead", "trail ", "日本語 テキスト", "äöü-x--y", "abcbcd", "aXbYYc",
         "12 and 345")


def obj(*values, shape=None):
    x = np.empty(len(values), object)
    x[:] = values
    return x.reshape(shape or x.shape)


def tokens(x, mark=0, least=1, pad="#", **how):
    more = {k: how.pop(k) for k in ("error", "oracle", "dynamic") if k in how}
    return Case(MS + "Tokenizer", [x], {"mark": mark, "mincharnum": least, "pad_value": pad, **how}, **more)


def tokenized(rng):
    for x in (obj(*TEXTS), strings(rng, 3, 4, words=TEXTS)):
        for mark in (0, 1):
            yield tokens(x, mark, separators=[""])
            yield tokens(x, mark, tokenexp=".", dynamic=True)
            yield tokens(x, mark, separators=[" "], dynamic=True)
            yield tokens(x, mark, pad="", separators=[r"[,; ]", "-+"])
            yield tokens(x, mark, tokenexp=r"[a-z]+|\d+")
    for separators in (["b", "c"], [" ", "o", "l+"], ["bc|abcbcd"], ["^a"], [r"\b"], ["(?i)x|y"], ["本"]):
        for least in (1, 2, 3):
            yield tokens(obj(*TEXTS), least=least, separators=separators)
    for pattern in ("a|ab|abc", "[^ ]*", "b?c?d?", r"\w{2}", r"\b\w", "^.", "[日-語]", "(ab|a)(c|bcd)*", "bcd|cb|abcbce"):
        for least in (1, 2, 3):
            yield tokens(obj(*TEXTS), 1, least, tokenexp=pattern)
    yield tokens(obj("", ""), 1, separators=[" "])
    yield tokens(obj("", ""), 1, tokenexp=".")
    yield tokens(obj("  ", " "), separators=[" "])
    yield tokens(obj(), separators=[" "], oracle=[np.empty((0, 0), object)])
    yield tokens(obj("a"), least=2, separators=[""], error="single characters")
    yield tokens(obj("a"), separators=["("], error="separators: pattern: a missing")
    yield tokens(obj("a"), tokenexp="[", error="tokenexp: pattern: a missing")
    yield tokens(obj("a"), error="is required")
    yield tokens(obj(b"\xff"), separators=[" "], error="string 0 is not UTF-8")
    yield tokens(obj(*"abcdefgh", shape=(2, 2, 2)), separators=[" "], error="rank 1 or 2")


def decoded(src, cur, prev, pred=None, **how):
    inputs = [np.array(x, np.int64) for x in (src, cur, prev, pred) if x is not None]
    more = {k: how.pop(k) for k in ("error", "dynamic") if k in how}
    return Case(MS + "BifurcationDetector", inputs, how, nout=2, **more)


def detected(rng):
    for dynamic in (False, True):
        yield decoded([1, 5, 3, 4, 2], [2], [0], dynamic=dynamic)
        yield decoded([1, 5, 3, 4, 2], [2], [0], [1, 5, 3, 6, 2, 7], dynamic=dynamic)
        yield decoded([1, 5, 3, 4, 2], [2], [2], [3, 4, 2, 7], dynamic=dynamic)
        yield decoded([1, 5, 3, 4, 2], [], [5], [9], dynamic=dynamic)
    for k in range(24):
        src, cur = i64(rng, 1 + k % 7, low=0, high=3), i64(rng, k % 5, low=0, high=3)
        at = int(rng.integers(0, src.size + 1))
        pred = np.append(src[at:], 1)
        pred[int(rng.integers(0, pred.size)):] = 2
        yield decoded(src, cur, [at], pred if k % 4 else None, min_ngram_size=1 + k % 2, max_ngram_size=1 + k % 2 + k % 5)
    yield decoded([1, 2], [3], [3], [1], error="behind the end of src_tokens")
    yield decoded([1, 2], [3], [0], [1], error="one more than the source")
    yield decoded([1, 2], [3], [0], max_ngram_size=0, error="n-grams of 1 to")


def pooled(rng):
    def one(x, m, dynamic=False, error=None, **attrs):
        return Case(MS + "MaxpoolWithMask", [x, m], attrs, dynamic=dynamic, error=error)
    for dynamic in (False, True):
        yield one(f32(rng, 2, 3, 11), i32(rng, 2, 3, 11, low=0, high=1), kernel_shape=[3], dynamic=dynamic)
        yield one(f32(rng, 2, 3, 6, 7), i32(rng, 1, 1, 6, 7, low=0, high=1), kernel_shape=[3, 2], strides=[1, 2], pads=[1, 0, 1, 1], dynamic=dynamic)
    yield one(f32(rng, 2, 3, 6, 7), i32(rng, 2, 3, 6, 7, low=0, high=3), kernel_shape=[2, 3], auto_pad="SAME_UPPER")
    yield one(f32(rng, 1, 2, 4, 5, 3), i32(rng, 1, 2, 4, 5, 3, low=0, high=2), kernel_shape=[2, 3, 2], pads=[0, 1, 1, 0, 0, 1])
    yield one(f32(rng, 2, 2, 5, 5), 0 * i32(rng, 2, 2, 5, 5), kernel_shape=[2, 2])
    yield one(f32(rng, 2, 2, 5, 5), i32(rng, 2, 2, 5, 4), kernel_shape=[2, 2], error="the mask has another size along axis 3")


def products(rng):
    for kind in (np.float32, np.float64, np.int32, np.int64, np.uint32, np.uint64):
        a, b = (ints(rng, *s, low=0, high=9).astype(kind) for s in ((4, 5), (5, 3)))
        a[rng.random(a.shape) < 0.6] = 0
        yield Case(MS + "SparseToDenseMatMul", [Sparse(a), b], oracle=lambda a, b: [a @ b])
        yield Case(MS + "SparseToDenseMatMul", [Sparse(np.ascontiguousarray(a.T)), np.ascontiguousarray(b.T)], {"transA": 1, "transB": 1},
                   dynamic=True, oracle=lambda a, b: [a.T @ b.T])
    x = f32(rng, 5, 3)
    yield Case(MS + "SparseToDenseMatMul", [Sparse(np.eye(4, 5, dtype=np.float32)), x], {"alpha": 0.5}, oracle=[0.5 * x[:4]])


def transformed(rng):
    def forward(n):
        return lambda x: np.stack([(y := np.fft.rfftn(x.astype(np.float64), axes=range(-n, 0))).real, y.imag], -1).astype(x.dtype)

    def inverse(n):
        def run(x):
            z = x[..., 0].astype(np.float64) + 1j * x[..., 1]
            return np.fft.irfftn(z, axes=range(-n, 0)).astype(x.dtype)
        return run
    for kind, tol in ((f32, 1e-5), (f64, 1e-12), (f16, 2e-3)):
        yield Case(MS + "Rfft", [kind(rng, 2, 3, 16)], oracle=forward(1), tol=tol)
        yield Case(MS + "Irfft", [kind(rng, 2, 9, 2)], {"signal_ndim": 1}, oracle=inverse(1), tol=tol)
    yield Case(MS + "Rfft", [f32(rng, 14)], oracle=forward(1), tol=1e-5, dynamic=True)
    yield Case(MS + "Irfft", [f32(rng, 3, 8, 2)], {"signal_ndim": 1}, oracle=inverse(1), tol=1e-5, dynamic=True)
    yield Case(MS + "Rfft", [f32(rng, 2, 6, 10)], {"signal_ndim": 2}, oracle=forward(2), tol=1e-5)
    yield Case(MS + "Irfft", [f32(rng, 2, 5, 6, 4, 2)], {"signal_ndim": 3}, oracle=inverse(3), tol=1e-5)
    yield Case(MS + "Rfft", [f32(rng, 8)], {"normalized": 1}, error="normalised")
    yield Case(MS + "Rfft", [f32(rng, 8)], {"signal_ndim": 2}, error="signal_ndim: 2 for an operand of rank 1")


def cases(rng):
    yield from tokenized(rng)
    yield from detected(rng)
    yield from pooled(rng)
    yield from products(rng)
    yield from transformed(rng)
    for x in (obj("", "a", "ab", "abc", "abcd", "Hello World", "日本語"), strings(rng, 2, 0), strings(rng, 3, 4)):
        yield Case(MS + "MurmurHash3", [x], {"seed": 7}, dynamic=x.ndim == 2)
        yield Case(MS + "MurmurHash3", [x], {"positive": 0})
