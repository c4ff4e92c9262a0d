"""accelc_rt.h in ctypes, and the element types. Field order is that of the header."""
import ctypes as c
import functools
import struct

import numpy as np

from ._errors import Error

ABI = 1
ABSENT, TENSOR, SEQUENCE, MAP = range(4)
OK, EINVAL, ESHAPE, EDTYPE, ESPACE, ENOMEM, EDATA, EBUSY, EDEVICE, ECPU, EABI, ECANCEL = range(12)


class Str(c.Structure):
    _fields_ = [("ptr", c.c_void_p), ("len", c.c_size_t)]


class Value(c.Structure):
    _fields_ = [("kind", c.c_uint8), ("owned", c.c_uint8), ("dtype", c.c_uint16), ("rank", c.c_int32),
                ("device", c.c_int32), ("pad_", c.c_int32), ("dims", c.c_void_p), ("data", c.c_void_p),
                ("bytes", c.c_size_t), ("elem", c.c_void_p), ("nelem", c.c_size_t)]


VALUE = struct.Struct("BBHiiiPPNPN")     # the fields of a Value, which all at once cost less than one by one
WORDS, DIMS, DATA, ELEM = VALUE.size // 8, Value.dims.offset // 8, Value.data.offset // 8, Value.elem.offset // 8 # those of many as a matrix of words
assert VALUE.size == c.sizeof(Value)


class Dim(c.Structure):
    _fields_ = [("expr", c.c_char_p), ("min", c.c_int64), ("max", c.c_int64)]


class Port(c.Structure):
    _fields_ = [("name", c.c_char_p), ("type", c.c_char_p), ("kind", c.c_uint8), ("optional", c.c_uint8),
                ("dtype", c.c_uint16), ("rank", c.c_int32), ("dims", c.POINTER(Dim)), ("state", c.c_int32)]


class Desc(c.Structure):
    _fields_ = [("size", c.c_uint32), ("name", c.c_char_p), ("producer", c.c_char_p), ("target", c.c_char_p),
                ("digest", c.c_char_p), ("nin", c.c_int32), ("nout", c.c_int32), ("nsym", c.c_int32),
                ("in_", c.POINTER(Port)), ("out", c.POINTER(Port)), ("sym", c.POINTER(c.c_char_p)),
                ("weight_bytes", c.c_uint64), ("code_bytes", c.c_uint64), ("flags", c.c_uint64)]


TASK = c.CFUNCTYPE(None, c.c_void_p, c.c_int, c.c_int)
FOR_EACH = c.CFUNCTYPE(None, c.c_void_p, c.c_int, TASK, c.c_void_p)


class Exec(c.Structure):
    _fields_ = [("ctx", c.c_void_p), ("width", c.c_int32), ("gang", c.c_int32), ("for_each", FOR_EACH)]


ON_STEP = c.CFUNCTYPE(None, c.c_void_p, c.c_int, c.c_int, c.c_uint64, c.c_uint64)
ALLOC = c.CFUNCTYPE(c.c_void_p, c.c_void_p, c.c_size_t, c.c_size_t)
FREE = c.CFUNCTYPE(None, c.c_void_p, c.c_void_p)


class Config(c.Structure):
    _fields_ = [("size", c.c_uint32), ("threads", c.c_int32), ("exec", c.c_void_p), ("spin_us", c.c_int32),
                ("device", c.c_int32), ("stream", c.c_void_p), ("cpu", c.c_char_p), ("weights", c.c_void_p),
                ("weights_bytes", c.c_size_t), ("weights_path", c.c_char_p), ("arena", c.c_void_p),
                ("arena_bytes", c.c_size_t), ("alloc", ALLOC), ("free", FREE), ("mem_ctx", c.c_void_p),
                ("mem_limit", c.c_size_t), ("sym_max", c.POINTER(c.c_int64)), ("seed", c.c_uint64),
                ("on_step", ON_STEP), ("prof_ctx", c.c_void_p), ("map_weights", c.c_int32),
                ("code_cache", c.c_char_p)]


class Api(c.Structure):
    _fields_ = [("abi", c.c_uint32), ("size", c.c_uint32), ("desc", c.POINTER(Desc)),
                ("create", c.CFUNCTYPE(c.c_int, c.POINTER(Config), c.POINTER(c.c_void_p), c.c_char_p, c.c_size_t)),
                ("destroy", c.CFUNCTYPE(None, c.c_void_p)),
                ("run", c.CFUNCTYPE(c.c_int, c.c_void_p, c.c_void_p, c.c_void_p)),
                ("fetch", c.CFUNCTYPE(c.c_int, c.c_void_p, c.c_int, c.c_void_p)),
                ("reset", c.CFUNCTYPE(c.c_int, c.c_void_p)),
                ("sizes", c.CFUNCTYPE(c.c_int, c.POINTER(c.c_int64), c.POINTER(c.c_uint64), c.POINTER(c.c_uint64),
                                      c.POINTER(c.POINTER(c.c_int64)))),
                ("cancel", c.CFUNCTYPE(None, c.c_void_p)),
                ("error", c.CFUNCTYPE(c.c_char_p, c.c_void_p)),
                ("step_name", c.CFUNCTYPE(c.c_int, c.c_int, c.POINTER(c.c_char_p), c.POINTER(c.c_char_p)))]


# --- element types by onnx.TensorProto.DataType ----------------------------------------------------------

STRING = 8
# Names in the types of ports: accelc's own (seq<f32[N,3]>), by number.
TYPES = {name: number for number, name in enumerate(
    "f32 u8 i8 u16 i16 i32 i64 str bool f16 f64 u32 u64 c64 c128 bf16 f8e4m3 f8e4m3z f8e5m2 f8e5m2z u4 i4 f4e2m1 f8e8m0 u2 i2"
    .split(), 1)}
NATIVE = {1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64", 8: "object",
          9: "bool", 10: "float16", 11: "float64", 12: "uint32", 13: "uint64", 14: "complex64", 15: "complex128"}
EXTRA = {16: "bfloat16", 17: "float8_e4m3fn", 18: "float8_e4m3fnuz", 19: "float8_e5m2", 20: "float8_e5m2fnuz",
         21: "uint4", 22: "int4", 23: "float4_e2m1fn", 24: "float8_e8m0fnu", 25: "uint2", 26: "int2"}
PACKED = {21: 4, 22: 4, 23: 4, 25: 2, 26: 2}    # bits of the types that the runtime packs and numpy does not
NUMBER = {np.dtype(name): number for number, name in NATIVE.items()}


@functools.cache
def dtype_of(number):
    """The numpy type of an ONNX one; those that numpy lacks come from ml_dtypes."""
    if number in NATIVE:
        return np.dtype(NATIVE[number])
    if number not in EXTRA:
        raise Error(f"element type {number} is unknown", EDTYPE)
    try:
        import ml_dtypes
        return np.dtype(getattr(ml_dtypes, EXTRA[number]))
    except ImportError:
        raise Error(f"type {EXTRA[number]} needs the package ml_dtypes", EDTYPE) from None
    except AttributeError:
        raise Error(f"this version of ml_dtypes has no type {EXTRA[number]}", EDTYPE) from None


PLAIN = {1: c.c_float, 2: c.c_uint8, 3: c.c_int8, 4: c.c_uint16, 5: c.c_int16, 6: c.c_int32, 7: c.c_int64, 9: c.c_bool, 11: c.c_double,
         12: c.c_uint32, 13: c.c_uint64}


@functools.lru_cache(256)
def vector_of(number, size):
    """The ctypes type of `size` bytes of elements that are plain numbers, or None."""
    element = PLAIN.get(number)
    return element and element * (size // c.sizeof(element))


def number_of(dtype):
    """The ONNX number of a numpy type; 0, which no model accepts, if it has none."""
    number = NUMBER.get(dtype)
    if number is None:
        if dtype.kind in "US":
            return STRING
        number = next((n for n, name in EXTRA.items() if name == dtype.name), 0)
        NUMBER[dtype] = number
    return number


def pack(x, bits):
    """Elements of 2 or 4 bits, a byte each, to the packed form of ONNX: the first in the lowest bits."""
    per, mask = 8 // bits, (1 << bits) - 1
    flat = np.ascontiguousarray(x).reshape(-1).view(np.uint8) & np.uint8(mask)
    flat = np.concatenate([flat, np.zeros(-len(flat) % per, np.uint8)]).reshape(-1, per)
    shift = np.arange(per, dtype=np.uint8) * np.uint8(bits)
    return np.bitwise_or.reduce(flat << shift, axis=1).astype(np.uint8)


def unpack(packed, shape, number):
    bits = PACKED[number]
    per, count = 8 // bits, int(np.prod(shape, dtype=np.int64))
    shift = np.arange(per, dtype=np.uint8) * np.uint8(bits)
    flat = ((packed[:, None] >> shift) & np.uint8((1 << bits) - 1)).reshape(-1)[:count]
    return np.ascontiguousarray(flat).view(dtype_of(number)).reshape(shape)
