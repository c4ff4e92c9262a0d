"""Whether tests run on a GPU (ACCELC_TEST_GPU) or by the look-alike of the driver, and which GPU there is. Needs nothing but Python."""
import ctypes
import os
import sys


def target(hopper=False):
    """Options of the compiler for the look-alike; with ACCELC_TEST_GPU, for a real GPU."""
    if os.environ.get("ACCELC_TEST_GPU"):
        return ["--target", "cuda", "--gpu", "sm_90a" if hopper else "sm_80"]
    return ["--target", "gpu-emulated-sm_90a" if hopper else "gpu-emulated"]


def runs_on(hopper=False):
    """With ACCELC_TEST_GPU, whether there is such a GPU; else True."""
    if not os.environ.get("ACCELC_TEST_GPU"):
        return True
    try:
        driver = ctypes.CDLL(os.environ.get("ACCELC_LIBCUDA") or "libcuda.so.1")
    except OSError:
        return False
    device, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    if driver.cuInit(0) or driver.cuDeviceGet(ctypes.byref(device), 0):
        return False
    if driver.cuDeviceGetAttribute(ctypes.byref(major), 75, device) or driver.cuDeviceGetAttribute(ctypes.byref(minor), 76, device):
        return False
    return (major.value, minor.value) == (9, 0) if hopper else major.value >= 8


def skip_without(hopper=False):
    if not runs_on(hopper):
        print("skipped: there is no GPU of NVIDIA's" + (" that has sm_90a" if hopper else ""))
        sys.exit(0)
