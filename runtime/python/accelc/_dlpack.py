"""DLPack: tensors of other libraries as inputs and as places for results, results on a device as tensors for other libraries; nothing is
copied. An exchange is a capsule around a DLManagedTensor, whose deleter the last user calls."""
import ctypes as c

import numpy as np

from . import _abi as abi
from ._errors import Error

CPU, CUDA, CUDA_HOST, CUDA_MANAGED = 1, 2, 3, 13
DEFAULT_STREAM = 1          # CUDA's legacy default stream, in the numbers of __dlpack__


class DType(c.Structure):
    _fields_ = [("code", c.c_uint8), ("bits", c.c_uint8), ("lanes", c.c_uint16)]


class Tensor(c.Structure):
    _fields_ = [("data", c.c_void_p), ("device", c.c_int32), ("device_id", c.c_int32), ("ndim", c.c_int32), ("dtype", DType),
                ("shape", c.POINTER(c.c_int64)), ("strides", c.POINTER(c.c_int64)), ("offset", c.c_uint64)]


DELETER = c.CFUNCTYPE(None, c.c_void_p)


class Managed(c.Structure):
    _fields_ = [("tensor", Tensor), ("context", c.c_void_p), ("deleter", DELETER)]


# (code, bits) by the number of an ONNX type; types of 2 and 4 bits have no common layout.
TYPES = {1: (2, 32), 2: (1, 8), 3: (0, 8), 4: (1, 16), 5: (0, 16), 6: (0, 32), 7: (0, 64), 9: (6, 8), 10: (2, 16), 11: (2, 64),
         12: (1, 32), 13: (1, 64), 14: (5, 64), 15: (5, 128), 16: (4, 16), 17: (10, 8), 18: (11, 8), 19: (12, 8), 20: (13, 8), 24: (14, 8)}
NUMBERS = {code: number for number, code in TYPES.items()}

_pointer = c.pythonapi.PyCapsule_GetPointer
_pointer.restype, _pointer.argtypes = c.c_void_p, [c.py_object, c.c_char_p]
_new = c.pythonapi.PyCapsule_New
_new.restype, _new.argtypes = c.py_object, [c.c_void_p, c.c_char_p, c.c_void_p]
_NAME = b"dltensor"         # until somebody has taken the tensor


# --- tensors of others -----------------------------------------------------------------------------------

class Taken:
    """What a tensor of another library says: address, shape, strides (in elements, None: dense), number of its type, device as in
    accelc_value. The memory stays as long as `capsule`, which frees it, as nobody takes it over."""
    __slots__ = ("capsule", "data", "shape", "strides", "number", "device")

    def __init__(self, x, stream, where):
        kind, ordinal = x.__dlpack_device__()
        on_device = kind in (CUDA, CUDA_MANAGED)
        if not on_device and kind not in (CPU, CUDA_HOST):
            raise Error(f"{where}: a tensor on a device of kind {int(kind)} of DLPack; known are the host and CUDA", abi.EDEVICE)
        self.capsule = x.__dlpack__(stream=stream) if on_device else x.__dlpack__()
        t = Managed.from_address(_pointer(self.capsule, _NAME)).tensor
        self.number = NUMBERS.get((t.dtype.code, t.dtype.bits), 0) if t.dtype.lanes == 1 else 0
        if not self.number:
            raise Error(f"{where}: a tensor of type {t.dtype.code}, {t.dtype.bits} bits of DLPack, which no model has", abi.EDTYPE)
        self.device = ordinal + 1 if on_device else 0
        self.shape = tuple(t.shape[:t.ndim])
        self.strides = tuple(t.strides[:t.ndim]) if t.strides else None
        self.data = (t.data or 0) + t.offset

    def dense(self):
        want = 1
        for n, stride in zip(reversed(self.shape), reversed(self.strides or ())):
            if n != 1 and stride != want:
                return 0 in self.shape
            want *= n
        return True

    def bytes(self):
        return int(np.prod(self.shape, dtype=np.int64)) * abi.dtype_of(self.number).itemsize

    def array(self):
        """One on the host, as an array over its memory."""
        dtype = abi.dtype_of(self.number)
        strides = None if self.strides is None else [s * dtype.itemsize for s in self.strides]
        if 0 in self.shape:
            return np.empty(self.shape, dtype)
        last = sum((n - 1) * s for n, s in zip(self.shape, self.strides)) + 1 if self.strides else int(np.prod(self.shape, dtype=np.int64))
        memory = (c.c_char * (last * dtype.itemsize)).from_address(self.data)
        memory.owner = self.capsule
        return np.ndarray(self.shape, dtype, memory, 0, strides)


def is_tensor(x):
    return hasattr(x, "__dlpack__") and hasattr(x, "__dlpack_device__")


# --- results on a device ---------------------------------------------------------------------------------

_lent = {}                  # what exported tensors need, by the address of their Managed


def _drop(address):
    _lent.pop(address, None)


_deleter = DELETER(_drop)


# The same functions for a capsule that is about to go, which must not be referred to any more.
_going_valid = c.PYFUNCTYPE(c.c_int, c.c_void_p, c.c_char_p)(("PyCapsule_IsValid", c.pythonapi))
_going_pointer = c.PYFUNCTYPE(c.c_void_p, c.c_void_p, c.c_char_p)(("PyCapsule_GetPointer", c.pythonapi))


@c.CFUNCTYPE(None, c.c_void_p)
def _destructor(capsule):
    """Of a capsule; nobody has taken its tensor over if the name is still the same."""
    if _going_valid(capsule, _NAME):
        _drop(_going_pointer(capsule, _NAME))


def export(data, kind, ordinal, shape, number, owner):
    """A capsule with a dense tensor in memory that `owner` keeps."""
    dims, m = (c.c_int64 * max(1, len(shape)))(*shape), Managed()
    m.tensor = Tensor(data, kind, ordinal, len(shape), DType(*TYPES[number], 1), dims, None, 0)
    m.deleter = _deleter
    _lent[c.addressof(m)] = m, dims, owner
    return _new(c.addressof(m), _NAME, c.cast(_destructor, c.c_void_p))


class DeviceArray:
    """A result on a GPU, in memory of its session: it is valid until the session's next run, and what other libraries make of it
    (torch.from_dlpack) is not valid for longer."""

    def __init__(self, session, run, index, value, shape):
        self._session, self._run, self._index = session, run, index     # which run, which output
        self._data, self._number, self._device = value.data, value.dtype, value.device
        self.shape, self.dtype = shape, abi.dtype_of(value.dtype)

    def __dlpack_device__(self):
        return CUDA, self._device - 1

    def __dlpack__(self, stream=None, **_):
        self._session._valid(self._run)         # the run has been waited for, so any stream will do
        return export(self._data, CUDA, self._device - 1, self.shape, self._number, self)

    def numpy(self):
        """A copy on the host."""
        return self._session._fetch(self._run, self)

    def __repr__(self):
        return f"<accelc.DeviceArray {self.dtype}{list(self.shape)} on GPU {self._device - 1}>"
