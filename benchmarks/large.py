"""Problems that are larger than one device, or than its memory, at a few steps each.

    python -m benchmarks.large [--smoke] [--output=FILE.json] [--only=tokenizer,...]

* `tokenizer`: the RQ-VAE of configs/rqvae.py:beauty with three levels of 8,192 codes, on 10 M items
  of 768 random numbers (31 GB on each device) and batches of 65,536 over all devices: a step, and
  the codes of all items;
* `histories`: `train.fit` of the retrieval model, as wide as RQ-VAE-Recommender's, on one device,
  with batches of 1,024 packed samples of 100 M interactions that lie on the device or on the host;
* `model`: a step of a retrieval model of 11.3 G parameters, whose state and gradients are 180 GB in
  float32, split over all devices. Two H200 hold it with XLA_PYTHON_CLIENT_MEM_FRACTION=.95.

`peak_bytes` in the JSON is the most memory so far on the first device. Figures are those of all
devices together, the floor is that of one with its share of the work. What stands in
benchmarks/common.py about counting holds for all benchmarks.
"""

import functools
from collections.abc import Iterator

import jax
import numpy as np
from absl import flags

from benchmarks import common, quantization, retrieval_training, scaling, tokenizer_training
from configs import retrieval as retrieval_config
from genrec_jax import sharding
from genrec_jax.errors import UserError
from genrec_jax.evaluators import tokenizer as evaluator
from genrec_jax.tokenizers import codecs

_ONLY = flags.DEFINE_list("only", None, "Which problems. Default: all.")
_PARTS = 100  # in which random numbers are drawn


def cases(smoke: bool) -> Iterator[common.Case]:
    """Yields the cases; each is measured before the next one is made."""
    names = _ONLY.value or list(PROBLEMS)
    if unknown := [name for name in names if name not in PROBLEMS]:
        raise UserError(f"--only: no {unknown[0]!r}: choose of {', '.join(PROBLEMS)}")
    for name in names:
        yield from map(_with_peak, PROBLEMS[name](smoke))


def _tokenizer(smoke: bool) -> Iterator[common.Case]:
    mesh, width = sharding.make_mesh(), quantization.SENTENCE_DIM
    config = quantization.tokenizer_config(smoke)
    num_items = 2_000 if smoke else 10_000_000
    if not smoke:
        config.model.codebook_size, config.batch_size, config.steps_per_call = 8_192, 65_536, 10
    embeddings = _random_embeddings(mesh, num_items, width)
    yield _of_each(tokenizer_training.step_case(config, embeddings, mesh), mesh)
    model, codec = codecs.NEURAL["rqvae"](config.model.to_dict(), width)
    params = jax.jit(model.init, out_shardings=sharding.replicated(mesh))(jax.random.key(0))
    evaluate = evaluator.Evaluator(codec, embeddings, np.zeros(num_items, bool), mesh)
    yield quantization.encoding_case(
        f"codes of {common.short(num_items)} items",
        lambda: evaluate.assign(params).codes,
        config,
        embeddings,
        "float32_highest",
        "xla",
        {},
    )


def _random_embeddings(mesh: jax.sharding.Mesh, num_items: int, width: int) -> jax.Array:
    """Returns [num_items, width] float32 on every device, drawn in parts: keys take memory too."""

    @functools.partial(jax.jit, out_shardings=sharding.replicated(mesh))
    def draw(rngs):
        shape = num_items // _PARTS, width
        parts = jax.lax.map(lambda rng: jax.random.normal(rng, shape), rngs)
        return parts.reshape(num_items, width)

    return draw(jax.random.split(jax.random.key(0), _PARTS))


def _histories(smoke: bool) -> Iterator[common.Case]:
    config = retrieval_config.get_config("beauty,smoke" if smoke else "beauty")
    config.model.dropout = 0.0
    config.batch_size, config.steps_per_call = (16, 2) if smoke else (1_024, 50)
    if not smoke:
        config.model.dim = 384
    data = retrieval_training.synthetic_data(*((300, 200) if smoke else (15_050_000, 1_000_000)))
    num_interactions = len(data["items"])
    for on_host in (False, True):
        case = retrieval_training.loop_case(config, data, packed=True, on_host=on_host)
        place = "host" if on_host else "device"
        yield case._replace(name=f"{common.short(num_interactions)} interactions on the {place}")


def _model(smoke: bool) -> Iterator[common.Case]:
    mesh = sharding.make_mesh(data=1, model=sharding.ALL)
    config = retrieval_config.get_config("beauty,smoke" if smoke else "beauty")
    config.model.dropout = 0.0
    config.batch_size, config.steps_per_call = (16, 2) if smoke else (256, 2)
    if not smoke:
        config.model.update(dim=8_192, embedding_dim=8_192, num_heads=128, hidden_dim=32_768)
        config.model.num_encoder_layers = config.model.num_decoder_layers = 6
    data = retrieval_training.synthetic_data(*((300, 200) if smoke else (22_363, 12_101)))
    yield _of_each(retrieval_training.step_case(config, data, packed=True, mesh=mesh), mesh)


PROBLEMS = {"tokenizer": _tokenizer, "histories": _histories, "model": _model}


def _of_each(case: common.Case, mesh: jax.sharding.Mesh) -> common.Case:
    """Returns a case with the work of one of the devices that share it."""
    flops = {precision: count // mesh.size for precision, count in case.flops.items()}
    return case._replace(
        name=f"{case.name}, {mesh.shape['data']} x {mesh.shape['model']} devices",
        flops=flops,
        bytes=case.bytes // mesh.size,
    )


def _with_peak(case: common.Case) -> common.Case:
    """Returns a case that notes the most memory so far once it is measured."""

    def seconds(repeats):
        found = common.seconds_of(case, repeats)
        case.facts["peak_bytes"] = scaling.peak_bytes(on_device=True)
        return found

    return case._replace(call=None, seconds=seconds)


if __name__ == "__main__":
    common.main("large", cases)
