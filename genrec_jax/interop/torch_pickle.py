"""What is in a file of `torch.save`, without torch and without running any of it.

Such a file is a zip of a pickle, `data.pkl`, and of the bytes of each storage, which tensors view.
A pickle may name any function and have it called. Here every name stands for an inert
`Placeholder`, but for ordered dicts and sets, so nothing that the file names is imported or called.
"""

import math
import pathlib
import pickle
import zipfile
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from genrec_jax.errors import UserError, one_line

_DTYPES = {
    "torch.DoubleStorage": np.float64,
    "torch.FloatStorage": np.float32,
    "torch.HalfStorage": np.float16,
    "torch.BFloat16Storage": jnp.bfloat16,
    "torch.LongStorage": np.int64,
    "torch.IntStorage": np.int32,
    "torch.ShortStorage": np.int16,
    "torch.CharStorage": np.int8,
    "torch.ByteStorage": np.uint8,
    "torch.BoolStorage": np.bool_,
}
_TENSOR, _PARAMETER = "torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_parameter"


class Placeholder:
    """What stands for an object that is not read: its name, and what it would be made from.

    Attributes:
        name: of the class or function, with its module.
        args: what it would be called with.
        state: what would be set on it, None for nothing.
    """

    name = ""

    def __new__(cls, *args, **kwargs):  # a pickle may skip __init__
        made = super().__new__(cls)
        made.args, made.state = args, None
        return made

    def __setstate__(self, state):
        self.state = state

    def append(self, part):
        """Takes a part, of a list or set, which is not read; so do the others."""

    def extend(self, parts):
        pass

    def add(self, part):
        pass

    def __setitem__(self, key, value):
        pass


class _Dict(dict):
    """An ordered dict, whose attributes are not read."""

    def __setstate__(self, state):
        pass


class _Storage(NamedTuple):
    name: str  # of the bytes
    dtype: Any
    size: int  # how many values


_CONTAINERS = {
    ("collections", "OrderedDict"): _Dict,
    ("builtins", "set"): set,
    ("__builtin__", "set"): set,  # as protocol 2 has it
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> type:
        if (module, name) in _CONTAINERS:
            return _CONTAINERS[module, name]
        # Made anew each time, so that nothing outlives the file.
        return type("Placeholder", (Placeholder,), {"name": f"{module}.{name}"})

    def persistent_load(self, pid: Any) -> _Storage:
        kind, storage_type, name, _, size = pid
        if kind != "storage" or storage_type.name not in _DTYPES:
            raise pickle.UnpicklingError(f"it has a {kind} of type {storage_type.name}")
        return _Storage(name, np.dtype(_DTYPES[storage_type.name]), size)


def load(path: str | pathlib.Path) -> Any:
    """Returns what was saved: containers, numbers and texts, tensors as arrays in host memory.

    All else is a `Placeholder`. A number type that NumPy lacks, bfloat16, is JAX's.

    Raises:
        UserError: if there is no such file, or it is none of torch 1.6 or later, or damaged.
    """
    if not pathlib.Path(path).is_file():
        raise UserError(f"no file {str(path)!r}: give a checkpoint of torch.save, such as model.pt")
    if not zipfile.is_zipfile(path):
        raise UserError(
            f"{path} is no zip file, as torch.save has written them since torch 1.6: copy it "
            "again, or load it in PyTorch and save it again"
        )
    try:
        with zipfile.ZipFile(path) as file:
            (pickled,) = (name for name in file.namelist() if name.endswith("/data.pkl"))
            folder = pickled.removesuffix("data.pkl")
            order = "little"
            if f"{folder}byteorder" in file.namelist():
                order = file.read(f"{folder}byteorder").decode()
            with file.open(pickled) as data:
                tree = _Unpickler(data, encoding="utf-8").load()
            return _with_arrays(tree, lambda storage: _read(file, folder, storage, order), {})
    # The bytes may be anything, and so may be what goes wrong in reading them.
    except Exception as error:
        raise UserError(
            f"cannot read {path} as a checkpoint of torch.save ({one_line(repr(error))}): copy it "
            "again, or load it in PyTorch and save only its state_dict()"
        ) from error


def _read(file: zipfile.ZipFile, folder: str, storage: _Storage, order: str) -> np.ndarray:
    data = file.read(f"{folder}data/{storage.name}")
    return np.frombuffer(data, storage.dtype.newbyteorder(order), storage.size)


def _with_arrays(tree: Any, read, seen: dict[int, Any]) -> Any:
    """Returns containers, keys left as they are, with arrays for tensors; `read` reads storages.

    What is in a placeholder is left as it is. `seen` has, by identity, what was returned for each
    container, which may hold itself, or one part so often that to go through all would never end;
    and for each storage.
    """
    if id(tree) in seen:
        return seen[id(tree)]
    if isinstance(tree, dict):
        result = seen[id(tree)] = {}
        result.update((key, _with_arrays(value, read, seen)) for key, value in tree.items())
        return result
    if isinstance(tree, list):
        result = seen[id(tree)] = []
        result.extend(_with_arrays(value, read, seen) for value in tree)
        return result
    if isinstance(tree, tuple) and not isinstance(tree, _Storage):
        result = tuple(_with_arrays(value, read, seen) for value in tree)
    elif isinstance(tree, Placeholder) and tree.name == _PARAMETER:
        result = _with_arrays(tree.args[0], read, seen)
    elif isinstance(tree, Placeholder) and tree.name == _TENSOR:
        storage, offset, shape, strides, *_ = tree.args
        if storage not in seen:
            seen[storage] = read(storage)
        result = _view(seen[storage], offset, shape, strides)
    else:
        return tree
    seen[id(tree)] = result
    return result


def _view(
    storage: np.ndarray, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]
) -> np.ndarray:
    """Returns a copy of the part of a storage [N] that a tensor views, strides in values."""
    if min((offset, *shape, *strides)) < 0 or len(shape) != len(strides):
        raise ValueError(f"a tensor of shape {shape} has strides {strides} from {offset} on")
    if 0 in shape:
        return np.zeros(shape, storage.dtype)
    last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    needed = max(last + 1, math.prod(shape))  # the latter, as strides of 0 may ask for any size
    if needed > len(storage):
        raise ValueError(f"a tensor of shape {shape} needs {needed} of {len(storage)} values")
    in_bytes = [stride * storage.itemsize for stride in strides]
    view = np.lib.stride_tricks.as_strided(storage[offset:], shape, in_bytes, writeable=False)
    return view.astype(storage.dtype.newbyteorder("="))
