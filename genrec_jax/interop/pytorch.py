"""Checkpoints of RQ-VAE-Recommender (PyTorch) as parameters of our models.

The names and shapes are those of its commit 0e4ae0c, in which the decoder is a T5. All sizes are
read off the arrays. Its linear layers have weights [out, in], ours kernels [in, out].

E embedding width   C code width   Q levels   K codebook size   I items
D model width       N heads        H head width   F hidden width   U user bins
"""

import importlib.util
import pathlib
import re
from typing import Any, NamedTuple

import numpy as np

from genrec_jax.errors import UserError
from genrec_jax.interop import torch_pickle

Weights = dict[str, np.ndarray]

SAFETENSORS = "safetensors>=0.5,<1"  # the extra `safetensors` of pyproject.toml
_WRAPPERS = re.compile(r"^(_orig_mod\.|module\.)+")  # of torch.compile and of several GPUs
_SHOWN = 8  # names of each fault
_BUCKETS = 32  # of relative places, T5's default
# T5 makes tables of tokens that the original does not use; see `Decoder` for the codes.
_UNUSED = (
    "encoder.shared.weight",
    "encoder.encoder.embed_tokens.weight",
    "t5_decoder.embed_tokens.weight",
)
_CODES = "codebooks"
_STACKS = {"encoder.encoder": False, "t5_decoder": True}  # is it a decoder
# Its QuantizeForwardMode: Python 3.11.0 to 3.11.3 saves the names of an enum, others the values.
_ESTIMATORS = {1: "gumbel", 2: "straight_through", 3: "rotation"}
_ESTIMATORS |= {"GUMBEL_SOFTMAX": "gumbel", "STE": "straight_through", "ROTATION_TRICK": "rotation"}
_ACTIVATIONS = "torch.nn.modules.activation."
# What a checkpoint may say of an RQ-VAE that its weights do not, and the setting of ours.
_SETTINGS = {
    "codebook_normalize": "normalize",
    "n_cat_features": "num_categorical",
    "commitment_weight": "commitment_weight",
    "codebook_mode": "estimator",
}


class Checkpoint(NamedTuple):
    """A file of the original."""

    path: str
    weights: Weights
    settings: dict[str, Any]  # of an RQ-VAE, as far as the file has them, below our names
    step: int
    activations: set[str] = frozenset()  # of an RQ-VAE, if the file has the module itself


class RQVAE(NamedTuple):
    """An RQ-VAE: our settings and parameters, see `models.rqvae`."""

    embedding_dim: int
    model: dict[str, Any]
    params: dict


class Decoder(NamedTuple):
    """An encoder-decoder: our settings and parameters, see `models.encoder_decoder`."""

    level_sizes: tuple[int, ...]
    model: dict[str, Any]
    params: dict
    codes: np.ndarray | None  # [I, Q] int32 of all items, which the file of a trained one has


def read(path: str | pathlib.Path) -> Checkpoint:
    """Reads a .pt file, a whole checkpoint or a state dict alone, or a .safetensors file.

    Raises:
        UserError: if there is no such file, or it holds no arrays.
    """
    saved = _read_safetensors(path) if str(path).endswith(".safetensors") else None
    saved = torch_pickle.load(path) if saved is None else saved
    saved = saved if isinstance(saved, dict) else {}
    found = saved.get("model", saved)
    found = found if isinstance(found, dict) else {}
    weights = {
        _WRAPPERS.sub("", name): array
        for name, array in found.items()
        if isinstance(name, str) and isinstance(array, np.ndarray)
    }
    if not weights:
        raise UserError(
            f"{path} holds no named arrays: give a checkpoint of the original, whose entry 'model' "
            "is a state_dict(), or a state_dict() alone"
        )
    step, config = saved.get("iter"), saved.get("model_config")
    config = config if isinstance(config, dict) else {}
    return Checkpoint(
        str(path),
        weights,
        _settings(config),
        step if type(step) is int else 0,
        _activations(config.get("self")),
    )


def _read_safetensors(path: str | pathlib.Path) -> Weights:
    if importlib.util.find_spec("safetensors") is None:
        raise UserError(f"{path} needs the package safetensors: pip install '{SAFETENSORS}'")
    import safetensors.numpy

    if not pathlib.Path(path).is_file():
        raise UserError(f"no file {str(path)!r}: give a .safetensors or .pt file")
    try:
        return safetensors.numpy.load_file(path)
    except safetensors.SafetensorError as error:
        raise UserError(f"{path} is damaged ({error}): copy it again") from error


def _settings(model_config: dict) -> dict[str, Any]:
    """Returns our settings of the file's, which are among arguments of all kinds."""
    settings = {
        ours: model_config[theirs] for theirs, ours in _SETTINGS.items() if theirs in model_config
    }
    mode = settings.pop("estimator", None)
    settings = {name: value for name, value in settings.items() if isinstance(value, int | float)}
    if isinstance(mode, torch_pickle.Placeholder):
        for said in mode.args:
            if isinstance(said, int | str) and said in _ESTIMATORS:
                settings["estimator"] = _ESTIMATORS[said]
    return settings


def _activations(module: Any) -> set[str]:
    """Returns the names of the activations that a saved module has in it."""
    found, seen, parts = set(), set(), [module]
    while parts:
        part = parts.pop()
        if not isinstance(part, torch_pickle.Placeholder) or id(part) in seen:
            continue
        seen.add(id(part))
        if part.name.startswith(_ACTIVATIONS):
            found.add(part.name.removeprefix(_ACTIVATIONS))
        inside = part.state.get("_modules") if isinstance(part.state, dict) else None
        parts.extend(inside.values() if isinstance(inside, dict) else ())
    return found


def rqvae(checkpoint: Checkpoint) -> RQVAE:
    """Returns the RQ-VAE of a checkpoint.

    Raises:
        UserError: that names what is missing, unexpected, or of another shape, if anything is.
    """
    weights = checkpoint.weights
    num_levels = _count(weights, r"layers\.(\d+)\.")
    places = range(0, _count(weights, r"encoder\.mlp\.(\d+)\."), 2)  # between them are ReLUs
    layers = [f"encoder.mlp.{place}.weight" for place in places or (0,)]
    _need_matrices(checkpoint, "RQ-VAE", ["layers.0.embedding.weight", *layers])
    if others := checkpoint.activations - {"ReLU"}:
        raise UserError(
            f"{checkpoint.path} was trained with {', '.join(sorted(others))}, which "
            "RQ-VAE-Recommender had before its commit 1b4f9f9, and the RQ-VAE here has ReLU: train "
            "it again, there or here"
        )
    size, code_dim = weights["layers.0.embedding.weight"].shape
    dims = [*(weights[name].shape[1] for name in layers), len(weights[layers[-1]])]
    simvq = "layers.0.out_proj.0.weight" in weights

    expected = {}
    for name, ends in (("encoder", [*dims[:-1], code_dim]), ("decoder", [code_dim, *dims[-2::-1]])):
        for place, n_in, n_out in zip(places, ends[:-1], ends[1:], strict=True):
            expected[f"{name}.mlp.{place}.weight"] = n_out, n_in
    for level in range(num_levels):
        expected[f"layers.{level}.embedding.weight"] = size, code_dim
        if simvq:
            expected[f"layers.{level}.out_proj.0.weight"] = code_dim, code_dim
    _check(checkpoint, "RQ-VAE", expected)
    model = {
        "num_levels": num_levels,
        "codebook_size": size,
        "hidden_dims": tuple(dims[1:-1]),
        "code_dim": code_dim,
        "simvq": simvq,
    }
    return RQVAE(dims[0], model, rqvae_params(_as_float32(weights)))


def rqvae_params(weights: Weights) -> dict:
    """Returns our parameters of an RQ-VAE, or gradients, from theirs."""
    num_levels = _count(weights, r"layers\.(\d+)\.")

    def mlp(name):
        places = range(0, _count(weights, rf"{name}\.mlp\.(\d+)\."), 2)
        kernels = [weights[f"{name}.mlp.{place}.weight"].T for place in places]
        return {"layers": {number: {"kernel": kernel} for number, kernel in enumerate(kernels)}}

    def stack(name):
        return np.stack([weights[f"layers.{level}.{name}.weight"] for level in range(num_levels)])

    params = {"encoder": mlp("encoder"), "decoder": mlp("decoder"), "codebooks": stack("embedding")}
    if "layers.0.out_proj.0.weight" in weights:
        params["projections"] = stack("out_proj.0").swapaxes(1, 2)
    return params


def decoder(checkpoint: Checkpoint) -> Decoder:
    """Returns the encoder-decoder of a checkpoint.

    Raises:
        UserError: that names what is missing, unexpected, or of another shape, if anything is.
    """
    weights = checkpoint.weights
    tokens, first_head = "item_sid_embedding_table.weight", "decoder_mlp.0.weight"
    block = "encoder.encoder.block.0.layer"
    query, up = f"{block}.0.SelfAttention.q.weight", f"{block}.1.DenseReluDense.wi.weight"
    bias = f"{block}.0.SelfAttention.relative_attention_bias.weight"
    _need_matrices(checkpoint, "encoder-decoder", [tokens, first_head, query, up, bias])
    num_levels = _count(weights, r"decoder_mlp\.(\d+)\.")
    (size, dim), inner, hidden = weights[first_head].shape, len(weights[query]), len(weights[up])
    num_heads = weights[bias].shape[1]
    if inner % num_heads:
        raise UserError(f"{checkpoint.path}: {query} has {inner} rows, for {num_heads} heads")
    num_layers = [_count(weights, rf"{name}\.block\.(\d+)\.") for name in _STACKS]

    expected = {tokens: (num_levels * size, dim), "bos_token": (1, dim)}
    for level in range(num_levels):
        expected[f"decoder_mlp.{level}.weight"] = size, dim
    for (name, is_decoder), depth in zip(_STACKS.items(), num_layers, strict=True):
        expected |= _stack_shapes(name, depth, is_decoder, dim, inner, hidden, num_heads)
    num_user_bins = len(np.atleast_1d(weights.get("user_embedding.weight", ())))
    if num_user_bins:
        expected["user_embedding.weight"] = num_user_bins, dim
    if "sep_token" in weights:
        expected["sep_token"] = 1, dim
    if _CODES in weights:
        expected[_CODES] = len(np.atleast_1d(weights[_CODES])), num_levels
    _check(checkpoint, "encoder-decoder", expected)
    model = {
        "embedding_dim": dim,
        "dim": dim,
        "num_heads": num_heads,
        "head_dim": inner // num_heads,
        "hidden_dim": hidden,
        "num_encoder_layers": num_layers[0],
        "num_decoder_layers": num_layers[1],
        "activation": "relu",  # T5's default, as the following is
        "positions": "relative",
        "use_separator": "sep_token" in weights,
        "num_user_bins": num_user_bins,
    }
    codes = weights.get(_CODES)
    if codes is not None:
        codes = _checked_codes(checkpoint, codes, size)
    return Decoder((size,) * num_levels, model, decoder_params(_as_float32(weights)), codes)


def _stack_shapes(name, depth, is_decoder, dim, inner, hidden, num_heads) -> dict:
    bias = f"{name}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
    shapes = {f"{name}.final_layer_norm.weight": (dim,), bias: (_BUCKETS, num_heads)}
    attentions = ("SelfAttention", "EncDecAttention")[: 1 + is_decoder]
    for layer in range(depth):
        block = f"{name}.block.{layer}.layer"
        for number, attention in enumerate(attentions):
            shapes[f"{block}.{number}.layer_norm.weight"] = (dim,)
            for matrix in "qkv":
                shapes[f"{block}.{number}.{attention}.{matrix}.weight"] = inner, dim
            shapes[f"{block}.{number}.{attention}.o.weight"] = dim, inner
        last = f"{block}.{len(attentions)}"
        shapes[f"{last}.layer_norm.weight"] = (dim,)
        shapes[f"{last}.DenseReluDense.wi.weight"] = hidden, dim
        shapes[f"{last}.DenseReluDense.wo.weight"] = dim, hidden
    return shapes


def _checked_codes(checkpoint: Checkpoint, codes: np.ndarray, size: int) -> np.ndarray:
    if codes.dtype.kind not in "iu" or (codes.size and not 0 <= codes.min() <= codes.max() < size):
        raise UserError(
            f"{checkpoint.path}: {_CODES} must be whole numbers from 0 to below {size}, the codes "
            "of all items"
        )
    return codes.astype(np.int32)


def decoder_params(weights: Weights) -> dict:
    """Returns our parameters of an encoder-decoder, or gradients, from theirs.

    There are a separator and users if there are theirs.
    """

    def kernel(name):
        return {"kernel": weights[f"{name}.weight"].T}

    def norm(name):
        return {"scale": weights[f"{name}.weight"]}

    def stack(name, is_decoder):
        bias = f"{name}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
        num_heads = weights[bias].shape[1]

        def attention(place):
            def project(matrix):  # [N * H, D] -> [D, N, H]
                kernel = weights[f"{place}.{matrix}.weight"].T
                return kernel.reshape(len(kernel), num_heads, -1)

            out = weights[f"{place}.o.weight"].T  # [N * H, D]
            return {
                "query": project("q"),
                "key": project("k"),
                "value": project("v"),
                "out": out.reshape(num_heads, -1, out.shape[1]),
            }

        def block(place):
            feed_forward = f"{place}.{2 if is_decoder else 1}"
            params = {
                "self_norm": norm(f"{place}.0.layer_norm"),
                "self_attention": attention(f"{place}.0.SelfAttention"),
                "feed_forward_norm": norm(f"{feed_forward}.layer_norm"),
                "feed_forward": {
                    "up": kernel(f"{feed_forward}.DenseReluDense.wi"),
                    "down": kernel(f"{feed_forward}.DenseReluDense.wo"),
                },
            }
            if is_decoder:
                params["cross_norm"] = norm(f"{place}.1.layer_norm")
                params["cross_attention"] = attention(f"{place}.1.EncDecAttention")
            return params

        return {
            "blocks": {
                layer: block(f"{name}.block.{layer}.layer")
                for layer in range(_count(weights, rf"{name}\.block\.(\d+)\."))
            },
            "relative_bias": {"table": weights[bias]},
            "norm": norm(f"{name}.final_layer_norm"),
        }

    num_levels = _count(weights, r"decoder_mlp\.(\d+)\.")
    params = {
        "encoder": stack("encoder.encoder", False),
        "decoder": stack("t5_decoder", True),
        "tokens": weights["item_sid_embedding_table.weight"],
        "start": weights["bos_token"],
        "heads": {level: kernel(f"decoder_mlp.{level}") for level in range(num_levels)},
    }
    if "sep_token" in weights:
        params["separator"] = weights["sep_token"]
    if "user_embedding.weight" in weights:
        params["users"] = weights["user_embedding.weight"]
    return params


def _count(weights: Weights, pattern: str) -> int:
    """Returns one more than the largest number in names that begin so.

    It is at most one more than there are names, for a file may say any number.
    """
    found = (re.match(pattern, name) for name in weights)
    count = max((int(match[1]) + 1 for match in found if match), default=0)
    return min(count, len(weights) + 1)


def _as_float32(weights: Weights) -> Weights:
    return {name: np.asarray(array, np.float32) for name, array in weights.items()}


def _need_matrices(checkpoint: Checkpoint, kind: str, names: list[str]) -> None:
    """Refuses a checkpoint that lacks what all sizes are read off."""
    there = checkpoint.weights
    shapes = {name: there[name].shape for name in names if name in there}
    others = [
        f"{name} {list(shape)} instead of a matrix"
        for name, shape in shapes.items()
        if len(shape) != 2 or 0 in shape
    ]
    _refuse(
        checkpoint, kind, {"lacks": [name for name in names if name not in there], "has": others}
    )


def _check(checkpoint: Checkpoint, kind: str, expected: dict[str, tuple[int, ...]]) -> None:
    """Refuses a checkpoint whose names or shapes are not those expected."""
    there = checkpoint.weights
    others = [
        f"{name} {list(there[name].shape)} instead of {list(shape)}"
        for name, shape in expected.items()
        if name in there and there[name].shape != shape
    ]
    _refuse(
        checkpoint,
        kind,
        {
            "lacks": [name for name in expected if name not in there],
            "should not have": [name for name in there if name not in (*expected, *_UNUSED)],
            "has": others,
        },
    )


def _refuse(checkpoint: Checkpoint, kind: str, faults: dict[str, list[str]]) -> None:
    found = []
    for verb, names in faults.items():
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        if names:
            found.append(f"it {verb} {', '.join(names[:_SHOWN])}{more}")
    if found:
        raise UserError(
            f"{checkpoint.path} is no {kind} of the original: {'; '.join(found)}. Give one of "
            "RQ-VAE-Recommender with T5 layers, see docs/from_pytorch.md"
        )
