"""Stage `export`: a finished run as files that need none of this project.

Of a recommender: `recommend.jax_export`, its search as StableHLO for any number of histories, the
arrays that this reads, and the catalogue, for `serving`. Of whatever has semantic IDs:
`semantic_ids.parquet` and `.json`. Parameters as `.safetensors`.
"""

import importlib.util
import json
import pathlib
import time

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow
from jax import export
from pyarrow import parquet

from genrec_jax import checkpoint, checks, files, hub, serving, sharding
from genrec_jax.errors import UserError
from genrec_jax.interop import pytorch
from genrec_jax.recommender import Recommender

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")


def run(config, workdir: pathlib.Path) -> dict[str, float]:
    """Writes the files and returns counts."""
    started = time.monotonic()
    _check(config)
    directory = hub.folder(config.run)
    _, meta = checkpoint.load_export(directory, ())
    is_tokenizer = meta["config"]["task"] == "tokenizer"
    if not is_tokenizer:
        _write_function(config, directory, workdir)
    elif "titles" not in meta:
        meta["titles"] = [""] * len(meta["item_ids"])  # which a tokenizer does not read
    if "level_sizes" in meta:
        _write_ids(directory, meta, workdir)
    _write_parameters("tokenizer" if is_tokenizer else "model", directory, meta, workdir)
    if (directory / "tokenizer" / "export").is_dir():
        of_tokenizer = directory / "tokenizer"
        _, its_meta = checkpoint.load_export(of_tokenizer, ())
        _write_parameters("tokenizer", of_tokenizer, its_meta, workdir)
    return {"data/num_items": len(meta["item_ids"]), "time/seconds": time.monotonic() - started}


def _check(config) -> None:
    if not config.run:
        raise UserError("no --config.run: give the folder of a finished run")
    checks.at_least(config, {"k": 1, "length": 1})
    if not config.platforms or set(config.platforms) - set(PLATFORMS):
        raise UserError(
            f"--config.platforms={config.platforms} must be some of {', '.join(PLATFORMS)}"
        )
    if importlib.util.find_spec("safetensors") is None:
        raise UserError(f"export needs the extra safetensors: pip install '{pytorch.SAFETENSORS}'")


def _write_function(config, directory: pathlib.Path, workdir: pathlib.Path) -> None:
    """Writes what `serving` reads, and `serving.py` itself."""
    trained = Recommender.load(directory, mesh=sharding.one_device())
    if config.length < trained.config["max_history"]:
        raise UserError(
            f"--config.length={config.length} must be at least {trained.config['max_history']}, "
            "which the model reads"
        )
    if trained.config["eval"].get("unseen_share"):
        raise UserError(
            f"{config.run} reserves places for unseen items (eval.unseen_share), which is done "
            "outside of the model: only runs that do not can be exported"
        )
    k = min(config.k, len(trained.item_ids))
    function, arrays = trained.pure(k, config.length, exclude_history=config.exclude_history)
    (batch,) = export.symbolic_shape("batch")
    exported = export.export(jax.jit(function), platforms=config.platforms)(
        jax.tree.map(lambda array: jax.ShapeDtypeStruct(array.shape, array.dtype), arrays),
        jax.ShapeDtypeStruct((batch, config.length), jnp.int32),
        jax.ShapeDtypeStruct((batch,), jnp.int32),
    )
    files.write_atomically(workdir / serving.FUNCTION, bytes(exported.serialize()))
    with files.replacing(workdir / serving.ARRAYS) as partial, partial.open("wb") as file:
        np.savez(file, **arrays)
    catalogue = {
        "item_ids": trained.item_ids,
        "titles": trained.titles,
        "length": config.length,
        "k": k,
        "exclude_history": config.exclude_history,
        "needs_users": bool(trained.config["model"].get("num_user_bins")),
    }
    files.write_json(workdir / serving.CATALOGUE, catalogue)
    loader = pathlib.Path(serving.__file__).read_bytes()
    files.write_atomically(workdir / "serving.py", loader)


def _write_ids(directory: pathlib.Path, meta: dict, workdir: pathlib.Path) -> None:
    arrays, _ = checkpoint.load_export(directory, ["semantic_ids"])
    columns = {
        "item_id": meta["item_ids"],
        "codes": arrays["semantic_ids"].tolist(),
        "title": meta["titles"],
    }
    codes = pyarrow.array(columns["codes"], pyarrow.list_(pyarrow.int32()))
    with files.replacing(workdir / "semantic_ids.parquet") as partial:
        parquet.write_table(pyarrow.table(columns | {"codes": codes}), partial)
    rows = (dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True))
    text = "[\n" + ",\n".join(map(json.dumps, rows)) + "\n]\n"
    files.write_atomically(workdir / "semantic_ids.json", text.encode())


def _write_parameters(
    name: str, directory: pathlib.Path, meta: dict, workdir: pathlib.Path
) -> None:
    import safetensors.numpy  # an extra

    arrays, _ = checkpoint.load_export(directory, ["state"])
    leaves, _ = jax.tree_util.tree_flatten_with_path(arrays["state"]["params"])
    tensors = {sharding.name(path): np.ascontiguousarray(leaf) for path, leaf in leaves}
    about = {"format": "np", "config": json.dumps(hub.without_places(meta["config"]))}
    if "level_sizes" in meta:
        about["level_sizes"] = json.dumps(meta["level_sizes"])
    data = safetensors.numpy.save(tensors, about)
    files.write_atomically(workdir / f"{name}.safetensors", data)
