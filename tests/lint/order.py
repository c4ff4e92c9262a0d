#!/usr/bin/env python3
"""The same model gives the same code whichever compiler compiled accelc: C leaves open in which order the arguments of a call are evaluated, so at
most one of them emits instructions (of Lir, or LLVM's); the others have got names before. Constants are no instructions.
(The values of a list in braces are taken in order by all compilers, though C does not say so.)

    order.py
"""
import glob
import os
import re
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
CONSTANT = {"lir_i64", "lir_int", "lir_float", "lir_bool", "lir_iota", "lir_table", "lir_const_int", "lir_const_float", "pr_const"}
SPLAT = {"lir_splat", "pr_splat"}       # of a constant: a constant
CALL = re.compile(r"(?<![\w>.])([A-Za-z_]\w*)\s*\(")
FUNCTION = re.compile(r"^(?:[A-Za-z_]\w*[ *]+)+(\w+)\(([^;{}]*)\)\s*\{", re.M)
MACRO = re.compile(r"^#define (\w+)\([^)]*\)((?:[^\n]*\\\n)*[^\n]*)", re.M)
KEYWORDS = {"if", "for", "while", "switch", "return", "sizeof", "CHECK"}


def blanked(text):
    """The text without comments, strings and characters, everything else where it was."""
    return re.sub(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', lambda m: re.sub(r"[^\n]", " ", m.group()), text, flags=re.S)


def parts(text, at):
    """What commas separate in the bracket that opens at `at`, as (begin, end), and where it closes."""
    found, depth, begin = [], 0, at + 1
    for i in range(at, len(text)):
        c = text[i]
        depth += c in "([{"
        depth -= c in ")]}"
        if depth == 0 or (c == "," and depth == 1):
            found.append((begin, i))
            begin = i + 1
        if depth == 0:
            return found, i
    return [], len(text)


class Sources:
    def __init__(self, paths):
        self.text, self.body, self.emits = {}, {}, set()
        for path in paths:
            with open(os.path.join(ROOT, path), encoding="utf-8") as f:
                self.text[path] = blanked(f.read())
        for path, text in self.text.items():
            for m in FUNCTION.finditer(text):
                static = m.group().startswith("static") and path.endswith(".c")
                end = re.compile(r"^\}", re.M).search(text, m.end()) if "\n" in text[m.end():text.find("}", m.end())] else None
                self.body[path if static else "", m.group(1)] = (path, m.end(), end.start() if end else parts(text, m.end() - 1)[1])
            for m in MACRO.finditer(text):
                self.body[path if path.endswith(".c") else "", m.group(1)] = (path, m.start(2), m.end())
        while True:
            more = {f for f, where in self.body.items() if f not in self.emits and f[1] not in CONSTANT and self.emitting(*where)}
            if not more:
                break
            self.emits |= more

    def emitting(self, path, begin, end):
        """The first call in a piece of text that emits, or None."""
        text = self.text[path]
        for m in CALL.finditer(text, begin, end):
            name = m.group(1)
            if name in SPLAT:
                operand = parts(text, m.end() - 1)[0][1:2]
                of = CALL.match(text, re.compile(r"\s*").match(text, operand[0][0]).end()) if operand else None
                if of and (of.group(1) in CONSTANT or of.group(1).startswith("LLVMConst")):
                    continue
            where = path if (path, name) in self.body else ""
            if (where, name) in self.emits or name in ("lir_pure", "lir_append") or name.startswith("LLVMBuild"):
                return name
        return None

    def findings(self):
        for path, text in self.text.items():
            for m in CALL.finditer(text):
                if m.group(1) in KEYWORDS:
                    continue
                names = [n for part in parts(text, m.end() - 1)[0] if (n := self.emitting(path, *part))]
                if len(names) > 1:
                    yield f"{path}:{text.count(chr(10), 0, m.start()) + 1}: {' and '.join(names)} emit in an order that is the C compiler's choice"


def main():
    sources = Sources(sorted(os.path.relpath(p, ROOT) for p in glob.glob(os.path.join(ROOT, "codegen", "*.[ch]"))))
    found = list(sources.findings())
    print("\n".join(found + [f"{len(sources.emits)} functions emit, {len(found)} findings"]))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
