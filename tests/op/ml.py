"""ai.onnx.ml."""
import numpy as np
from op_test import Case, f32, f64, i32, i64, strings

POST = ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT")
KERNELS = ("LINEAR", "POLY", "RBF", "SIGMOID")
WORDS = ("a", "bc", "", "Zürich")


def ml(op, *rest, **how):
    return Case("ai.onnx.ml." + op, *rest, **how)


def kinds(rng, *shape):
    return [f32(rng, *shape), f64(rng, *shape), i64(rng, *shape, low=-3, high=3), i32(rng, *shape, low=-3, high=3)]


def features(rng):
    for x in kinds(rng, 3, 5):
        yield ml("ArrayFeatureExtractor", [x, np.array([[4, 0, 2]])])
        yield ml("Binarizer", [x], {"threshold": 0.5}, oracle="ort" if x.dtype == np.float32 else lambda x: [(x > 0.5).astype(x.dtype)])
        yield ml("Scaler", [x], {"offset": f32(rng, 5), "scale": f32(rng, 5)}, tol=1e-5)
        yield ml("Scaler", [x], {"offset": [0.5], "scale": [2.0]}, tol=1e-5, dynamic=True)
        for norm in ("MAX", "L1", "L2"):
            yield ml("Normalizer", [x], {"norm": norm}, tol=1e-5, dynamic=norm == "L1")
        yield ml("FeatureVectorizer", [x, x[:, :2]], {"inputdimensions": [5, 2]})
        yield ml("FeatureVectorizer", [x, x[:, :2]], {"inputdimensions": [3, 4]}, dynamic=True)
    zero = f32(rng, 4, 3)
    zero[1] = 0
    for norm in ("MAX", "L1", "L2"):
        yield ml("Normalizer", [zero], {"norm": norm})
        yield ml("Normalizer", [zero[0]], {"norm": norm})
    yield ml("ArrayFeatureExtractor", [f32(rng, 6), np.array([5, 1])])
    yield ml("ArrayFeatureExtractor", [f32(rng, 2, 3, 4), np.array([[3], [1]])], dynamic=True)
    yield ml("ArrayFeatureExtractor", [strings(rng, 2, 4), np.array([1, 1, 3])])
    yield ml("ArrayFeatureExtractor", [f32(rng, 2, 4), np.array([4])], error="out of range")
    yield ml("Binarizer", [np.array([np.inf, 0.0, -0.0, 1.0], np.float32)])
    holes = f32(rng, 4, 3)
    holes[rng.random(holes.shape) < 0.4] = np.nan
    yield ml("Imputer", [holes], {"imputed_value_floats": [1.0, 2.0, 3.0], "replaced_value_float": float("nan")})
    yield ml("Imputer", [holes], {"imputed_value_floats": [7.0], "replaced_value_float": float("nan")}, dynamic=True)
    yield ml("Imputer", [np.array([[1, 0, -1.5]], np.float32)], {"imputed_value_floats": [7.0], "replaced_value_float": -1.5})
    yield ml("Imputer", [holes.astype(np.float64)], {"imputed_value_floats": [7.0], "replaced_value_float": float("nan")},
             oracle=lambda x: [np.where(np.isnan(x), 7.0, x)])
    yield ml("Imputer", [i64(rng, 5, 2, low=-1, high=1)], {"imputed_value_int64s": [8, 9], "replaced_value_int64": -1})
    yield ml("Imputer", [i32(rng, 5, 2, low=-1, high=1)], {"imputed_value_int64s": [8]}, oracle=lambda x: [np.where(x == 0, 8, x).astype(x.dtype)])
    yield ml("Imputer", [holes], {"imputed_value_floats": [1.0, 2.0]}, error="imputed_value_floats")
    yield ml("Imputer", [holes], {"imputed_value_int64s": [1]}, error="imputed_value_floats is required")
    for x in kinds(rng, 3, 2):
        yield ml("OneHotEncoder", [x], {"cats_int64s": [-2, 0, 1]}, oracle="reference" if x.dtype == np.int32 else "ort")
    yield ml("OneHotEncoder", [i64(rng, 7, low=0, high=2)], {"cats_int64s": [0, 1, 2], "zeros": 0}, dynamic=True)
    yield ml("OneHotEncoder", [np.array([0, 5])], {"cats_int64s": [0, 1, 2], "zeros": 0}, error="unknown category")
    yield ml("OneHotEncoder", [strings(rng, 3, 4, words=WORDS)], {"cats_strings": ["bc", "Zürich"]})
    yield ml("OneHotEncoder", [f32(rng, 3)], {"cats_strings": ["a"]}, error="cats_strings")


def linear(rng):
    for post in POST:
        attrs = {"coefficients": f32(rng, 12), "intercepts": f32(rng, 3), "post_transform": post}
        for x in kinds(rng, 6, 4):
            yield ml("LinearClassifier", [x], {**attrs, "classlabels_ints": [7, 8, 9], "multi_class": 1}, nout=2, dynamic=post == "SOFTMAX")
        if post != "PROBIT":
            yield ml("LinearClassifier", [f32(rng, 6, 4)], {"coefficients": f32(rng, 4), "intercepts": [0.3], "post_transform": post,
                                                            "classlabels_ints": [5, 3]}, nout=2)
        yield ml("LinearRegressor", [f32(rng, 5, 4)], {**attrs, "targets": 3})
        yield ml("LinearRegressor", [f32(rng, 5, 12)], {"coefficients": attrs["coefficients"], "post_transform": post})
    yield ml("LinearClassifier", [f32(rng, 4)], {"coefficients": f32(rng, 8), "intercepts": [0.3, 0.1], "classlabels_ints": [5, 3]}, nout=2)
    for text in (WORDS[:3], WORDS[:2]):
        n = len(text) if len(text) > 2 else 1
        yield ml("LinearClassifier", [f32(rng, 9, 4)], {"coefficients": f32(rng, 4 * n), "intercepts": f32(rng, n),
                                                        "classlabels_strings": text}, nout=2, dynamic=n == 1)
    for rows in (0, 1, 33):
        yield ml("LinearClassifier", [f32(rng, rows, 4)], {"coefficients": f32(rng, 20), "intercepts": f32(rng, 5), "classlabels_ints": list(range(5)),
                                                           "post_transform": "SOFTMAX"}, nout=2, dynamic=True)
    yield ml("LinearClassifier", [f32(rng, 3, 4)], {"coefficients": f32(rng, 11), "intercepts": f32(rng, 3), "classlabels_ints": [1, 2, 3]}, nout=2,
             error="E0202")
    yield ml("LinearClassifier", [f32(rng, 3, 4)], {"coefficients": f32(rng, 12), "intercepts": f32(rng, 3), "classlabels_ints": [1, 2]}, nout=2,
             error="2 class labels for 3 scores")
    yield ml("LinearClassifier", [f32(rng, 3, 4)], {"coefficients": f32(rng, 4), "intercepts": [0.5], "classlabels_ints": [1]}, nout=2,
             error="two class labels")
    yield ml("LinearRegressor", [f32(rng, 3, 5)], {"coefficients": f32(rng, 4)}, error="4 features")


def machine(rng, kernel, per, features=5, **more):
    n, classes = sum(per), len(per)
    pairs = classes * (classes - 1) // 2
    return {"coefficients": f32(rng, (classes - 1) * n), "support_vectors": f32(rng, n * features), "rho": f32(rng, pairs), "kernel_type": kernel,
            "kernel_params": [0.3, 0.1, 3.0], "vectors_per_class": list(per), "classlabels_ints": [10 * i + 3 for i in range(classes)], **more}


def proba(rng, classes):
    pairs = classes * (classes - 1) // 2
    return {"prob_a": -np.abs(f32(rng, pairs)) - 0.5, "prob_b": f32(rng, pairs, scale=0.1)}


def vectors(rng):
    for kernel in KERNELS:
        for per in ((3, 2), (2, 4, 3), (1, 2, 1, 2, 3)):
            yield ml("SVMClassifier", [f32(rng, 7, 5)], machine(rng, kernel, per), nout=2)
            yield ml("SVMClassifier", [f32(rng, 7, 5)], machine(rng, kernel, per, **proba(rng, len(per))), nout=2, dynamic=True, tol=1e-3)
        yield ml("SVMRegressor", [f32(rng, 6, 5)], {"coefficients": f32(rng, 4), "support_vectors": f32(rng, 20), "rho": [0.2], "n_supports": 4,
                                                    "kernel_type": kernel, "kernel_params": [0.3, 0.1, 2.0]})
    for degree in (1.0, 2.0, 4.0):
        yield ml("SVMRegressor", [f32(rng, 6, 5, low=0.1, high=1)], {
            "coefficients": f32(rng, 4), "support_vectors": f32(rng, 20, low=0.1, high=1), "rho": [0.2], "n_supports": 4, "kernel_type": "POLY",
            "kernel_params": [0.3, 0.1, degree]}, dynamic=True)
    yield ml("SVMRegressor", [f32(rng, 6, 5)], {"coefficients": f32(rng, 5), "rho": [0.2], "kernel_params": []})
    yield ml("SVMRegressor", [f32(rng, 6, 5)], {"coefficients": f32(rng, 5), "rho": [0.2], "one_class": 1, "kernel_params": []})
    for post in POST[:4]:
        yield ml("SVMClassifier", [f32(rng, 4, 5)], machine(rng, "RBF", (2, 3, 2), post_transform=post), nout=2)
        yield ml("SVMClassifier", [f32(rng, 4, 5)], machine(rng, "RBF", (2, 3), post_transform=post), nout=2)
        yield ml("SVMClassifier", [f32(rng, 4, 5)], machine(rng, "RBF", (2, 3, 1), post_transform=post, **proba(rng, 3)), nout=2, tol=1e-3)
    for x in kinds(rng, 3, 5)[1:]:
        yield ml("SVMClassifier", [x], machine(rng, "LINEAR", (2, 3, 2)), nout=2)
    for rows in (0, 1, 33):
        yield ml("SVMClassifier", [f32(rng, rows, 5)], machine(rng, "RBF", (2, 3, 2), **proba(rng, 3)), nout=2, dynamic=True, tol=1e-3)
    text = machine(rng, "RBF", (2, 3, 2), classlabels_ints=None, classlabels_strings=["x", "", "yz"])
    yield ml("SVMClassifier", [f32(rng, 8, 5)], text, nout=2)
    for classes in (2, 3):      # liblinear
        for sign in (np.abs, lambda x: x):
            yield ml("SVMClassifier", [f32(rng, 8, 5)], {"coefficients": sign(f32(rng, 5 * classes)), "rho": [0.1], "kernel_params": [],
                                                         "classlabels_ints": [4, 2, 9][:classes]}, nout=2)
    yield ml("SVMClassifier", [f32(rng, 3, 5)], machine(rng, "RBF", (2, 3, 2), rho=[0.1]), nout=2, error="do not fit")
    yield ml("SVMClassifier", [f32(rng, 3, 5)], machine(rng, "RBF", (2, 3, 2), vectors_per_class=[2, -1, 3]), nout=2, error="vectors_per_class")
    yield ml("SVMClassifier", [f32(rng, 3, 4)], machine(rng, "RBF", (2, 3, 2)), nout=2, error="5 features")
    yield ml("SVMRegressor", [f32(rng, 6, 5)], {"coefficients": f32(rng, 4), "support_vectors": f32(rng, 20), "rho": [0.2], "n_supports": 3,
                                                "kernel_params": []}, error="do not fit")


def cases(rng):
    yield from features(rng)
    yield from linear(rng)
    yield from vectors(rng)
