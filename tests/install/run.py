#!/usr/bin/env python3
"""What a user gets from `cmake --install`: programs, header, CMake package, pkg-config file, Python package. A project that knows
only the installed tree (moved after installation) links two models into one program, in C and in C++, with GNU ld and with lld.

    run.py BUILD
"""
import os
import shutil
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
MODELS = os.path.join(ROOT, "models")
IMAGES = [os.path.join(MODELS, f"digit-{d}.npy") for d in (0, 3, 7)]
WANT = ["0 0 single 256", "3 3 single 256", "7 7 single 256"]
ENV = {k: v for k, v in os.environ.items() if k not in ("ACCELC", "PYTHONPATH")}


def run(*command, **more):
    done = subprocess.run(command, capture_output=True, text=True, env={**ENV, **more.pop("env", {})}, **more)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\nstatus {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def check(what, got, want):
    if got != want:
        sys.exit(f"{what}: {got!r} instead of {want!r}")
    print(f"ok   {what}")


def consumer(prefix, folder, generator, flags):
    run("cmake", "-S", os.path.join(HERE, "consumer"), "-B", folder, "-G", generator, f"-DCMAKE_PREFIX_PATH={prefix}",
        f"-DMODELS={folder}-models", f"-DCMAKE_EXE_LINKER_FLAGS={flags}", "-DCMAKE_BUILD_TYPE=Release")
    run("cmake", "--build", folder)
    for program in ("use_c", "use_cpp"):
        got = [run(os.path.join(folder, program), image).strip() for image in IMAGES]
        check(f"{program}, {generator}, {flags or 'default linker'}", got, WANT)


def rebuilds(folder):
    """A change of the model file rebuilds, nothing else does."""
    archive = os.path.join(folder, "digits.accelc", "digits.a")
    before = os.stat(archive).st_mtime_ns
    run("cmake", "--build", folder)
    check("nothing to do, nothing done", os.stat(archive).st_mtime_ns, before)
    os.utime(os.path.join(f"{folder}-models", "digits.onnx"))
    run("cmake", "--build", folder)
    check("a newer model is compiled", os.stat(archive).st_mtime_ns > before, True)


def main():
    build = os.path.abspath(sys.argv[1])
    with tempfile.TemporaryDirectory(prefix="accelc-install-") as tmp:
        run("cmake", "--install", build, "--prefix", os.path.join(tmp, "first"))
        prefix = os.path.join(tmp, "moved")
        os.rename(os.path.join(tmp, "first"), prefix)

        for i, (generator, flags) in enumerate([("Unix Makefiles", "-fuse-ld=bfd"), ("Ninja", "-fuse-ld=lld")]):
            if "lld" in flags and not shutil.which("ld.lld"):
                flags = ""
            folder = os.path.join(tmp, f"consumer{i}")
            shutil.copytree(MODELS, f"{folder}-models")
            consumer(prefix, folder, generator, flags)
        rebuilds(folder)

        # pkg-config, and objects instead of archives
        config = {"PKG_CONFIG_PATH": os.path.join(prefix, "lib", "pkgconfig")}
        lib = [d for d, _, files in os.walk(prefix) if "accelc.pc" in files]
        config["PKG_CONFIG_PATH"] = lib[0]
        flags = run("pkg-config", "--cflags", "--libs", "accelc", env=config).split()
        accelc = run("pkg-config", "--variable=accelc", "accelc", env=config).strip()
        check("pkg-config --modversion", run("pkg-config", "--modversion", "accelc", env=config).strip(),
              run(accelc, "--version").split()[1])
        model = os.path.join(MODELS, "digits.onnx")
        for name, options in (("digits", []), ("single", ["--dim", "batch=1"])):
            run(accelc, model, "-o", f"{name}.o", *options, cwd=tmp)
            run(accelc, model, "-o", f"{name}.h", *options, cwd=tmp)
        source = os.path.join(HERE, "consumer", "use.c")
        run(os.environ.get("CC", "cc"), "-std=c99", "-pedantic-errors", "-Wall", "-Wextra", "-Werror", "-I.", source, "digits.o",
            "single.o", "-o", "use", *flags, cwd=tmp)
        check("two .o in one program, through pkg-config", [run(os.path.join(tmp, "use"), i).strip() for i in IMAGES], WANT)

        # the Python package and accelc-run of the installed tree
        python = [d for d, _, files in os.walk(prefix) if "_compile.py" in files][0]
        text = run(sys.executable, "-c", "import accelc, numpy, sys; accelc.compile(sys.argv[1], 'p.so'); "
                   "s = accelc.load('p.so').session(); print(s.run({'image': numpy.load(sys.argv[2])})['probability'].argmax())",
                   model, IMAGES[2], cwd=tmp, env={"PYTHONPATH": os.path.dirname(python), "PATH": "/usr/bin:/bin"})
        check("Python", text.strip(), "7")
        text = run(os.path.join(prefix, "bin", "accelc-run"), "p.so", "--input", f"image={IMAGES[0]}", cwd=tmp)
        check("accelc-run --version", run(os.path.join(prefix, "bin", "accelc-run"), "--version").split()[1], run(accelc, "--version").split()[1])
        check("accelc-run", "probability: float32 [1, 10]" in text, True)


if __name__ == "__main__":
    main()
