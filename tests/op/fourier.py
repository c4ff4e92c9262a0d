"""Fourier transforms of all kinds of lengths: smooth, prime, even, odd; along any axis; windows of signals."""
import numpy as np
from op_test import Case


def spectrum(x, axis, inverse, onesided, n):
    z = x[..., 0] + 1j * x[..., 1] if x.shape[-1] == 2 else x[..., 0].astype(complex)
    z = z.astype(complex)
    n = n or z.shape[axis]
    if inverse and onesided:
        return np.fft.irfft(z, n=n, axis=axis)[..., None].astype(x.dtype)
    y = (np.fft.ifft if inverse else np.fft.fft)(z, n=n, axis=axis)
    if onesided:
        y = np.take(y, range(n // 2 + 1), axis=axis)
    return np.stack((y.real, y.imag), axis=-1).astype(x.dtype)


def cases(rng):
    lengths = [1, 2, 3, 4, 5, 6, 7, 8, 11, 12, 13, 16, 17, 30, 64, 97, 101, 143, 400, 1000, 1021, 2048, 2310]
    for n in lengths:
        for parts, inverse, onesided in ((1, 0, 0), (2, 0, 0), (2, 1, 0), (1, 0, 1)):
            x = rng.standard_normal((2, n, parts)).astype(np.float32)
            yield Case("DFT", [x, None, np.array(1)], {"inverse": inverse, "onesided": onesided}, opset=20, tol=2e-5, const=(2,),
                       oracle=[spectrum(x, 1, inverse, onesided, 0)])
    for n, have in ((8, 5), (9, 5), (12, 7), (1, 1), (2, 2)):      # the inverse of half a spectrum: real
        x = rng.standard_normal((2, have, 3, 2)).astype(np.float64)
        x[:, 0, :, 1] = 0
        if n % 2 == 0:
            x[:, -1, :, 1] = 0
        yield Case("DFT", [x, np.array(n), np.array(1)], {"inverse": 1, "onesided": 1}, opset=20, const=(1, 2),
                   oracle=[spectrum(x, 1, True, True, n)], tol=1e-9)
    for n in (1, 2, 3, 8, 17, 64, 97, 400):     # a length that only the run knows, of x and of the transform: cut, and padded with zeros
        for length in sorted({n, max(1, n - 1), n + 3}):
            for parts, inverse, onesided in ((1, 0, 0), (2, 0, 0), (2, 1, 0), (1, 0, 1)):
                x = rng.standard_normal((2, n, parts)).astype(np.float32)
                yield Case("DFT", [x, np.array(length), np.array(1)], {"inverse": inverse, "onesided": onesided}, opset=20, const=(2,), dynamic=True,
                           tol=1e-6, oracle=[spectrum(x, 1, inverse, onesided, length)])
    x = np.moveaxis(spectrum(rng.standard_normal((3, 9, 1)), 1, False, True, 0), 1, 0).astype(np.float64)
    yield Case("DFT", [x, np.array(9), np.array(0)], {"inverse": 1, "onesided": 1}, opset=20, const=(2,), dynamic=True, tol=1e-9,
               oracle=[spectrum(x, 0, True, True, 9)])
    x = rng.standard_normal((3, 5, 6, 2)).astype(np.float32)
    for axis in (0, 1, 2, -2, -3, -4):      # known when compiled, or at run time only, with sizes known or not
        for const in ((), (2,)):
            for dynamic in (False, True):
                yield Case("DFT", [x, None, np.array(axis)], {}, opset=20, const=const, dynamic=dynamic, tol=2e-5,
                           oracle=[spectrum(x, axis % 4, False, False, 0)])
    for n in (3, 9, 17):        # cut, and padded with zeros
        yield Case("DFT", [x, np.array(n)], {"axis": 2}, opset=17, const=(1,), tol=2e-5, oracle=[spectrum(x, 2, False, False, n)])
    signal = rng.standard_normal((2, 64, 1)).astype(np.float32)
    for length, step in ((16, 8), (15, 4), (64, 1), (17, 5)):
        window = np.hanning(length).astype(np.float32)
        yield Case("STFT", [signal, np.array(step), window, np.array(length)], {"onesided": 1}, opset=17, const=(1, 3), oracle="reference", tol=2e-5)
        yield Case("STFT", [signal, np.array(step), None, np.array(length)], {"onesided": 0}, opset=17, const=(1, 3), dynamic=True,
                   oracle="reference", tol=2e-5)
    yield Case("STFT", [signal[:, :, 0], np.array(8), np.hanning(16).astype(np.float32)], {}, opset=17, const=(1,), tol=2e-5)
    for bad in (-1, 3, -5):
        yield Case("DFT", [x, None, np.array(bad)], {}, opset=20, error="axis")
    yield Case("DFT", [np.zeros((1, 10, 1), np.float32)], {"axis": 2}, opset=19, error="real and imaginary")
