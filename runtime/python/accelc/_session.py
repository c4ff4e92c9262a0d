"""Models and sessions over the C interface.

A run costs little more than its C call: the arguments of run() are structs that stay as they are while the same arrays
come in, and outputs are written straight into arrays that the caller gets. Such an array is used again only when
nobody else refers to it any more, so results are never overwritten.
"""
import ctypes as c
import functools
import math
import os
import re
import sys
import tempfile
import threading
from typing import NamedTuple

import numpy as np

from . import _abi as abi
from . import _dlpack
from ._errors import Error

_ndarray, _refs = np.ndarray, getattr(sys, "getrefcount", None)
_SETS = 2                   # sets of output arrays to keep for each combination of shapes
_KEEP_BYTES = 1 << 20       # larger ones only for the latest combination
_MANY = 16                  # maps, which take less time together than one by one
_FEW_KEYS = 64              # of maps for which a function is made
_FEW_BYTES = 2048           # copied twice in less time than the address of an array takes, and vectors gain little from alignment


class Port(NamedTuple):
    """An input or output. Sizes are numbers, or symbols and expressions of symbols as str. Sequences and maps have no
    dtype and no shape; type says what they hold: "seq<f32[N]>"."""
    name: str
    dtype: np.dtype
    shape: tuple
    optional: bool
    type: str


def _unused(arrays):
    """Whether nobody but the tuple refers to the arrays (or None). _BASE is what getrefcount says then."""
    for a in arrays:
        if _refs(a) != _BASE and a is not None:
            return False
    return True


def _base():
    """getrefcount of an array in a tuple, counted in the same way as in _unused."""
    for a in (np.empty(1),):
        return _refs(a)


_BASE = _base() if _refs else -1


class _Memory(np.ndarray):
    """What an output lies in. Of another type than the output, so that numpy makes views of an output refer to the output, which _unused counts."""


def _empty(shape, dtype):
    """An array that begins at a cache line: vectors stored into others straddle two."""
    memory = _Memory(math.prod(shape) * dtype.itemsize + 64, np.uint8)
    return np.ndarray(shape, dtype, memory, -memory.__array_interface__["data"][0] % 64)


def _shape(rank, dims):
    """The sizes of a tensor."""
    return tuple((c.c_int64 * rank).from_address(dims)[:]) if rank else ()


class _Set:
    """Output arrays and the structs that make run() write to them."""
    __slots__ = ("arrays", "values", "address", "blank")

    def __init__(self, spec):
        self.arrays = tuple(None if s is None else _empty(*s) for s in spec.shapes)
        self.values = (abi.Value * max(1, len(spec.shapes)))()
        for v, a in zip(self.values, self.arrays):
            if a is not None:
                v.data, v.bytes = a.__array_interface__["data"][0], a.nbytes
        self.address = c.addressof(self.values)
        self.blank = None if spec.whole else bytes(self.values)

    def renew(self):
        """After a run that put results of its own where there are no arrays."""
        if self.blank:
            c.memmove(self.address, self.blank, len(self.blank))
        return self


class _Spec:
    """What is known of the outputs for one combination of input shapes."""
    __slots__ = ("shapes", "whole", "known", "bytes", "sets")

    def __init__(self, shapes):
        self.shapes = shapes            # (shape, dtype) or None where only the run can tell
        self.whole = None not in shapes
        self.known = False              # a run has told what shapes there are
        self.bytes = sum(math.prod(s[0]) * s[1].itemsize for s in shapes if s)
        self.sets = []

    def take(self):
        """A set of arrays that nobody holds."""
        for s in self.sets:
            if _refs and _unused(s.arrays):
                return s.renew()
        new = _Set(self)
        if self.bytes or not self.whole:
            if len(self.sets) == _SETS:
                del self.sets[0]
            self.sets.append(new)
        return new


class Session:
    """Runs a model. One run at a time; other sessions are independent. Made by Model.session().

    for_each(n, task): an executor of the caller's, in place of threads of the session: calls task(i) for every i < n, n <= threads, in any
    order and in any threads, and returns when all are done. It must not raise.

    memory: (alloc, free), which hand out and take back all memory of the session: alloc(bytes, align) -> address, or None; free(address).

    device: "cpu", or the number of a GPU, which the model must have code for; None: a GPU if there is one that the model has code for, else
    the CPU.

    stream: a CUstream as a number (torch.cuda.Stream.cuda_stream), in which what the inputs need is in order; by default one of the session's own,
    which follows what is in the default stream.

    map_weights: weights stay pages of the model's file, which processes share. Otherwise the first session copies large ones into huge pages.

    code_cache: a folder that keeps what a GPU's driver makes of PTX, for later processes; None: what ACCELC_CUDA_CACHE names, if it is set."""

    def __init__(self, model, threads=0, *, spin_us=0, cpu=None, weights=None, mem_limit=0, seed=0, sym_max=None,
                 on_step=None, for_each=None, memory=None, device=None,
                 stream=None, map_weights=False, code_cache=None):
        self._handle = None
        self.model = model
        api, desc = model._api, model._desc
        config = abi.Config(size=c.sizeof(abi.Config), threads=threads, spin_us=spin_us, mem_limit=mem_limit, seed=seed,
                            device=0 if device is None else -1 if device == "cpu" else device + 1,
                            stream=stream or None, cpu=cpu.encode() if cpu else None, weights_path=os.fsencode(weights) if weights else None,
                            map_weights=int(map_weights), code_cache=os.fsencode(code_cache) if code_cache is not None else None)
        if sym_max:
            unknown = set(sym_max) - set(model.symbols)
            if unknown:
                raise Error(f"the model has no symbol {', '.join(sorted(unknown))}", abi.EINVAL)
            config.sym_max = (c.c_int64 * max(1, desc.nsym))(*[sym_max.get(s, 0) for s in model.symbols])
        if on_step:
            self._on_step = abi.ON_STEP(lambda ctx, *a: on_step(*a))
            config.on_step = self._on_step
        if for_each:
            call = abi.FOR_EACH(lambda ctx, n, task, arg: for_each(n, lambda i: task(arg, i, n)))
            self._exec = abi.Exec(width=max(1, threads), for_each=call)
            config.exec = c.addressof(self._exec)
        if memory:
            alloc, free = memory
            self._memory = config.alloc, config.free = abi.ALLOC(lambda ctx, *a: alloc(*a)), abi.FREE(lambda ctx, p: free(p))
        handle, message = c.c_void_p(), c.create_string_buffer(512)
        status = api.create(c.byref(config), c.byref(handle), message, len(message))
        if status:
            raise Error(f"{model.path}: {message.value.decode(errors='replace')}", status)
        self._handle = handle.value
        self._run = api.run
        self._lock = threading.Lock()
        n = len(model.inputs)
        self._in_names = tuple(p.name for p in model.inputs)
        self._out_names = tuple(p.name for p in model.outputs)
        self._values = (abi.Value * max(1, n))()
        self._in_address = c.addressof(self._values)
        self._dims = [(c.c_int64 * max(1, model._desc.in_[i].rank))() for i in range(n)]
        self._last = [None] * n         # the array whose pointer is in _values, if it is the caller's own
        self._keep = [None] * n         # what else must stay alive for _values
        self._shapes = [None] * n
        self._specs, self._spec = {}, None
        self._stream = stream or _dlpack.DEFAULT_STREAM
        self._where = 0 if device == "cpu" else 1 + (device or 0)       # as in accelc_value, if the session has a device
        self._runs = 0

    # --- inputs ---

    def _set_absent(self, i):
        self._values[i] = abi.Value(kind=abi.ABSENT)
        self._last[i] = None
        if self._shapes[i] is not None:
            self._shapes[i], self._spec = None, None

    def _set(self, i, x):
        """Input i is x from now on."""
        want = self.model._in_number[i]
        mine = x
        tree = self.model._in_tree[i]
        if tree is not None:
            keep = []
            _fill(self._values[i], tree, x, f"input {self._in_names[i]!r}", keep)
            self._keep[i], self._last[i] = keep, None
            return
        if not isinstance(x, _ndarray):
            if _dlpack.is_tensor(x) and not isinstance(x, np.generic):
                x = _dlpack.Taken(x, self._stream, f"input {self._in_names[i]!r}")
                if x.device:
                    self._set_on_device(i, x)
                    return
                x = x.array()
            x = np.asarray(x) if isinstance(x, np.generic) else np.asarray(x, self.model.inputs[i].dtype)
        shape = x.shape
        x, number, self._keep[i] = _dense(x, want)
        self._set_value(i, number, shape, x.__array_interface__["data"][0], x.nbytes, 0)
        self._last[i] = mine if x is mine else None

    def _set_value(self, i, number, shape, data, nbytes, device):
        v, dims = self._values[i], self._dims[i]
        if len(dims) < len(shape):
            dims = self._dims[i] = (c.c_int64 * len(shape))()
        dims[:len(shape)] = shape
        v.kind, v.dtype, v.rank, v.dims = abi.TENSOR, number, len(shape), c.addressof(dims)
        v.data, v.bytes, v.device = data, nbytes, device
        if self._shapes[i] != shape:
            self._shapes[i], self._spec = shape, None

    def _set_on_device(self, i, x):
        if not x.dense():
            raise Error(f"input {self._in_names[i]!r}: a tensor on a GPU must be contiguous", abi.EINVAL)
        self._set_value(i, x.number, x.shape, x.data or None, x.bytes(), x.device)
        self._keep[i], self._last[i] = x.capsule, None  # looked at anew each time: the stream must be in order

    def _bind(self, feeds):
        """Feeds that are not simply one array per input: says what is wrong, or leaves optional ones out."""
        unknown = [k for k in feeds if k not in self._in_names]
        if unknown:
            raise Error(f"the model has no input {unknown[0]!r}; it has {', '.join(self._in_names) or 'none'}", abi.EINVAL)
        for i, name in enumerate(self._in_names):
            x = feeds.get(name)
            if x is not None:
                self._set(i, x)
            elif self.model.inputs[i].optional or self.model._desc.in_[i].state >= 0:
                self._set_absent(i)
            else:
                raise Error(f"input {name!r} is missing", abi.EINVAL)

    # --- running ---

    def run(self, feeds, out=None, on_device=False):
        """A dict of outputs for a dict of inputs. Inputs are not copied if they are C-contiguous arrays of the right type, or tensors of
        other libraries (DLPack) on the host or on the session's GPU; everything else that numpy can make an array of is converted.

        out: arrays or tensors, on either side, that results are written to, by name. on_device: the others stay on the GPU, as
        DeviceArrays (if the session has one)."""
        if not self._lock.acquire(False):
            raise Error("the session is running in another thread", abi.EBUSY)
        try:
            if self._handle is None:
                raise Error("the session is closed", abi.EINVAL)
            names, last, shapes = self._in_names, self._last, self._shapes
            if len(feeds) != len(names):
                self._bind(feeds)
            else:
                i = 0
                for name in names:
                    x = feeds.get(name)
                    if x is not last[i] or x is None or x.shape != shapes[i]:
                        if x is None:
                            self._bind(feeds)
                            break
                        self._set(i, x)
                    i += 1
            spec = self._spec
            if spec is None:
                spec = self._find_spec()
            if out or on_device:
                return self._run_into(out or {}, on_device)
            self._runs += 1
            out = spec.take()
            status = self._run(self._handle, self._in_address, out.address)
            if status:
                return self._failed(status, out)
            if spec.whole:
                return dict(zip(self._out_names, out.arrays))
            return self._collect(spec, out)
        finally:
            self._lock.release()

    def _run_into(self, out, on_device):
        values, keep = (abi.Value * max(1, len(self._out_names)))(), []
        unknown = [k for k in out if k not in self._out_names]
        if unknown:
            raise Error(f"the model has no output {unknown[0]!r}; it has {', '.join(self._out_names) or 'none'}", abi.EINVAL)
        for i, name in enumerate(self._out_names):
            if name in out:
                self._set_out(i, values[i], out[name], keep)
            elif on_device and self.model._desc.out[i].kind == abi.TENSOR and self.model._desc.out[i].dtype in _dlpack.TYPES:
                values[i].device = self._where
        self._runs += 1
        status = self._run(self._handle, self._in_address, c.addressof(values))
        if status:
            raise Error(self.model._api.error(self._handle).decode(errors="replace") or f"status {status}", status)
        result = {}
        for i, (v, name) in enumerate(zip(values, self._out_names)):
            shape = _shape(v.rank, v.dims) if v.kind == abi.TENSOR else ()
            if name in out and tuple(out[name].shape) != shape:
                raise Error(f"output {name!r} has shape {shape}, the array for it {tuple(out[name].shape)}", abi.ESHAPE)
            result[name] = out[name] if name in out else _dlpack.DeviceArray(self, self._runs, i, v, shape) if v.device else _copy(v)
        return result

    def _set_out(self, i, v, x, keep):
        """Output i goes to x."""
        what, number = f"the array for output {self._out_names[i]!r}", self.model._desc.out[i].dtype
        if isinstance(x, _ndarray):
            good, data, nbytes, has = x.flags.c_contiguous and x.flags.writeable, x.__array_interface__["data"][0], x.nbytes, abi.number_of(x.dtype)
        elif _dlpack.is_tensor(x):
            t = _dlpack.Taken(x, self._stream, what)
            good, data, nbytes, has, v.device = t.dense(), t.data, t.bytes(), t.number, t.device
            keep.append(t)
        else:
            raise Error(f"{what}: expected an array or tensor, got {type(x).__name__}", abi.EINVAL)
        if has != number or number not in _dlpack.TYPES:
            raise Error(f"{what} has another type than the output", abi.EDTYPE)
        if not good:
            raise Error(f"{what} must be contiguous and writable", abi.EINVAL)
        v.data, v.bytes = data or None, nbytes

    def _valid(self, run):
        if self._handle is None or run != self._runs:
            raise Error("the result was valid until the session's next run", abi.EINVAL)

    def _fetch(self, run, result):
        """A copy of a result that is still on the device."""
        with self._lock:
            self._valid(run)
            a, i = _empty(result.shape, result.dtype), result._index
            v = abi.Value(data=a.__array_interface__["data"][0], bytes=a.nbytes)
            self._check(self.model._api.fetch(self._handle, i, c.byref(v)))
            return a

    def _find_spec(self):
        if self._specs:                 # the shapes changed: large arrays of others are not worth their memory
            for s in self._specs.values():
                if s.bytes > _KEEP_BYTES:
                    s.sets.clear()
        key = tuple(self._shapes)
        spec = self._specs.get(key)
        if spec is None:
            if len(self._specs) >= 64:
                self._specs.clear()
            spec = self._specs[key] = _Spec((None,) * len(self._out_names))
        self._spec = spec
        return spec

    def _collect(self, spec, out):
        """Outputs of which some were the session's: copies of those. What depends on shapes alone is known now."""
        result = {}
        for i, name in enumerate(self._out_names):
            a = out.arrays[i]
            result[name] = _copy(out.values[i]) if a is None else a
        if not spec.known:
            learned = tuple((a.shape, a.dtype) if fixed else None
                            for a, fixed in zip(result.values(), self.model._out_fixed))
            if any(learned):
                spec = self._spec = self._specs[tuple(self._shapes)] = _Spec(learned)
            spec.known = True
        return result

    def _failed(self, status, out):
        """Raises the session's error, except for a buffer that was too small: fetches what run() computed."""
        api = self.model._api
        if status != abi.ESPACE:
            raise Error(api.error(self._handle).decode(errors="replace") or f"status {status}", status)
        self._specs.clear()
        self._spec = None
        result = {}
        for i, name in enumerate(self._out_names):
            v = out.values[i]
            shape = _shape(v.rank, v.dims)
            a = out.arrays[i]
            if a is None or a.shape != shape:
                v.data = None
            if api.fetch(self._handle, i, c.byref(v)):
                raise Error(api.error(self._handle).decode(errors="replace"), status)
            result[name] = a if a is not None and a.shape == shape else _copy(v)
        return result

    def reset(self):
        """States back to their initial values, the counter of random operators to 0."""
        self._check(self.model._api.reset(self._live()))

    def cancel(self):
        """Stops a run in another thread at its next phase; that run raises Error with status ECANCEL."""
        self.model._api.cancel(self._live())

    def close(self):
        with self._lock:
            handle, self._handle = self._handle, None
            if handle:
                self.model._api.destroy(handle)

    def _live(self):
        if self._handle is None:
            raise Error("the session is closed", abi.EINVAL)
        return self._handle

    def _check(self, status):
        if status:
            raise Error(self.model._api.error(self._handle).decode(errors="replace") or
                        "the session is running in another thread", status)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def __del__(self):
        if getattr(self, "_handle", None):
            self.model._api.destroy(self._handle)
            self._handle = None


# --- values ----------------------------------------------------------------------------------------------

def _copy(v):
    """A session-owned value: an array, a list, a dict, or None for nothing."""
    return _object(*abi.VALUE.unpack_from(v))


def _object(kind, _owned, dtype, rank, _device, _pad, dims, data, size, elem, nelem):
    """The same of the fields of a Value."""
    if kind == abi.TENSOR:
        return _array(dtype, _shape(rank, dims), data, size)
    if kind == abi.ABSENT:
        return None
    memory = c.string_at(elem, nelem * abi.VALUE.size) if nelem else b""
    parts = abi.VALUE.iter_unpack(memory)
    if kind == abi.SEQUENCE:
        maps = _maps(memory) if nelem >= _MANY and memory[0] == abi.MAP else None
        return [_object(*part) for part in parts] if maps is None else maps
    keys, values = parts
    return dict(zip(_list(keys), _list(values)))


def _maps(memory):
    """The maps that many Values describe, for less than a look at each, if they are alike: what a classifier yields for the rows of
    a matrix. None if they are not."""
    n = len(memory) // abi.VALUE.size
    if _steps(memory, n, abi.ELEM) != [2 * abi.VALUE.size]:
        return None
    parts = c.string_at(abi.VALUE.unpack_from(memory)[9], 2 * len(memory))
    steps = _steps(parts, n, abi.DATA)
    keys, (kind, _, dtype, rank, _, _, _, data, size, _, _) = abi.VALUE.unpack_from(parts), abi.VALUE.unpack_from(parts, abi.VALUE.size)
    vector = abi.vector_of(dtype, size * n) if kind == abi.TENSOR and rank == 1 and size else None
    if not vector or steps != [0, size]:
        return None
    keys, numbers = _list(keys), vector.from_address(data)[:]
    rows = zip(*[iter(numbers)] * (len(numbers) // n))
    return _dicts(tuple(keys))(rows) if len(keys) <= _FEW_KEYS else [dict(zip(keys, row)) for row in rows]


@functools.lru_cache(64)
def _dicts(keys):
    """A function that makes a dict with these keys, integers or strings, of each row of values, for a third of what dict(zip()) takes."""
    names = [f"v{i}" for i in range(len(keys))]
    items = ", ".join(f"{key!r}: {name}" for key, name in zip(keys, names))
    return eval(f"lambda rows: [{{{items}}} for {', '.join(names)}, in rows]")


def _steps(memory, n, pointer):
    """From one of n rows of Values to the next, how far a pointer of each moves, if it is as far in all rows and these are of one type and size."""
    values = np.frombuffer(bytearray(memory), np.int64).reshape(n, -1, abi.WORDS)
    values[:, :, abi.DIMS] = 0      # which the bytes imply, of tensors of rank 1
    step = values[1:] - values[:-1]
    moves, row = step.tobytes(), len(memory) // n
    if moves[row:] != moves[:-row]:
        return None
    found = step[0, :, pointer].tolist()
    step[0, :, pointer] = 0
    return None if step[0].any() else found


def _list(fields):
    """The keys or the values of a map: a list, for plain numbers without an array in between."""
    kind, _, dtype, rank, _, _, _, data, size, _, _ = fields
    vector = abi.vector_of(dtype, size) if kind == abi.TENSOR and rank == 1 else None
    if vector:
        return vector.from_address(data)[:]
    x = _object(*fields)
    return x.tolist() if isinstance(x, _ndarray) else x


def _array(number, shape, data, size):
    """A copy of a tensor of `size` bytes."""
    if number == abi.STRING:
        return _from_strings(data, size, shape)
    if number in abi.PACKED:
        packed = np.empty(size, np.uint8)
        c.memmove(packed.ctypes.data, data, size) if size else None
        return abi.unpack(packed, shape, number)
    dtype = abi.dtype_of(number)
    if 0 < math.prod(shape) * dtype.itemsize <= _FEW_BYTES:
        return _ndarray(shape, dtype, bytearray(c.string_at(data, size)))
    a = _empty(shape, dtype)
    if size:
        c.memmove(a.__array_interface__["data"][0], data, min(size, a.nbytes))
    return a


def _dense(x, want):
    """An array whose memory the runtime can read as it is, the number of its element type, what must stay alive."""
    number = abi.number_of(x.dtype)
    if number == abi.STRING and want == abi.STRING:
        x, keep = _strings(x)
        return x, number, keep
    if number in abi.PACKED:
        x = abi.pack(x, abi.PACKED[number])
        return x, number, x
    if not x.dtype.isnative:
        x = x.astype(x.dtype.newbyteorder("="))
        number = abi.number_of(x.dtype)
    if not x.flags.c_contiguous or not x.flags.aligned:
        x = np.require(x, requirements=("C", "A"))
    return x, number, x


def _type_tree(text):
    """The type of a port as nested tuples: ("seq", tree), ("opt", tree), ("map", number of the keys' type, tree),
    ("tensor", number)."""
    m = re.match(r"(seq|opt|map)<(?:(\w+),)?(.*)>$", text)
    if not m:
        return "tensor", abi.TYPES[re.match(r"\w+", text).group()]
    kind, key, inner = m.groups()
    return (kind, abi.TYPES[key], _type_tree(inner)) if kind == "map" else (kind, _type_tree(inner))


def _fill(v, tree, x, where, keep):
    """Makes v the value x: an array for a tensor, a list or tuple for a sequence, a dict for a map, None for an empty
    optional. What must stay alive goes to keep."""
    kind = tree[0]
    if kind == "opt":
        if x is None:
            v.kind = abi.ABSENT
            return
        return _fill(v, tree[1], x, where, keep)
    if kind == "tensor":
        number = tree[1]
        if x is None or isinstance(x, dict):
            raise Error(f"{where}: expected a tensor, got {type(x).__name__}", abi.EINVAL)
        if not isinstance(x, (_ndarray, np.generic)):
            x = np.asarray(x, abi.dtype_of(number))
        x = np.asarray(x)
        dims = (c.c_int64 * max(1, x.ndim))(*x.shape)
        v.kind, v.rank, v.dims = abi.TENSOR, x.ndim, c.addressof(dims)
        x, v.dtype, alive = _dense(x, number)
        v.data, v.bytes = x.__array_interface__["data"][0], x.nbytes
        keep += (dims, alive)
        return
    if kind == "seq":
        if not isinstance(x, (list, tuple)):
            raise Error(f"{where}: expected a list, got {type(x).__name__}", abi.EINVAL)
        v.kind, parts = abi.SEQUENCE, [(tree[1], e, f"{where}[{k}]") for k, e in enumerate(x)]
    else:
        if not isinstance(x, dict):
            raise Error(f"{where}: expected a dict, got {type(x).__name__}", abi.EINVAL)
        values = list(x.values())
        numbers = tree[2][0] == "tensor" and all(np.ndim(e) == 0 for e in values)
        v.kind = abi.MAP
        parts = [(("tensor", tree[1]), list(x.keys()), f"{where} keys"),
                 (tree[2] if numbers else ("seq", tree[2]), values, f"{where} values")]
    elem = (abi.Value * max(1, len(parts)))()
    for e, part in zip(elem, parts):
        _fill(e, *part, keep)
    v.elem, v.nelem = c.addressof(elem), len(parts)
    keep.append(elem)


# --- strings ---------------------------------------------------------------------------------------------

def _strings(x):
    """An array of accelc_str as int64 pairs, and what must stay alive with it."""
    texts = [s if isinstance(s, bytes) else str(s).encode() for s in x.reshape(-1).tolist()]
    ends = np.cumsum([0] + [len(t) for t in texts])
    blob = np.frombuffer(b"".join(texts) + b"\0", np.uint8)
    table = np.empty((len(texts), 2), np.int64)
    table[:, 0] = blob.__array_interface__["data"][0] + ends[:-1]
    table[:, 1] = np.diff(ends)
    return table, (table, blob)


# str of UTF-8 in place, without bytes in between
_decode = c.PYFUNCTYPE(c.py_object, c.c_void_p, c.c_ssize_t, c.c_char_p)(("PyUnicode_DecodeUTF8", c.pythonapi))


def _from_strings(data, size, shape):
    """An object array. Elements that lie in one place, as the labels of a classifier do, are one str."""
    flat = np.empty(size // c.sizeof(abi.Str), object)
    if size:
        words = (c.c_size_t * (2 * len(flat))).from_address(data)[:]
        places = list(zip(words[::2], words[1::2]))
        texts = {p: _decode(*p, b"replace") if p[1] else "" for p in set(places)}
        flat[:] = [texts[p] for p in places]
    return flat.reshape(shape)


# --- models ----------------------------------------------------------------------------------------------

_loaded = {}                # real path -> identity of the file that the process has loaded under that name


def _open(path):
    """dlopen, which answers a name that it has seen with the old library even if the file is another one by now; so a
    file that changed is opened under a new name."""
    real = os.path.realpath(path)
    try:
        st = os.stat(real)
    except OSError as e:
        raise Error(f"{path}: {e.strerror}", abi.EINVAL) from None
    identity = (st.st_dev, st.st_ino, st.st_mtime_ns, st.st_size)
    try:
        if _loaded.setdefault(real, identity) == identity:
            return c.CDLL(real)
        with tempfile.TemporaryDirectory(prefix="accelc-") as folder:
            other = os.path.join(folder, "model.so")
            os.symlink(real, other)
            return c.CDLL(other)
    except OSError as e:
        raise Error(f"{path} cannot be loaded: {e}", abi.EINVAL) from None


def _ports(ports, n):
    def one(p):
        text = (p.type or b"").decode()
        exprs = [p.dims[k].expr.decode() for k in range(p.rank)] if p.kind == abi.TENSOR else []
        shape = tuple(int(e) if re.fullmatch(r"-?\d+", e) else e for e in exprs)
        return Port(p.name.decode(), abi.dtype_of(p.dtype) if p.kind == abi.TENSOR else None, shape, bool(p.optional), text)
    return tuple(one(ports[i]) for i in range(n))


class Model:
    """A compiled model: its description, and a maker of sessions."""

    def __init__(self, path):
        self.path = os.fspath(path)
        self._library = _open(self.path)
        try:
            entry = self._library.accelc_main
        except AttributeError:
            raise Error(f"{self.path} is not a compiled model: it has no accelc_main", abi.EABI) from None
        entry.restype, entry.argtypes = c.POINTER(abi.Api), []
        api = entry()
        if not api or api.contents.abi != abi.ABI or api.contents.size < c.sizeof(abi.Api):
            raise Error(f"{self.path} was made for another version of the runtime interface", abi.EABI)
        self._api = api.contents
        self._desc = desc = self._api.desc.contents
        self.name = (desc.name or b"").decode(errors="replace")
        self.producer = (desc.producer or b"").decode(errors="replace")
        self.target = (desc.target or b"").decode(errors="replace")
        self.symbols = tuple(desc.sym[i].decode() for i in range(desc.nsym))
        self.inputs = _ports(desc.in_, desc.nin)
        self.outputs = _ports(desc.out, desc.nout)
        self._in_number = tuple(desc.in_[i].dtype for i in range(desc.nin))
        self._in_tree = tuple(_type_tree(p.type) if "<" in p.type else None for p in self.inputs)
        self._tree_out = tuple("<" in p.type for p in self.outputs)
        given = sorted({e for p, tree in zip(self.inputs, self._in_tree) if tree is None for e in p.shape
                        if isinstance(e, str)}, key=len, reverse=True)
        known = re.compile("|".join([r"\w+(?=\()", r"(?<!\w)\d+(?!\w)"] +
                                    [rf"(?<!\w){re.escape(e)}(?!\w)" for e in given]))

        def fixed(i):
            p, raw = self.outputs[i], desc.out[i]
            return raw.kind == abi.TENSOR and not self._tree_out[i] and raw.dtype != abi.STRING and raw.dtype not in abi.PACKED and \
                not any(isinstance(e, str) and (not e or re.search(r"[^\s()+*/,%-]", known.sub("", e)))
                        for e in p.shape)       # a name that no input defines: only a run can tell
        self._out_fixed = tuple(fixed(i) for i in range(desc.nout))

    def session(self, threads=0, **config):
        """A Session. threads 0: as many as there are usable CPUs; other keywords: those of Session."""
        return Session(self, threads, **config)

    def step_name(self, step):
        """(kernel, ONNX nodes) of a step as on_step numbers it."""
        kernel, nodes = c.c_char_p(), c.c_char_p()
        if self._api.step_name(step, c.byref(kernel), c.byref(nodes)):
            raise IndexError(step)
        return kernel.value.decode(), nodes.value.decode()

    def __repr__(self):
        def text(ports):
            return ", ".join(f"{p.name}: {p.dtype}{list(p.shape)}" if p.dtype is not None else f"{p.name}: {p.type}"
                             for p in ports)
        return f"<accelc.Model {self.path}: ({text(self.inputs)}) -> ({text(self.outputs)})>"


def load(path):
    """The compiled model in a shared object."""
    return Model(path)
