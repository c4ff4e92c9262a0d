"""ai.onnx.ml."""
import numpy as np
from onnx import numpy_helper
from op_test import Case, by_ort, f32, f64, i32, i64, special, strings

POST = ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT")
KERNELS = ("LINEAR", "POLY", "RBF", "SIGMOID")
WORDS = ("a", "bc", "", "Zürich")


def ml(op, *rest, **how):
    return Case("ai.onnx.ml." + op, *rest, **how)


def as_f32(op, attrs, **how):
    """An oracle: ONNX Runtime on the same numbers as f32, for types that it lacks."""
    attrs = {k: numpy_helper.from_array(numpy_helper.to_array(v).astype(np.float32)) if k != "nodes_modes" and hasattr(v, "dims") else v
             for k, v in attrs.items()}
    return lambda x: [y.astype(np.float16) if x.dtype == np.float16 else y for y in by_ort(ml(op, [x.astype(np.float32)], attrs, **how))]


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
                                                        "classlabels_strings": text}, nout=2)
    for rows in (0, 1, 33):
        yield ml("LinearClassifier", [f32(rng, rows, 4)],
                 {"coefficients": f32(rng, 20), "intercepts": f32(rng, 5), "classlabels_ints": list(range(5)),
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


def labels(rng):
    words = strings(rng, 4, 5)
    many = [f"w{i}" for i in range(40)]
    for version in (2, 4):
        def one(x, **attrs):
            return ml("LabelEncoder", [x], attrs, opset=version)
        yield one(words, keys_strings=["abc", "", "a"], values_int64s=[5, 6, 7], default_int64=9)
        yield one(words, keys_strings=["abc", "", "a"], values_floats=[0.5, 6.5, -7])
        yield one(words, keys_strings=["abc", "", "a"], values_strings=["x", "yy", ""], default_string="none")
        yield one(strings(rng, 50, words=many + ["w", "w40", ""]), keys_strings=many, values_int64s=list(range(100, 140)))
        yield one(i64(rng, 6, 7, low=-3, high=8), keys_int64s=[0, 1, 2, 3, 4], values_floats=f32(rng, 5), default_float=0.25)
        yield one(i64(rng, 6, 7, low=-3, high=8), keys_int64s=[5, -2, 7], values_strings=["p", "qq", ""])
        yield one(i64(rng, 6, 7, low=-3, high=8), keys_int64s=[5, -2, 7, 2**40, -(2**62), 3], values_int64s=[1, 2, 3, 4, 5, 6])
        yield one(f32(rng, 30).round(), keys_floats=[1.0, -1.0, 0.0, 2.0], values_int64s=[4, 5, 6, 7], default_int64=-7)
        yield one(f32(rng, 30).round(), keys_floats=[1.0, -1.0, 2.0], values_strings=["a", "b", "c"], default_string="?")
        yield one(words, keys_strings=["abc", "a"], values_strings=["x", "yy"])
        yield one(i64(rng, 0, 3), keys_int64s=[5], values_int64s=[1])
    for keys, values, x in ((np.float64, np.float64, f64(rng, 30).round()), (np.int64, np.int64, i64(rng, 9, low=0, high=4)),
                            (np.float32, np.float32, f32(rng, 30).round())):
        yield ml("LabelEncoder", [x], {"keys_tensor": numpy_helper.from_array(np.array([1, 0, 3], keys)),
                                       "values_tensor": numpy_helper.from_array(np.array([7, 8, 9], values)),
                                       "default_tensor": numpy_helper.from_array(np.array([-4], values))}, opset=4)
    yield ml("LabelEncoder", [i64(rng, 9, low=0, high=4).astype(np.int32)], {
        "keys_tensor": numpy_helper.from_array(np.array([1, 0, 3], np.int32)),
        "values_tensor": numpy_helper.from_array(np.array([7, 8, 9], np.int16)),
        "default_tensor": numpy_helper.from_array(np.array([-4], np.int16))}, opset=4, oracle="reference")
    yield ml("LabelEncoder", [np.array([np.nan, 1, -0.0, 0], np.float32)], {"keys_floats": [0.0, float("nan")], "values_floats": [4, 5]}, opset=4)
    yield ml("LabelEncoder", [words], {"classes_strings": ["abc", "", "a"]}, opset=1)
    yield ml("LabelEncoder", [i64(rng, 9, low=-1, high=4)], {"classes_strings": ["abc", "", "a"], "default_string": "no"}, opset=1)
    yield ml("LabelEncoder", [i64(rng, 9, low=-1, high=4)], {"classes_strings": ["abc", "", "a"]}, opset=1)
    yield ml("LabelEncoder", [i64(rng, 9)], {"keys_int64s": [1, 2], "values_int64s": [1]}, opset=2, error="do not fit")
    yield ml("LabelEncoder", [f32(rng, 9)], {"keys_int64s": [1, 2], "values_int64s": [1, 2]}, opset=2, error="do not fit")
    yield ml("LabelEncoder", [f32(rng, 9)], {"values_int64s": [1, 2]}, opset=2, error="required")
    cats = {"cats_strings": ["abc", "", "a"], "cats_int64s": [4, 7, -1]}
    yield ml("CategoryMapper", [words], {**cats, "default_int64": 77})
    yield ml("CategoryMapper", [i64(rng, 3, 9, low=-1, high=8)], cats, dynamic=True)
    yield ml("CategoryMapper", [i64(rng, 3)], {**cats, "cats_int64s": [1]}, error="do not fit")


def maps(rng):
    for rows in (1, 3, 0):
        yield ml("ZipMap", [f32(rng, rows, 3)], {"classlabels_int64s": [4, 2, 9]}, dynamic=rows == 3)
        yield ml("ZipMap", [f32(rng, rows, 3)], {"classlabels_strings": ["a", "", "ccc"]})
    yield ml("ZipMap", [f32(rng, 2, 3)], {"classlabels_int64s": [4, 2]}, error="one column for each label")
    ints = {int(k): np.float32(v) for k, v in zip((3, 0, 5), (1.5, -2, 7.25))}
    texts = {int(k): v for k, v in zip((3, 0, 5), ("1.5", "-2", "7"))}
    for to in ("TO_FLOAT", "TO_STRING", "TO_INT64"):
        yield ml("CastMap", [ints], {"cast_to": to})
        yield ml("CastMap", [ints], {"cast_to": to, "map_form": "SPARSE", "max_map": 5})
        form = {"TO_FLOAT": lambda v: np.float32(v), "TO_STRING": str, "TO_INT64": lambda v: int(float(v))}[to]
        kind = {"TO_FLOAT": np.float32, "TO_STRING": object, "TO_INT64": np.int64}[to]
        yield ml("CastMap", [texts], {"cast_to": to}, oracle=[np.array([[form("-2"), form("1.5"), form("7")]], kind)])
        none = form("0") if to != "TO_STRING" else "0.f"
        yield ml("CastMap", [texts], {"cast_to": to, "map_form": "SPARSE", "max_map": 5}, oracle=[
            np.array([[form("-2"), none, none, form("1.5"), none]], kind)])
    yield ml("CastMap", [{1: "x"}], {}, error="no number")
    for kind in (np.float32, np.float64, np.int64):
        yield ml("DictVectorizer", [{"b": kind(2), "": kind(-7), "a": kind(1)}], {"string_vocabulary": ["a", "c", "b"]},
                 oracle=[np.array([[1, 0, 2]], kind)])
    yield ml("DictVectorizer", [ints], {"int64_vocabulary": [5, 4, 3, 3]})
    yield ml("DictVectorizer", [texts], {"int64_vocabulary": [5, 4, 3]}, oracle=[np.array([["7", "", "1.5"]], object)])


MODES = ("BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ")


def listed(rng, trees, depth, modes=MODES[:1], features=5, targets=1, kind="target", spread=False, skew=False, grid=False, nan=False, positive=False,
           as_tensor=False):
    """Attributes of the older operators: random trees of at most that depth. spread: leaves have weights for all targets; skew: one child is a
    leaf always; grid: splits are small integers, so that equalities hold."""
    nodes, weights = [], []
    for tree in range(trees):
        count = [0]

        def grow(left):
            at = count[0]
            count[0] += 1
            node = {"treeids": tree, "nodeids": at, "featureids": 0, "modes": "LEAF", "values": 0.0, "truenodeids": 0, "falsenodeids": 0,
                    "missing_value_tracks_true": 0, "hitrates": 1.0}
            nodes.append(node)
            if left == 0 or (not skew and left < depth and rng.random() < 0.2):
                for target in range(targets) if spread else [tree % targets]:
                    w = float(np.float32(rng.standard_normal()))
                    weights.append((tree, at, target, abs(w) if positive else w))
                return at
            node.update(featureids=int(rng.integers(features)), modes=str(rng.choice(modes)),
                        values=float(rng.integers(-2, 3) if grid else np.float32(rng.standard_normal())))
            if nan:
                node["missing_value_tracks_true"] = int(rng.integers(2)) if nan is True else 1
            a, b = (0, left - 1) if skew else (left - 1, left - 1)
            if skew and rng.random() < 0.5:
                a, b = b, a
            node["truenodeids"] = grow(a)
            node["falsenodeids"] = grow(b)
            return at
        grow(depth)
    attrs = {"nodes_" + k: [n[k] for n in nodes] for k in nodes[0]}
    for i, name in enumerate(("treeids", "nodeids", "ids", "weights")):
        attrs[f"{kind}_{name}"] = [w[i] for w in weights]
    if kind == "target":
        attrs["n_targets"] = targets
    if as_tensor:
        for name in ("nodes_values", "nodes_hitrates", kind + "_weights"):
            attrs[name + "_as_tensor"] = numpy_helper.from_array(np.array(attrs.pop(name), np.float64) + (0.1 if name == "nodes_values" else 0))
    return attrs


def regressors(rng):
    def one(x, version=3, more=None, **how):
        known = {k: how.pop(k) for k in ("dynamic", "tol", "oracle") if k in how}
        return ml("TreeEnsembleRegressor", [x], {**listed(rng, **how), **(more or {})}, opset=version, **known)
    for depth in range(0, 7):
        yield one(f32(rng, 9, 5), trees=7, depth=depth, version=1)
        yield one(f32(rng, 9, 5), trees=33, depth=depth, dynamic=True)
    for rows in (0, 1, 2, 17, 64):
        yield one(f32(rng, rows, 5), trees=19, depth=4, targets=3, dynamic=True)
        yield one(f32(rng, rows, 5), trees=4, depth=3)
    for mode in MODES:
        yield one(f32(rng, 40, 5), trees=5, depth=4, modes=(mode,))
        yield one(i64(rng, 40, 5, low=-2, high=2).astype(np.float32), trees=5, depth=4, modes=(mode,), grid=True)
        for nan in (False, True, "all"):
            x = f32(rng, 40, 5)
            x[rng.random(x.shape) < 0.4] = np.nan
            yield one(x, trees=5, depth=4, modes=(mode,), nan=nan)
    x = special(rng, 60, 5)
    for nan in (False, True, "all"):
        yield one(x, trees=20, depth=5, modes=MODES, nan=nan)
        yield one(x, trees=20, depth=5, modes=MODES, nan=nan, grid=True)
    for aggregate in ("SUM", "AVERAGE", "MIN", "MAX"):
        for targets, spread in ((1, False), (3, True), (3, False)):
            for base in (None, f32(rng, targets)):
                if aggregate in ("SUM", "AVERAGE") or spread or targets == 1:
                    yield one(f32(rng, 9, 5), trees=9, depth=4, targets=targets, spread=spread,
                              more={"aggregate_function": aggregate, "base_values": base})
    for post in POST:
        yield one(f32(rng, 9, 5), trees=9, depth=4, targets=3, positive=True, more={"post_transform": post}, tol=1e-3)
    yield one(f32(rng, 9, 5), trees=9, depth=4, positive=True, more={"post_transform": "PROBIT"})
    for x in kinds(rng, 20, 5)[1:]:
        for how in ({}, {"grid": True, "modes": MODES}):
            attrs = listed(rng, 9, 4, **how)
            op = "TreeEnsembleRegressor"
            yield ml(op, [x], attrs, opset=3, oracle="ort" if x.dtype.kind == "f" else as_f32(op, attrs, opset=3))
    yield one(f64(rng, 20, 5), trees=9, depth=4, as_tensor=True, modes=MODES, nan=True, tol=1e-6)
    yield one(f64(rng, 20, 5), trees=9, depth=4, as_tensor=True, targets=2, spread=True, more={
        "base_values_as_tensor": numpy_helper.from_array(np.array([0.1, 0.7]))}, tol=1e-6)
    yield one(f32(rng, 12, 5), trees=3, depth=30, skew=True)
    yield one(f32(rng, 12, 5), trees=3, depth=200, skew=True)
    yield one(f32(rng, 12, 5), trees=3, depth=100, skew=True, targets=2, spread=True, dynamic=True)


def classifiers(rng):
    def one(x, version=3, more=None, **how):
        known = {k: how.pop(k) for k in ("dynamic", "tol", "oracle") if k in how}
        return ml("TreeEnsembleClassifier", [x], {**listed(rng, kind="class", **how), **(more or {})}, opset=version, nout=2, **known)
    for classes in (3, 4, 10):
        labels = {"classlabels_int64s": [7 * i + 3 for i in range(classes)]}
        for spread in (False, True):
            for rows in (0, 1, 21):
                yield one(f32(rng, rows, 5), trees=30, depth=4, targets=classes, spread=spread, more=labels, dynamic=True, version=1)
            yield one(f32(rng, 20, 5), trees=30, depth=3, targets=classes, spread=spread, more={**labels, "base_values": f32(rng, classes)})
    labels = {"classlabels_int64s": [4, 9]}
    for post in POST:
        more = {**labels, "post_transform": post}
        yield one(f32(rng, 20, 5), trees=9, depth=4, targets=3, spread=True, positive=True,
                  more={"post_transform": post, "classlabels_int64s": [4, 9, 2]})
        for positive in (False, True):
            if post != "PROBIT":
                yield one(f32(rng, 20, 5), trees=9, depth=3, positive=positive, more=more)
                yield one(f32(rng, 20, 5), trees=9, depth=3, positive=positive, more={**more, "base_values": [0.25]})
            second = listed(rng, 9, 3, kind="class", positive=positive)
            second["class_ids"] = [1] * len(second["class_ids"])
            yield ml("TreeEnsembleClassifier", [f32(rng, 20, 5)], {**second, **more}, opset=3, nout=2)
            yield one(f32(rng, 20, 5), trees=9, depth=3, targets=2, spread=True, positive=positive, more={**more, "classlabels_int64s": [0, 1]})
    words = {"classlabels_strings": ["no", "", "yes"]}
    yield one(f32(rng, 20, 5), trees=9, depth=4, targets=3, spread=True, more=words)
    yield one(f32(rng, 20, 5), trees=9, depth=4, targets=1, more={"classlabels_strings": ["no", "yes"]})
    yield one(f64(rng, 20, 5), trees=9, depth=4, targets=3, spread=True, as_tensor=True, more={"classlabels_int64s": [4, 9, 2]})
    for x in kinds(rng, 20, 5)[1:]:
        yield one(x, trees=9, depth=4, targets=3, more={"classlabels_int64s": [4, 9, 2]})


def repeated(rng):
    """Leaves with several weights for one target."""
    for targets in (1, 2):
        for aggregate in ("SUM", "AVERAGE", "MIN", "MAX"):
            attrs = listed(rng, 5, 3, targets=targets)
            for name in ("treeids", "nodeids", "ids", "weights"):
                attrs["target_" + name] = [v for v in attrs["target_" + name] for _ in range(2)]
            attrs["target_weights"] = f32(rng, len(attrs["target_ids"]))
            yield ml("TreeEnsembleRegressor", [f32(rng, 9, 5)], {**attrs, "aggregate_function": aggregate}, opset=3)
    attrs = listed(rng, 5, 3, targets=3, kind="class")
    for name in ("treeids", "nodeids", "ids", "weights"):
        attrs["class_" + name] = [v for v in attrs["class_" + name] for _ in range(2)]
    yield ml("TreeEnsembleClassifier", [f32(rng, 9, 5)], {**attrs, "classlabels_int64s": [4, 9, 2]}, opset=3, nout=2)


def bad_trees(rng):
    good = listed(rng, 3, 3)
    def wrong(error, **change):
        return ml("TreeEnsembleRegressor", [f32(rng, 4, 5)], {**good, **change}, opset=3, error=error)
    n = len(good["nodes_nodeids"])
    yield wrong("nodes_modes", nodes_modes=good["nodes_modes"][1:])
    yield wrong("nodes_values", nodes_values=[])
    yield wrong("has no node 99", nodes_truenodeids=[99] * n)
    yield wrong("cycle", nodes_truenodeids=[0] * n)
    yield wrong("featureids", nodes_featureids=[-1] * n)
    yield wrong("more than 7 features", nodes_featureids=[7] * n)
    yield wrong("two nodes", nodes_nodeids=[0] * n)
    yield wrong("BRANCH_X", nodes_modes=["BRANCH_X"] * n)
    yield wrong("target 1", target_ids=[1] * len(good["target_ids"]))
    yield wrong("target -1", target_ids=[-1] * len(good["target_ids"]))
    yield wrong("has no node", target_nodeids=[77] * len(good["target_ids"]))
    yield wrong("one target or more", n_targets=0)
    yield wrong("base_values", base_values=[1.0, 2.0])
    yield wrong("target", target_weights=good["target_weights"][1:])


def rooted(rng, trees, depth, dtype=np.float32, features=4, targets=2, modes=range(7), nan=False):
    """Attributes of TreeEnsemble-5."""
    nodes, leaves, sets, roots = [], [], [], []

    def grow(left):
        """(is a leaf, its number)"""
        if left == 0 or (left < depth and rng.random() < 0.2):
            leaves.append((int(rng.integers(targets)), rng.standard_normal()))
            return 1, len(leaves) - 1
        at = len(nodes)
        nodes.append(None)
        mode = int(rng.choice(modes))
        if mode == 6:
            sets.append((at, rng.integers(-4, 5, int(rng.integers(1, 9)))))
        a, b = grow(left - 1), grow(left - 1)
        nodes[at] = (int(rng.integers(features)), mode, float(rng.integers(-3, 4)), a, b, int(rng.integers(2)) if nan else 0)
        return 0, at
    for _ in range(trees):
        roots.append(len(nodes))
        grow(depth)
    member = [v for _, s in sorted(sets, key=lambda s: s[0]) for v in [*s, np.nan]]
    attrs = {"tree_roots": roots, "n_targets": targets, "nodes_featureids": [n[0] for n in nodes],
             "nodes_modes": numpy_helper.from_array(np.array([n[1] for n in nodes], np.uint8)),
             "nodes_splits": numpy_helper.from_array(np.array([n[2] for n in nodes], dtype)),
             "nodes_truenodeids": [n[3][1] for n in nodes], "nodes_trueleafs": [n[3][0] for n in nodes],
             "nodes_falsenodeids": [n[4][1] for n in nodes], "nodes_falseleafs": [n[4][0] for n in nodes],
             "leaf_targetids": [t for t, _ in leaves], "leaf_weights": numpy_helper.from_array(np.array([w for _, w in leaves], dtype))}
    if nan:
        attrs["nodes_missing_value_tracks_true"] = [n[5] for n in nodes]
    if member:
        attrs["membership_values"] = numpy_helper.from_array(np.array(member, dtype))
    return attrs


def ensembles(rng):
    for modes in [[m] for m in range(7)] + [range(7)]:
        for dtype in (np.float32, np.float64):
            yield ml("TreeEnsemble", [i64(rng, 30, 4, low=-5, high=5).astype(dtype)], rooted(rng, 6, 4, dtype, modes=modes))
    yield ml("TreeEnsemble", [f64(rng, 30, 4)], rooted(rng, 6, 4, np.float64, modes=range(6)))
    attrs = rooted(rng, 6, 4, np.float16)
    yield ml("TreeEnsemble", [i64(rng, 30, 4, low=-5, high=5).astype(np.float16)], attrs, oracle=as_f32("TreeEnsemble", attrs), tol=4e-3)
    x = i64(rng, 30, 4, low=-5, high=5).astype(np.float32)
    x[rng.random(x.shape) < 0.3] = np.nan
    for nan in (False, True):
        yield ml("TreeEnsemble", [x], rooted(rng, 6, 4, modes=range(6), nan=nan), dynamic=True)
    for aggregate in range(4):
        for post in range(4):
            yield ml("TreeEnsemble", [x], {**rooted(rng, 12, 3, targets=1 + (aggregate > 1) * 0), "aggregate_function": aggregate,
                                           "post_transform": post})
    yield ml("TreeEnsemble", [x], rooted(rng, 3, 1), dynamic=True)
    good = rooted(rng, 3, 3)
    for error, change in (("there is no", {"nodes_truenodeids": [999] * len(good["nodes_featureids"])}), ("tree_roots", {"tree_roots": [-1]}),
                          ("nodes_trueleafs", {"nodes_trueleafs": [0]}), ("aggregate_function 9", {"aggregate_function": 9}),
                          ("weights", {"leaf_weights": numpy_helper.from_array(np.zeros(1, np.float32))})):
        yield ml("TreeEnsemble", [x], {**good, **change}, error=error)


def cases(rng):
    yield from features(rng)
    yield from linear(rng)
    yield from vectors(rng)
    yield from labels(rng)
    yield from maps(rng)
    yield from regressors(rng)
    yield from classifiers(rng)
    yield from repeated(rng)
    yield from bad_trees(rng)
    yield from ensembles(rng)
