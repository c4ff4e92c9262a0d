#!/usr/bin/env python3
"""The rules of the source tree that a machine can check, each with its reason:

layers    a folder includes itself, ir/ and nothing to its right; LLVM stays in codegen's printers and object writer
globals   no mutable data at file scope (in-process tests and fuzzers run the compiler many times)
size      a file is read in one sitting: 1200 lines at most, tables exempt
text      no tabs, no white space at line ends, no path of somebody's machine, no note of work left to do; lines of C and Python
          fit 150 columns (those of a .def are rows of a table)
calls     a function that a header declares is used
tables    every row of every table is used by a test, or by a case of the official ONNX suite

    lint.py [BUILD]         BUILD: a build folder; its object files are searched for mutable data. Prints the table of sizes.
"""
import fnmatch
import glob
import os
import re
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
FOLDERS = ["frontend", "ir", "passes", "codegen", "runtime"]
HARD = 1200
COLUMNS = 150

# What a folder may include besides itself: prefixes of the path in #include "...".
LAYERS = {
    "ir": [],
    "passes": ["ir/"],
    "frontend": ["ir/", "runtime/call.h", "runtime/call.def"],
    "codegen": ["ir/", "runtime/abi.h", "runtime/call.def"],
    "runtime": [],
}
# These call the stages in order and see all.
ABOVE = {"frontend/accelc.c", "frontend/compile.c"}
SYSTEM = [  # headers of others, and who may include them
    ("llvm-c/", ["codegen/llvm*.[ch]", "codegen/target_x86.c", "codegen/object.c"]),
    ("llvm/Config/", ["codegen/llvm*.[ch]"]),
    ("llvm/", []),
    ("onnx.pb-c.h", ["frontend/*.[ch]"]),
    ("protobuf-c/", ["frontend/*.[ch]"]),
    ("omp.h", ["runtime/rt_omp.c", "codegen/*.c"]),
]
TEXT = [
    (re.compile(r"\t"), "a tab"),
    (re.compile(r"[ \t]+$"), "white space at the end of the line"),
    (re.compile(r"(?<![\w.$}])/(home|root|work|Users|mnt)/\w"), "a path of one machine"),
    (re.compile(r"\b(TODO|FIXME|XXX|HACK)\b"), "a note of work left to do"),
]


def sources(*patterns):
    for folder in FOLDERS:
        for pattern in patterns:
            for path in sorted(glob.glob(os.path.join(ROOT, folder, "**", pattern), recursive=True)):
                yield os.path.relpath(path, ROOT)


def read(path):
    with open(os.path.join(ROOT, path), encoding="utf-8") as f:
        return f.read()


def layers():
    for path in sources("*.c", "*.h", "*.def"):
        folder = path.split("/")[0]
        for n, line in enumerate(read(path).splitlines(), 1):
            m = re.match(r'\s*#\s*include\s*([<"])([^>"]+)', line)
            if not m:
                continue
            quoted, name = m.group(1) == '"', m.group(2)
            allowed = next((a for prefix, a in SYSTEM if name.startswith(prefix)), None)
            if allowed is not None:
                if not any(fnmatch.fnmatch(path, a) for a in allowed):
                    yield f"{path}:{n}: includes {name}, which belongs to {', '.join(allowed) or 'nobody'}"
                continue
            if not quoted or path in ABOVE:
                continue
            target = name if "/" in name else f"{folder}/{name}"
            if not os.path.exists(os.path.join(ROOT, target)):
                yield f"{path}:{n}: includes {name}, which is not in the tree"
            elif target.split("/")[0] != folder and not any(target.startswith(p) for p in LAYERS[folder]):
                yield f"{path}:{n}: {folder}/ must not include {target}"


# Facts of the process, found once under pthread_once.
ONCE = {"codegen/llvm.c": "LLVM's own registration", "codegen/target_x86.c": "what this machine is"}


def mutable(build):
    """Sections of writable data in the objects of the compiler; constant tables with pointers are .data.rel.ro."""
    for obj in sorted(glob.glob(os.path.join(build, "CMakeFiles", "accelc_*.dir", "**", "*.o"), recursive=True)):
        name = os.path.relpath(obj, build)
        if not re.search(r"accelc_(ir|passes|codegen|frontend)\.dir/", name):
            continue
        text = subprocess.run(["objdump", "-h", "-w", obj], capture_output=True, text=True).stdout
        for m in re.finditer(r"^\s*\d+ (\.(?:data|bss|tdata|tbss)\S*)\s+([0-9a-f]+)", text, re.M):
            source = re.sub(".*dir/", "", name)[:-2]
            if int(m.group(2), 16) and source not in ONCE and not m.group(1).startswith(".data.rel.ro"):
                yield f"{source}: mutable data at file scope ({m.group(1)}, {int(m.group(2), 16)} bytes)"


def sizes():
    rows = []
    for path in sources("*.c", "*.h", "*.def", "*.py"):
        lines = len(read(path).splitlines())
        rows.append((lines, path))
        if lines > HARD and not path.endswith(".def"):
            yield f"{path}: {lines} lines, {HARD} at most"
    rows.sort()
    print(f"{'folder':10} {'files':>5} {'lines':>7} {'median':>6} {'largest':>7}")
    for folder in FOLDERS + [""]:
        of = [r for r in rows if r[1].startswith(folder)]
        print(f"{folder or 'all':10} {len(of):5} {sum(r[0] for r in of):7} {of[len(of) // 2][0]:6} {of[-1][0]:7}  {of[-1][1]}")


def texts():
    paths = list(sources("*.c", "*.h", "*.def", "*.py", "*.toml")) + ["CMakeLists.txt", "README.md"]
    for pattern in ("tests/**/*", "cmake/*", "models/*", "*/*.md"):
        paths += [os.path.relpath(p, ROOT) for p in glob.glob(os.path.join(ROOT, pattern), recursive=True)
                  if re.search(r"\.(c|h|cpp|py|sh|txt|md|in|cmake|test|onnxtxt)$", p) and os.path.isfile(p)]
    for path in sorted(set(paths)):
        if path == "tests/lint/lint.py" or not os.path.exists(os.path.join(ROOT, path)):
            continue
        for n, line in enumerate(read(path).splitlines(), 1):
            if len(line) > COLUMNS and re.search(r"\.(c|h|py|cpp)$", path):
                yield f"{path}:{n}: {len(line)} columns, {COLUMNS} at most"
            for rule, what in TEXT:
                if rule.search(line) and not (path.endswith(".md") and what.startswith("white")):
                    yield f"{path}:{n}: {what}"


def uncalled():
    """Functions that a header declares and that nobody names but their declaration and their definition."""
    text = {path: re.sub(r"/\*.*?\*/", "", read(path), flags=re.S) for path in sources("*.c", "*.h", "*.def")}
    for path in glob.glob(os.path.join(ROOT, "tests", "**", "*.[ch]"), recursive=True):
        text[os.path.relpath(path, ROOT)] = read(os.path.relpath(path, ROOT))
    names = {}
    for body in text.values():
        for word in re.findall(r"\w+", body):
            names[word] = names.get(word, 0) + 1
    for path, body in text.items():
        if not path.endswith(".h") or path.startswith("tests/"):
            continue
        for name in re.findall(r"^(?!typedef|static|#|return)[A-Za-z_][\w *]*?[ *](\w+)\s*\([^;{]*\)\s*(?:__attribute__\(\(.*\)\))?;", body, re.M):
            if names[name] < 3:
                yield f"{path}: {name} is called by nobody"


def suite_operators():
    """Operators that the official cases use, by the source of their generators."""
    import onnx.backend.test.case as cases
    text = ""
    for path in glob.glob(os.path.join(os.path.dirname(cases.__file__), "**", "*.py"), recursive=True):
        with open(path, encoding="utf-8") as f:
            text += f.read()
    return set(re.findall(r"\w+", text))


# table, pattern of a row, how a row may be named in a test (a regular expression with %s), where: folders of tests
TABLES = [
    ("frontend/ops*.def", r'^OP\("[^"]*",\s*(\w+)', r"\b%s\b", ["frontend", "diag", "eval", "model", "op"]),
    ("ir/prim.def", r'^PRIM\(\w+,\s*"([^"]+)"', r"\b%s\b", ["ir", "pass"]),
    ("ir/scalar.def", r'^SCALAR\(\w+,\s*"([^"]+)"', r"\b%s\b", ["ir"]),
    ("ir/dtype.def", r'^DTYPE\((\w+),', r"\bDT_%s\b", ["ir", "codegen"]),
    ("passes/passes.def", r'^PASS\("([a-z]+)\d*"', r"\b%s\b", ["pass", "passes"]),
    ("codegen/lir.def", r'^LIR\((\w+),', r"(?i)\blir_%s\w*\b", ["codegen"]),
    ("codegen/ukr.def", r"^UKR\((\w+)", r"\b%s\b", ["codegen", "gpu"]),
]
# Rows whose builder has another name.
ALIASES = {("codegen/lir.def", "CONST"): "i64", ("codegen/lir.def", "CARRY"): "for", ("codegen/lir.def", "RESULT"): "for_end",
           ("codegen/lir.def", "ENDFOR"): "for_end"}


def tables():
    for table, pattern, use, folders in TABLES:
        parts = sorted(glob.glob(os.path.join(ROOT, table)))
        text = ""
        for folder in folders:
            for path in glob.glob(os.path.join(ROOT, "tests", folder, "**", "*"), recursive=True):
                if os.path.isfile(path) and re.search(r"\.(c|h|py|test|ir|onnxtxt)$", path):
                    text += path + "\n" + open(path, encoding="utf-8", errors="replace").read()
        if f'#include "{table}"' in text:       # a test goes over the whole table
            continue
        known = suite_operators() if table == "frontend/ops*.def" else set()
        for row in sorted(set(re.findall(pattern, "".join(map(read, parts)), re.M))):
            if row not in known and not re.search(use % re.escape(ALIASES.get((table, row), row)), text):
                yield f"{table}: no test of row {row}"


def main():
    checks = [("layers", layers()), ("size", sizes()), ("text", texts()), ("calls", uncalled()), ("tables", tables())]
    if len(sys.argv) > 1:
        checks.append(("globals", mutable(sys.argv[1])))
    failed = 0
    for name, found in checks:
        found = list(found)
        failed += len(found)
        for line in found:
            print(f"{name}: {line}")
    print(f"{failed} findings")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
