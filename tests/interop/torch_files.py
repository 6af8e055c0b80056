"""Writes what `torch.save` does, without torch."""

import collections
import enum
import io
import pickle
import sys
import types
import zipfile

import numpy as np
import pytest

STORAGES = {"f4": "FloatStorage", "f8": "DoubleStorage", "i8": "LongStorage", "f2": "HalfStorage"}


class Storage:
    """Values that tensors view."""

    def __init__(self, key, array):
        self.key, self.array = key, array


class Tensor:
    """An array as torch pickles it; views it from `offset` on, `strides` in values."""

    def __init__(self, array, strides=None, offset=0):
        self.array = np.asarray(array, order="C")
        itemsize = self.array.itemsize
        self.strides = strides or tuple(step // itemsize for step in self.array.strides)
        self.offset = offset
        self.is_data = False  # of a parameter


class Mode(enum.Enum):
    """An enum as the original's checkpoints have it."""

    GUMBEL_SOFTMAX = 1
    STE = 2
    ROTATION_TRICK = 3


class ModeByName(enum.Enum):
    """The same, as Python 3.11.0 to 3.11.3 saves it."""

    ROTATION_TRICK = 3

    def __reduce_ex__(self, protocol):
        return getattr, (type(self), self.name)


class Module:
    """A module as the original's checkpoints have it: itself among its own arguments."""


class SiLU:
    """An activation of the original's before it had ReLU."""


class ReLU:
    """The one that it has."""


def _global(module, name):
    """Returns something that pickles as this name."""
    made = type(name, (), {})
    made.__module__, made.__qualname__ = module, name
    return made


def save(path, value, parameters=False):
    """Writes `value`, whose arrays and `Tensor`s become tensors."""
    names = {name: _global("torch", name) for name in STORAGES.values()}
    rebuild = _global("torch._utils", "_rebuild_tensor_v2")
    parameter = _global("torch._utils", "_rebuild_parameter")
    of_torch = {made.__name__: made for made in (rebuild, parameter)}
    of_original = {"Mode": Mode, "ModeByName": ModeByName, "Module": Module}
    activations = {"SiLU": SiLU, "ReLU": ReLU}
    storages = []

    class Pickler(pickle.Pickler):
        def persistent_id(self, item):
            if not isinstance(item, Storage):
                return None
            kind = names[STORAGES[item.array.dtype.str[1:]]]
            return ("storage", kind, item.key, "cuda:0", item.array.size)

        def reducer_override(self, item):
            if isinstance(item, np.ndarray):
                item = Tensor(item)
            if not isinstance(item, Tensor):
                return NotImplemented
            hooks = collections.OrderedDict()
            if parameters and not item.is_data:
                item.is_data = True
                return parameter, (item, True, hooks)
            storages.append(Storage(str(len(storages)), item.array))
            args = (storages[-1], item.offset, item.array.shape, item.strides, False, hooks)
            return rebuild, args

    buffer = io.BytesIO()
    with pytest.MonkeyPatch.context() as patch:
        for made in of_original.values():
            patch.setattr(made, "__module__", "modules.quantize")
        for made in activations.values():
            patch.setattr(made, "__module__", "torch.nn.modules.activation")
        for module, members in (
            ("torch", names),
            ("torch._utils", of_torch),
            ("torch.nn", {}),
            ("torch.nn.modules", {}),
            ("torch.nn.modules.activation", activations),
            ("modules", {}),
            ("modules.quantize", of_original),
        ):
            fake = types.ModuleType(module)
            vars(fake).update(members)
            patch.setitem(sys.modules, module, fake)
        Pickler(buffer, protocol=2).dump(value)
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("checkpoint/data.pkl", buffer.getvalue())
        file.writestr("checkpoint/byteorder", "little")
        for storage in storages:
            file.writestr(f"checkpoint/data/{storage.key}", storage.array.tobytes())
        file.writestr("checkpoint/version", "3\n")
    return path


def model_config(activation=ReLU, **settings):
    """Returns the arguments of an RQ-VAE as the original saves them, the module among them."""
    module, encoder = Module(), Module()
    encoder._modules = {"0": Module(), "1": activation(), "again": module}
    module._modules = {"encoder": encoder}
    module._parameters = {"weight": np.ones((2, 2), np.float32)}
    module._config = {"self": module, "codebook_mode": Mode.STE, "__class__": Module, **settings}
    return module._config


def checkpoint(weights, iteration=7, wrapper="", **more):
    """Returns what the original saves of a model with these weights."""
    state = collections.OrderedDict((wrapper + name, array) for name, array in weights.items())
    optimizer = {"state": {0: {"exp_avg": np.zeros(3, np.float32)}}, "param_groups": [{"lr": 1e-3}]}
    return {"iter": iteration, "model": state, "optimizer": optimizer, **more}
