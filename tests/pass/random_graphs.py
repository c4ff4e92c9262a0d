#!/usr/bin/env python3
"""Property test of passes: small random graphs compute the same before and after.

    random_graphs.py ACCELC [--count N] [--seed N] [--until PASS]

Graphs are chains and fans of maps with constants, views, concats, contractions with constants and reductions over small static
shapes, so that constant factors, permutations and slices meet in every order. A graph that fails is printed, with its seed.
"""
import argparse
import math
import os
import random
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import run as golden  # noqa: E402

WITH_CONSTANT = ["a * b", "a + b", "a - b", "b - a", "a / b", "max(a, b)", "a * b + 1", "(a + 1) * b"]
ALONE = ["max(a, 0)", "neg(a)", "a * 0.5", "a / 4", "min(max(a, -1), 6)", "abs(a)", "a * a", "pow(a, 2)", "a + 0.5",
         "recip(exp(neg(a)) + 1)"]
PAIRS = ["a + b", "a * b", "a / (abs(b) + 1)"]


def dims(d):
    return ", ".join(map(str, d))


class Graph:
    def __init__(self, seed):
        self.rng = random.Random(seed)
        self.lines, self.values, self.count = [], [("x", [2, 3, 4]), ("z", [2, 3, 4])], 0

    def name(self):
        self.count += 1
        return f"v{self.count}"

    def add(self, text, d):
        name = self.name()
        self.lines.append(f"%{name} = {text} : f32[{dims(d)}]")
        self.values.append((name, d))

    def const(self, d):
        name = self.name()
        values = [str(self.rng.choice([1, 2, 3, 0.5, -1, -2, 0.25, 4])) for _ in range(math.prod(d))]
        self.lines.append(f"%{name} = const f32[{dims(d)}] {{{', '.join(values)}}}")
        return name

    # one method per kind of node: v of dims d is what it reads
    def constant_map(self, v, d):
        c = self.const([n if self.rng.random() < 0.5 else 1 for n in d][self.rng.randint(0, max(0, len(d) - 1)):])
        self.add(f"map {{ {self.rng.choice(WITH_CONSTANT)} }} %{v}, %{c}", d)

    def map(self, v, d):
        self.add(f"map {{ {self.rng.choice(ALONE)} }} %{v}", d)

    def pair(self, v, d):
        other = self.rng.choice([name for name, e in self.values if e == d])
        self.add(f"map {{ {self.rng.choice(PAIRS)} }} %{v}, %{other}", d)

    def permute(self, v, d):
        perm = self.rng.sample(range(len(d)), len(d))
        if d:
            self.add(f"permute {perm} %{v}", [d[k] for k in perm])

    def reshape(self, v, d):
        to, rest = [], math.prod(d)
        while rest > 1 and len(to) < 3:
            to.append(self.rng.choice([n for n in range(1, rest + 1) if rest % n == 0]))
            rest //= to[-1]
        to.append(rest)
        self.add(f"reshape [{dims(to)}] %{v}", to)

    def slice(self, v, d):
        if d:
            axis = self.rng.randrange(len(d))
            start, to = [0] * len(d), list(d)
            start[axis] = self.rng.randint(0, d[axis] - 1)
            to[axis] = self.rng.randint(1, d[axis] - start[axis])
            self.add(f"slice start {start} size {to} %{v}", to)

    def pad(self, v, d):
        if d:
            axis = self.rng.randrange(len(d))
            lo, hi, to = [0] * len(d), [0] * len(d), list(d)
            lo[axis], hi[axis] = self.rng.randint(0, 1), self.rng.randint(0, 1)
            to[axis] += lo[axis] + hi[axis]
            self.add(f"pad lo {lo} hi {hi} value {self.rng.choice([0, 0, 1])} %{v}", to)

    def concat(self, v, d):
        if d:
            axis = self.rng.randrange(len(d))
            other, e = self.rng.choice([(w, e) for w, e in self.values
                                        if len(e) == len(d) and e[:axis] == d[:axis] and e[axis + 1:] == d[axis + 1:]])
            if d[axis] + e[axis] <= 12:
                self.add(f"concat axis {axis} %{v}, %{other}", d[:axis] + [d[axis] + e[axis]] + d[axis + 1:])

    def contract(self, v, d):
        if d:
            axis, m, turned = self.rng.randrange(len(d)), self.rng.choice([2, 3]), self.rng.random() < 0.5
            w = self.const([d[axis], m] if turned else [m, d[axis]])
            of_v = "abcdefg"[:len(d)]
            of_w = of_v[axis] + "z" if turned else "z" + of_v[axis]
            out = [k for k in of_v if k != of_v[axis]]
            out.insert(self.rng.randint(0, len(out)), "z")
            to = [m if k == "z" else d[of_v.index(k)] for k in out]
            if self.rng.random() < 0.7:
                self.add(f'contract "{of_v},{of_w}->{"".join(out)}" %{v}, %{w}', to)
            else:
                self.add(f'contract "{of_w},{of_v}->{"".join(out)}" %{w}, %{v}', to)

    def reduce(self, v, d):
        if d:
            axis, keep = self.rng.randrange(len(d)), self.rng.random() < 0.5
            to = d[:axis] + ([1] if keep else []) + d[axis + 1:]
            self.add(f"reduce.{self.rng.choice(['max', 'sum'])} [{axis}]{' keep' if keep else ''} %{v}", to)

    def text(self):
        kinds = [self.constant_map] * 3 + [self.contract] * 2 + [self.map, self.pair, self.permute, self.reshape, self.slice, self.pad,
                                                                 self.concat, self.reduce]
        for _ in range(self.rng.randint(4, 18)):
            self.rng.choice(kinds)(*self.rng.choice(self.values[-4:]))
        out = [self.values[-1]]
        if self.rng.random() < 0.3:
            out += [v for v in [self.rng.choice(self.values)] if v != out[0]]
        ports = ", ".join(f"%o{k}: f32[{dims(d)}]" for k, (_, d) in enumerate(out))
        body = "".join(f"  {line}\n" for line in self.lines)
        return (f"graph @t (%x: f32[2,3,4], %z: f32[2,3,4]) -> ({ports}) {{\n{body}"
                f"  return {', '.join('%' + v for v, _ in out)}\n}}\n")


def main():
    p = argparse.ArgumentParser()
    p.add_argument("accelc")
    p.add_argument("--count", type=int, default=400)
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--until", default="fold3")
    a = p.parse_args()
    bad = 0
    with tempfile.TemporaryDirectory() as tmp:
        for seed in range(a.seed, a.seed + a.count):
            text, path = Graph(seed).text(), f"{tmp}/t.ir"
            with open(path, "w") as f:
                f.write(text)
            why = golden.evaluate(os.path.abspath(a.accelc), path, text, [f"--stop-after={a.until}"], 3e-4)
            if why:
                bad += 1
                print(f"seed {seed}: {why}\n{text}")
    print(f"{a.count - bad} of {a.count} passed")
    return bad > 0


if __name__ == "__main__":
    sys.exit(main())
