#!/usr/bin/env python3
"""The tables of README.md that come from the compiler are up to date, every link and file it names exists, and CODEGEN.md describes every template.

    docs.py ACCELC [--write]        --write brings them up to date
"""
import os
import re
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
README = os.path.join(ROOT, "README.md")


def output(accelc, *args):
    return subprocess.run([accelc, *args], capture_output=True, text=True, check=True).stdout


def official_cases():
    """(domain, operator): official cases passed, and how many there are."""
    with open(os.path.join(ROOT, "tests", "tools", "cases.txt"), encoding="utf-8") as f:
        rows = [line.split() for line in f if not line.startswith("#")]
    return {(domain, op): (int(passed), int(total)) for domain, op, passed, total in rows}


def operators(accelc):
    """Operators by domain and letter, each with the versions at which its meaning changed and its official cases."""
    rows, cases = {}, official_cases()
    for line in output(accelc, "list-ops").splitlines():
        domain, name, versions, what = line.split(None, 3)
        since = versions.split("..")[0]
        seen = rows.setdefault((domain, name[0]), {}).setdefault(name, [])
        if what == "withdrawn":
            seen[-1] += f"..{int(since) - 1}"
        else:
            seen.append(since)
    count = sum(len(ops) for ops in rows.values())

    def entry(domain, name, versions):
        passed, total = cases.get((domain, name), (0, 0))
        number = f" ({passed})" if total == passed else f" ({passed} of {total})"
        return f"{name} {'/'.join(versions)}{number if total else ''}"
    text = "".join(f"| `{domain}` | {letter} | {', '.join(entry(domain, n, v) for n, v in sorted(ops.items()))} |\n"
                   for (domain, letter), ops in sorted(rows.items()))
    return (f"{count} operators; after each name, the versions that changed its meaning (`9..10`: withdrawn after 10), and in parentheses how many\n"
            f"of the official ONNX cases contain it and pass (`36 of 37` if one fails; those of Bernoulli expect the draw of one certain\n"
            f"random generator). A model may import any version. `accelc list-ops` has the types of operands, and the results.\n\n"
            f"| domain | | operators |\n|---|---|---|\n{text}")


def passes(accelc):
    rows = [line.split(None, 1) for line in output(accelc, "--list-passes").splitlines()]
    return "| pass | what it does |\n|---|---|\n" + "".join(f"| `{n}` | {brief} |\n" for n, brief in rows)


def help_text(accelc):
    return "```\n" + output(accelc, "--help") + "```\n"


def undescribed():
    """Templates of ukr.def that have no row in the table of CODEGEN.md: | `name` | for | one task |."""
    with open(os.path.join(ROOT, "codegen/ukr.def"), encoding="utf-8") as f:
        names = re.findall(r"^UKR\((\w+)", f.read(), re.M)
    with open(os.path.join(ROOT, "codegen/CODEGEN.md"), encoding="utf-8") as f:
        rows = re.findall(r"^\| `(\w+)` \|[^|]*\|[^|]*\|$", f.read(), re.M)
    return [n for n in names if n not in rows]


SECTIONS = {"operators": operators, "passes": passes, "help": help_text}


def main():
    accelc, write = sys.argv[1], "--write" in sys.argv
    with open(README, encoding="utf-8") as f:
        text = before = f.read()
    wrong = 0
    for name, make in SECTIONS.items():
        begin, end = f"<!-- {name}: from tests/lint/docs.py -->\n", f"<!-- end of {name} -->"
        if begin not in text or end not in text:
            print(f"README.md has no section {name}")
            wrong += 1
            continue
        head, rest = text.split(begin)
        old, tail = rest.split(end, 1)
        new = make(accelc)
        if old != new:
            wrong += not write
            print(f"{name} {'brought up to date' if write else 'is out of date; run ' + sys.argv[0] + ' ' + accelc + ' --write'}")
        text = head + begin + new + end + tail
    if write and text != before:
        with open(README, "w", encoding="utf-8") as f:
            f.write(text)
    for name in undescribed():
        print(f"codegen/CODEGEN.md has no row for the template {name}")
        wrong += 1
    for doc in ("README.md", "ir/IR.md", "codegen/CODEGEN.md"):
        path = os.path.join(ROOT, doc)
        if not os.path.exists(path):
            print(f"{doc} is missing")
            wrong += 1
            continue
        with open(path, encoding="utf-8") as f:
            for target in re.findall(r"\]\(([^)#:]+)\)", f.read()):
                if not os.path.exists(os.path.join(os.path.dirname(path), target)):
                    print(f"{doc}: link to {target}, which does not exist")
                    wrong += 1
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
