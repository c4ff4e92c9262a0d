"""ImageDecoder: files made here; the other formats are in the official cases."""
import struct
import zlib

import numpy as np

from op_test import Case, u8

HAS = {"RGB": lambda x: x, "BGR": lambda x: x[:, :, ::-1],
       "Grayscale": lambda x: ((x @ np.array([19595, 38470, 7471]) + 0x8000) >> 16).astype(np.uint8)[:, :, None]}


def data(b):
    return np.frombuffer(b, np.uint8).copy()


def png(x, colour, depth=8):
    """Colour types of PNG: 0 grey, 2 RGB, 4 grey and alpha, 6 RGBA."""
    def chunk(name, body):
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
    rows = b"".join(b"\0" + r.astype(">u2" if depth == 16 else "u1").tobytes() for r in x)
    head = struct.pack(">IIBBBBB", x.shape[1], x.shape[0], depth, colour, 0, 0, 0)
    return data(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


def bmp(x, bits=24, down=False):
    h, w, _ = x.shape
    y = x[:, :, ::-1] if bits == 24 else np.concatenate([x[:, :, ::-1], np.full((h, w, 1), 255, np.uint8)], 2)
    row = (w * bits + 31) // 32 * 4
    body = b"".join(r.tobytes().ljust(row, b"\0") for r in (y if down else y[::-1]))
    head = struct.pack("<2sIHHIIiiHHIIiiII", b"BM", 54 + len(body), 0, 0, 54, 40, w, -h if down else h, 1, bits, 0, len(body), 0, 0, 0, 0)
    return data(head + body)


def cases(rng):
    x = u8(rng, 5, 7, 3)
    pnm = data(b"P6\n# rows\n7 5\n255\n" + x.tobytes())
    for name, how in HAS.items():
        for file in (png(x, 2), bmp(x), bmp(x, 32), bmp(x, 24, True), pnm):
            yield Case("ImageDecoder", [file], {"pixel_format": name}, oracle=[how(x)], dynamic=name == "BGR")
    grey = u8(rng, 4, 9, 1)
    rgb = np.repeat(grey, 3, 2)
    yield Case("ImageDecoder", [png(grey, 0)], oracle=[rgb])
    yield Case("ImageDecoder", [png(np.concatenate([x, x[:, :, :1]], 2), 6)], oracle=[x])
    yield Case("ImageDecoder", [png(x.astype(np.int64) * 257, 2, 16)], oracle=[x])
    yield Case("ImageDecoder", [data(b"P5 9 4 255\n" + grey.tobytes())], oracle=[rgb])
    yield Case("ImageDecoder", [data(b"P3 7 5 255\n" + b" ".join(b"%d" % v for v in x.reshape(-1)))], oracle=[x])
    yield Case("ImageDecoder", [data(b"P1 3 1\n1 0\n1")], oracle=[np.repeat(np.array([[[0], [255], [0]]], np.uint8), 3, 2)])
    yield Case("ImageDecoder", [data(b"P4 9 1\n\xaa\x80")], oracle=[np.repeat(255 * (np.arange(9) % 2).astype(np.uint8)[None, :, None], 3, 2)])
    bad = [b"", b"x", b"GIF89a", b"\xff\xd8\xff", b"\xff\xd8\xff\xe0" + b"\0" * 60, b"RIFF\0\0\0\0WEBPVP8 ", b"II*\0\x08\0\0\0",
           b"MM\0*\xff\xff\xff\xff", b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51\0\0", b"BM" + b"\0" * 20, b"BM" + b"\xff" * 70,
           b"P6", b"P6 99999 99999 255\n", b"P6 2 2 255\nabc", b"P5 -1 2 255\n", b"P3 2 2 255 1 2", b"P1 2 2 1", b"P6 0 0 255\n",
           png(x, 2).tobytes()[:60], bmp(x).tobytes()[:100],
           struct.pack("<2sIHHIIiiHHIIiiII", b"BM", 0, 0, 0, 54, 40, 1 << 30, 1 << 30, 1, 1, 0, 0, 0, 0, 0, 0),
           b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sIIBBBBBI", 13, b"IHDR", 1 << 30, 1 << 30, 8, 2, 0, 0, 0, 0)]
    for b in bad:
        yield Case("ImageDecoder", [data(b)], error="image|cut off|header|file|damaged|large|png|jpeg")
