"""Values out of pickle files, without running anything that is in them.

The opcodes are read one by one and only plain values are built: lists, tuples, dictionaries, text, numbers, and
numpy arrays and torch tensors of numbers, from their bytes. Anything else a pickle names is refused, never imported.
"""

from __future__ import annotations

import io
import math
import pickletools
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from sc_imagenet.core.errors import InputError

LARGEST_FILE = 1 << 30  # bytes of a file, unpacked
_FIX = "Write its points to .npz, .csv or .jsonl; 'scbench score --help' tells the form."

_STORAGES = {
    "FloatStorage": "<f4", "DoubleStorage": "<f8", "HalfStorage": "<f2", "LongStorage": "<i8", "IntStorage": "<i4",
    "ShortStorage": "<i2", "CharStorage": "i1", "ByteStorage": "u1", "BoolStorage": "?",
}  # fmt: skip


@dataclass(frozen=True)
class _Name:
    """A global that the pickle names; nothing was imported."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass
class _Array:
    """An array whose state is still to come."""

    value: np.ndarray = field(default_factory=lambda: np.empty(0))


@dataclass
class _Kind:
    """A dtype whose byte order is still to come."""

    code: str
    order: str = "<"

    def dtype(self) -> np.dtype:
        dtype = np.dtype(f"{self.order}{self.code}")
        if dtype.kind not in "biufSU":
            raise ValueError(f"an array of {self.code}")
        return dtype


class _Mark:
    pass


def read_pickle(path: Path) -> Any:
    """The plain values of a pickle file, or of a ``.pt`` file of tensors.

    Raises:
        InputError: it cannot be read, or holds anything but plain values and arrays of numbers (what it names is
            told; nothing was executed).
    """
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise InputError("is too large to be predictions", where=path)
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror})", where=path) from error
    try:
        return plain_values(content)
    except InputError as error:
        raise InputError(str(error), where=path, fix=_FIX) from error
    except Exception as error:  # damaged bytes may fail in any way
        raise InputError(f"is not a whole pickle ({error or type(error).__name__})", where=path, fix=_FIX) from error


def plain_values(content: bytes) -> Any:
    """The plain values of a pickle's bytes, in whichever wrapping torch and pickle write them."""
    if zipfile.is_zipfile(io.BytesIO(content)):
        return _zipped(content)
    stream = io.BytesIO(content)
    value = _Reader(stream).read()
    if value == 0x1950A86A20F9469CFC6C:  # the first of several in torch's older files
        return _older(stream)
    return value


def _zipped(content: bytes) -> Any:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        if sum(entry.file_size for entry in archive.infolist()) > LARGEST_FILE:
            raise InputError("is too large to be predictions")
        names = archive.namelist()
        data = next((name for name in names if name.endswith("data.pkl")), None)
        if data is None:
            raise InputError("is a zip without a pickle of tensors")
        folder = data.removesuffix("data.pkl")
        return _Reader(io.BytesIO(archive.read(data)), lambda key: archive.read(f"{folder}data/{key}")).read()


def _older(stream: io.BytesIO) -> Any:
    """Protocol number, system, the values, the storages' keys, and the storages one after another."""
    for _ in range(2):
        _Reader(stream).read()
    start = stream.tell()
    first = _Reader(
        stream, sizes_only=True
    )  # storages come after the values that need them: these are read a second time
    first.read()
    keys = _Reader(stream).read()
    storages: dict[str, bytes] = {}
    for key in keys:
        stream.read(8)
        storages[key] = stream.read(first.sizes[key])
    stream.seek(start)
    return _Reader(stream, storages.__getitem__).read()


class _Reader:
    """A machine for the opcodes that build plain values; ``sizes_only`` leaves tensors as their storages are."""

    def __init__(
        self, stream: io.BytesIO, storage: Callable[[str], bytes] | None = None, sizes_only: bool = False
    ) -> None:
        self.stream = stream
        self.sizes_only = sizes_only
        self.storage = storage
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.sizes: dict[str, int] = {}

    def read(self) -> Any:
        for opcode, argument, _ in pickletools.genops(self.stream):
            name = opcode.name
            if name == "STOP":
                return _finished(self.stack.pop())
            self._step(name, argument)
        raise ValueError("it ends too early")

    def _step(self, name: str, argument: Any) -> None:
        stack, memo = self.stack, self.memo
        if name in _PUSHED:
            stack.append(argument)
        elif name in ("PROTO", "FRAME"):
            pass
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name]())
        elif name == "MARK":
            stack.append(_Mark)
        elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
            memo[int(argument)] = stack[-1]
        elif name == "MEMOIZE":
            memo[len(memo)] = stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(memo[int(argument)])
        elif name == "POP":
            stack.pop()
        elif name == "APPEND":
            value = stack.pop()
            stack[-1].append(value)
        elif name in ("APPENDS", "ADDITEMS"):
            values = self._marked()
            stack[-1].extend(values)
        elif name == "SETITEM":
            value, key = stack.pop(), stack.pop()
            stack[-1][key] = value
        elif name == "SETITEMS":
            values = self._marked()
            stack[-1].update(zip(values[::2], values[1::2]))
        elif name in ("LIST", "TUPLE", "DICT"):
            values = self._marked()
            stack.append(
                dict(zip(values[::2], values[1::2])) if name == "DICT" else values if name == "LIST" else tuple(values)
            )
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            count = int(name[-1])
            stack[-count:] = [tuple(stack[-count:])]
        elif name == "GLOBAL":
            stack.append(_Name(*argument.split(" ", 1)))
        elif name == "STACK_GLOBAL":
            own, module = stack.pop(), stack.pop()
            stack.append(_Name(module, own))
        elif name == "BINPERSID":
            stack.append(self._storage(stack.pop()))
        elif name in ("REDUCE", "NEWOBJ"):
            arguments, made = stack.pop(), stack.pop()
            stack.append(self._made(made, arguments))
        elif name == "BUILD":
            state = stack.pop()
            self._built(stack[-1], state)
        else:
            raise ValueError(f"opcode {name}")

    def _marked(self) -> list[Any]:
        place = next(row for row in range(len(self.stack) - 1, -1, -1) if self.stack[row] is _Mark)
        values = self.stack[place + 1 :]
        del self.stack[place:]
        return values

    def _storage(self, told: Any) -> np.ndarray:
        kind, storage, key, _, count = told[:5]
        code = _STORAGES.get(storage.name if isinstance(storage, _Name) else "")
        if kind != "storage" or code is None:
            raise ValueError(f"a storage of {storage}")
        self.sizes[str(key)] = int(count) * np.dtype(code).itemsize
        return np.frombuffer(b"" if self.storage is None else self.storage(str(key)), code)

    def _made(self, made: Any, arguments: Any) -> Any:
        if not isinstance(made, _Name):
            raise ValueError(f"a call of {type(made).__name__}")
        top, name = made.module.split(".")[0], made.name
        if top == "numpy" and name == "_reconstruct":
            return _Array()
        if top == "numpy" and name == "dtype":
            return _Kind(str(arguments[0]))
        if top == "numpy" and name == "scalar":
            return np.frombuffer(_bytes(arguments[1]), arguments[0].dtype())[0].item()
        if top == "numpy" and name == "_frombuffer":
            buffer, kind, shape, order = arguments
            return np.frombuffer(_bytes(buffer), kind.dtype()).reshape(shape, order=order)
        if (made.module, name) == ("_codecs", "encode"):
            return arguments[0].encode("latin-1")
        if (made.module, name) == ("collections", "OrderedDict"):
            return dict(*arguments)
        if (made.module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return self._tensor(*arguments[:4])
        if (made.module, name) == ("torch.storage", "_load_from_bytes"):
            return plain_values(_bytes(arguments[0]))
        _refuse(made)

    def _tensor(self, storage: np.ndarray, offset: int, size: tuple[int, ...], stride: tuple[int, ...]) -> np.ndarray:
        if self.sizes_only:
            return storage
        last = offset + sum((side - 1) * step for side, step in zip(size, stride)) if all(size) else 0
        beyond = offset < 0 or any(step < 0 for step in stride) or last >= len(storage)
        if beyond or math.prod(size) > len(storage):
            raise ValueError("a tensor beyond its storage")
        strides = [step * storage.itemsize for step in stride]
        return np.lib.stride_tricks.as_strided(storage[offset:], size, strides).copy()

    def _built(self, made: Any, state: Any) -> None:
        if isinstance(made, _Kind):
            made.order = str(state[1])
        elif isinstance(made, _Array):
            _, shape, kind, fortran, content = state
            made.value = np.frombuffer(_bytes(content), kind.dtype()).reshape(shape, order="F" if fortran else "C")
        elif not isinstance(made, dict) or state:
            raise ValueError(f"a state for {type(made).__name__}")


_PUSHED = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "STRING", "BINSTRING"),
    *("SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8", "UNICODE", "BINUNICODE"),
    *("SHORT_BINUNICODE", "BINUNICODE8"),
}
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
    "EMPTY_TUPLE": tuple,
    "EMPTY_SET": list,
}


def _refuse(named: _Name) -> NoReturn:
    raise InputError(f"is a pickle that would run {named}; nothing in it was executed")


def _bytes(value: Any) -> bytes:
    return value.encode("latin-1") if isinstance(value, str) else bytes(value)


def _finished(value: Any, done: dict[int, Any] | None = None) -> Any:
    """Values with arrays in place of what stood for them; what is named twice is made once."""
    done = {} if done is None else done
    if isinstance(value, _Array):
        return value.value
    if isinstance(value, _Name):
        _refuse(value)
    if not isinstance(value, (list, tuple, dict)):
        return value
    if id(value) not in done:
        if isinstance(value, dict):
            done[id(value)] = {key: _finished(part, done) for key, part in value.items()}
        else:
            done[id(value)] = type(value)(_finished(part, done) for part in value)
    return done[id(value)]
