"""Operators on strings: concatenation, splitting, case, regular expressions, n-grams, numbers as text."""
import re

import numpy as np

from op_test import Case, f32, i64, strings

MORE = ("", "a", "abc", "Zürich", "éa", "日本語", "a b", " a  b ", "Monday", "MONDAY", "ÄÖÜß", "ǆ", "x-y--z", "-", "--", "\u2003a\u00a0b", "0.5")


def obj(values, *shape):
    a = np.empty(len(values), object)
    a[:] = values
    return a.reshape(shape or a.shape)


def split(x, delimiter=None, maxsplit=-1):
    parts = [s.split(delimiter or None, maxsplit) for s in x.reshape(-1)]
    most = max(map(len, parts), default=0)
    y = obj([p for ps in parts for p in ps + [""] * (most - len(ps))], *x.shape, most)
    return [y, np.array([len(p) for p in parts], np.int64).reshape(x.shape)]


def simple_upper(s):
    return "".join(c.upper() if len(c.upper()) == 1 else c for c in s)


def normalize(x, action="NONE", sensitive=0, stopwords=()):
    fold = (lambda s: s) if sensitive else str.lower
    keep = [s for s in x.reshape(-1) if fold(s) not in {fold(w) for w in stopwords}]
    how = {"NONE": str, "LOWER": str.lower, "UPPER": simple_upper}[action]
    y = obj([how(s) for s in keep] or [""])
    return [y if x.ndim == 1 else y[None]]


def concat(rng):
    for a, b in (((3,), (3,)), ((2, 1, 3), (4, 1)), ((), (5,)), ((0, 2), (1, 2)), ((1,), (0,))):
        yield Case("StringConcat", [strings(rng, *a, words=MORE), strings(rng, *b, words=MORE)])
    yield Case("StringConcat", [strings(rng, 4), strings(rng, 2, 4)], dynamic=True)
    yield Case("StringConcat", [strings(rng, 4), strings(rng, 2, 4)], const=(1,))
    yield Case("StringConcat", [strings(rng, 3), strings(rng, 4)], error=".")


def splits(rng):
    for attrs in ({}, {"delimiter": ""}, {"delimiter": "-"}, {"delimiter": "--"}, {"delimiter": " "}, {"maxsplit": 1}, {"maxsplit": 0},
                  {"delimiter": "-", "maxsplit": 1}, {"delimiter": "日"}):
        for shape in ((6,), (2, 3), (), (0,), (2, 0, 3)):
            x = strings(rng, *shape, words=MORE)
            yield Case("StringSplit", [x], attrs, nout=2, oracle=lambda x, a=attrs: split(x, a.get("delimiter"), a.get("maxsplit", -1)))
    yield Case("StringSplit", [strings(rng, 5, words=MORE)], {"delimiter": "-"}, nout=2, dynamic=True)
    yield Case("StringSplit", [np.array(["", "-", "a-b"], object)], {"delimiter": "-"}, nout=2, const=(0,), oracle=lambda x: split(x, "-", -1))


def normalizer(rng):
    for action in ("NONE", "LOWER", "UPPER"):
        for sensitive in (0, 1):
            for words in ((), ("monday", "zÜRICH"), ("Monday", "", "x-y--z")):
                attrs = {"case_change_action": action, "is_case_sensitive": sensitive, "stopwords": list(words) or None}
                for shape in ((9,), (1, 7)):
                    yield Case("StringNormalizer", [strings(rng, *shape, words=MORE)], attrs,
                               oracle=lambda x, a=action, s=sensitive, w=words: normalize(x, a, s, w), dynamic=sensitive == 1)
    yield Case("StringNormalizer", [obj(["a", "A"])], {"stopwords": ["a"]}, oracle=[obj([""])])
    yield Case("StringNormalizer", [obj(["a"] * 4, 2, 2)], {}, error=r"shape \[n\] or \[1, n\]")
    yield Case("StringNormalizer", [obj(["a"] * 4, 1, 2, 2)], {}, error="rank 3")


PATTERNS = [  # what RE2 and Python's re agree on
    r"", r"a", r"abc", r"a.c", r".*", r".+", r"[a-c]+", r"[^a-c]*", r"[]a]+", r"[a\]-]+", r"a|b|abc", r"(a|b)*c?", r"(?:ab)+", r"a{3}", r"a{2,}",
    r"a{0,2}b", r"(a{2}){2}", r"^a$", r"\Aa\Z".replace("Z", "z"), r"\d+", r"\D+", r"\w+\b", r"\bab\b", r"a\Bb", r"\s*\S+\s*", r"[\d\s]+", r"(?i)aBc",
    r"(?i:a)bc", r"(?s)a.b", r"(?m)^a$\n^b$", r"\x61\x{62}".replace("{", "").replace("}", ""), r"[[:alpha:]]+", r"日本.", r"é?a", r"\.\*\\", r"a{,2}",
    r"x{", r"(|a)b", r"[a-z]+@[a-z]+\.(com|org)", r"(?P<year>\d{4})-\d\d", r"[^\w]", r"[+-/]", r"a+?", r"a*?b??",
]
TEXTS = ["", "a", "b", "ab", "abc", "ABC", "aaa", "aaaa", "a" * 20, "a" * 40, "a\nb", "a b", "12", " 1 2", "日本語", "éa", ".*\\", "me@host.org",
         "2024-05",
         "x{", "]-a", "_", "-", "c", "aXc", "ac", "aab", "\n"]


def python_match(pattern, texts):
    p = pattern.replace("[[:alpha:]]", "[a-zA-Z]").replace(r"\z", r"\Z").replace(r"\x{62}", r"\x62")
    if p == r"a{,2}":           # RE2: no repetition
        p = r"a\{,2\}"
    return [np.array([re.fullmatch(p, t, re.ASCII) is not None for t in texts])]


def regex(rng):
    for p in PATTERNS:
        yield Case("RegexFullMatch", [obj(TEXTS)], {"pattern": p}, oracle=lambda x, p=p: python_match(p, list(x)))
    yield Case("RegexFullMatch", [strings(rng, 2, 3, words=MORE)], {"pattern": r"(?i)[a-zäöüß]*"}, dynamic=True)
    yield Case("RegexFullMatch", [obj(["k", "K", "\u212a", "ä", "Ä"])], {"pattern": r"(?i)[kä]"})
    for p, like in ((r"(((a*)*)*)*b", r"a*b"), (r"(a?){20}a{20}", r"a{20,40}"), (r"(a|a)*", r"a*")):   # where backtracking does not end
        yield Case("RegexFullMatch", [obj(TEXTS + ["a" * 3000])], {"pattern": p}, oracle=lambda x, p=like: python_match(p, list(x)))
    for bad in ("(", ")", "a)", "[", "[z-a]", "*a", "a**", "a{2}{3}", "a{1001}", "a{3,2}", r"\1", r"(?=a)", r"(?<!a)", r"\p{L}", "\\", r"(?x)a",
                "((a{100}){100}){100}", "(((((){1000}){1000}){1000}){1000}){1000}", "(" * 300 + ")" * 300, r"\x{110000}", "[[:foo:]]", "(?P<>a)"):
        yield Case("RegexFullMatch", [obj(TEXTS)], {"pattern": bad}, error="pattern")


def tfidf(rng):
    one = {"max_gram_length": 2, "min_gram_length": 1, "max_skip_count": 0, "mode": "TF", "ngram_counts": [0, 4],
           "ngram_indexes": [6, 0, 1, 2, 3, 4, 5],
           "pool_int64s": [2, 3, 5, 4, 5, 6, 7, 8, 6, 7]}
    three = {**one, "max_gram_length": 3, "ngram_counts": [0, 2, 6], "ngram_indexes": [0, 1, 2, 3, 5], "pool_int64s": [1, 2, 1, 2, 2, 1, 1, 2, 3]}
    three["pool_int64s"] = [1, 2, 1, 2, 2, 1, 1, 2, 3, 3, 2, 1]
    three["ngram_indexes"] = [0, 1, 2, 3, 4, 5]
    for spec, high in ((one, 8), (three, 3)):
        n = len(spec["ngram_indexes"])
        for mode in ("TF", "IDF", "TFIDF"):
            for low, skip in ((1, 0), (2, 0), (2, 3), (1, 2)):
                weights = [float(w) for w in rng.uniform(0.5, 2, n)] if mode != "TF" and skip != 3 else None
                attrs = {**spec, "mode": mode, "min_gram_length": low, "max_skip_count": skip, "weights": weights}
                for x in (i64(rng, 12, low=1, high=high), i64(rng, 3, 9, low=1, high=high).astype(np.int32)):
                    yield Case("TfIdfVectorizer", [x], attrs, tol=1e-6, dynamic=low == 2)
    words = ["a", "b", "日本", "a", "b", "b", "a"]
    attrs = {**one, "pool_int64s": None, "pool_strings": words, "ngram_counts": [0, 3], "ngram_indexes": [0, 1, 2, 3, 4]}
    yield Case("TfIdfVectorizer", [strings(rng, 2, 8, words=("a", "b", "日本", ""))], attrs)
    yield Case("TfIdfVectorizer", [i64(rng, 4)], {**one, "ngram_indexes": [0, 1]}, error="ngram_indexes")
    yield Case("TfIdfVectorizer", [i64(rng, 4)], {**one, "ngram_counts": [0, 400]}, error="ngram_counts")
    yield Case("TfIdfVectorizer", [strings(rng, 4)], one, error="pool of n-grams")


def casts(rng):
    numbers = np.array([0.0, -0.0, 1, -1.5, 0.1, 1 / 3, 1e-5, 123456.79, 1e7, 1e10, 3.4e38, np.inf, -np.inf, np.nan, 16777216])
    text = ["0", "-0", "1", "-1.5", "0.1", "0.33333334", "1e-05", "123456.79", "10000000", "1e+10", "3.4e+38", "INF", "-INF", "NaN", "16777216"]
    yield Case("Cast", [numbers.astype(np.float32)], {"to": 8}, oracle=[obj(text)])
    yield Case("Cast", [np.array([0.1, 1 / 3, 1e22, 5e-324, 1e-4])], {"to": 8},
               oracle=[obj(["0.1", "0.3333333333333333", "1e+22", "5e-324", "0.0001"])])
    for t in (np.int8, np.uint8, np.int32, np.uint32, np.int64, np.uint64, np.bool_):
        info = np.iinfo(t) if t != np.bool_ else None
        x = np.array([info.min, info.max, 7] if info else [0, 1], t)
        yield Case("Cast", [x], {"to": 8}, oracle=lambda x: [obj([str(int(v)) for v in x])])
        if info:
            yield Case("Cast", [obj([str(info.min), f" {info.max} ", "7"])],
                       {"to": {"int8": 3, "uint8": 2, "int32": 6, "uint32": 12, "int64": 7, "uint64": 13}[np.dtype(t).name]},
                       oracle=[np.array([info.min, info.max, 7], t)])
    good = ["0", "+1", "-1.5", "1e5", " 2.5 ", "INF", "-inf", "NaN", "1e-40", ".5", "3.4028235e38"]
    for to, t in ((1, np.float32), (11, np.float64), (10, np.float16)):
        with np.errstate(over="ignore"):
            want = np.array([float(s) for s in good], np.float64).astype(t)
        yield Case("Cast", [obj(good)], {"to": to}, oracle=[want], dynamic=to == 11)
    yield Case("Cast", [obj(["1", "0", "2"])], {"to": 9}, oracle=[np.array([True, False, True])])
    for bad in ("", "abc", "1x", "1_0", "--1"):
        yield Case("Cast", [obj(["1", bad])], {"to": 1}, error="not a number")
    for bad in ("inf", "nan", "1e30", "99999999999999999999"):
        yield Case("Cast", [obj([bad])], {"to": 7}, error="not a number")
    yield Case("CastLike", [f32(rng, 3).round(1), strings(rng, 1)], oracle=lambda x, like: [obj([f"{v:.8g}" for v in x])])


def cases(rng):
    for family in (concat, splits, normalizer, regex, tfidf, casts):
        yield from family(rng)
