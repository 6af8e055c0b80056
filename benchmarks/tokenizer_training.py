"""Speed of training the tokenizer: a step, the whole loop, and what the device's products allow.

    python -m benchmarks.tokenizer_training [--smoke] [--output=FILE.json]

Settings are those of configs/rqvae.py:beauty, all data is random. What stands in
benchmarks/common.py about counting holds for all benchmarks. The cases:

* `step`: superbatches as `train.fit` dispatches them, one after the other;
* `whole loop`: `train.fit` itself, with its pipeline of indices, its log and the new start of dead
  codes, by its own clock, a repeat a dispatch, evaluations left out;
* `products alone`: the matrix products of a step, of its shapes and precisions, without what stands
  between them. A step's share of their speed is what it makes of the device;
* on CPUs, where PyTorch is installed, `PyTorch`: the same model, loss and optimiser by
  torch.compile, with as many threads.

B batch   E embedding width   C code width   Q levels   K codebook size
"""

import importlib.util
import itertools
import pathlib
import tempfile
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import common, quantization
from genrec_jax import optimizer, roofline, sharding
from genrec_jax.tokenizers import codecs, neural

_STEP, _LOOP = "step", "whole loop"
_PRODUCTS, _TORCH = "products alone", "PyTorch"


def cases(smoke: bool) -> Iterator[common.Case]:
    """Yields the cases; each is measured before the next one is made."""
    config = quantization.tokenizer_config(smoke)
    num_items = 1_000 if smoke else 12_101
    if smoke:  # most of the time is compilation
        config.kmeans_items = config.reset_every = 0
    else:
        widths = config.embedder
        own_dim = widths.dim + widths.remainder_dim + widths.collaborative_dim
        yield step_case(config, random_embeddings(num_items, own_dim))
    embeddings = random_embeddings(num_items, quantization.SENTENCE_DIM)
    yield step_case(config, embeddings)
    yield _whole_loop(config, embeddings)
    yield _products(config)
    if jax.default_backend() != "cpu":
        return
    if has_pytorch():
        yield _pytorch(config, embeddings)
    else:
        print("PyTorch is not installed: there is no case of it")


def has_pytorch() -> bool:
    return importlib.util.find_spec("torch") is not None


def compare(rates: dict[str, float]) -> dict[str, float]:
    """Returns how the rates on wide embeddings compare."""
    step, loop, products, pytorch = (
        rates.get(_name(what, quantization.SENTENCE_DIM))
        for what in (_STEP, _LOOP, _PRODUCTS, _TORCH)
    )
    ratios = {
        "whole loop / step": loop / step,
        "step / products alone": step / products,
        "whole loop / products alone": loop / products,
    }
    return ratios | ({"whole loop / PyTorch": loop / pytorch} if pytorch else {})


def _name(what: str, embedding_dim: int) -> str:
    return f"{what}, {embedding_dim}-d"


def random_embeddings(num_items: int, width: int) -> np.ndarray:
    """Returns [num_items, width] float32."""
    return np.random.default_rng(0).standard_normal((num_items, width), np.float32)


def step_case(config, embeddings: np.ndarray, mesh: jax.sharding.Mesh | None = None) -> common.Case:
    """A superbatch of training, without the new start of dead codes, which is rare.

    It is on the first device, or on those of a mesh.
    """
    num_items, embedding_dim = embeddings.shape
    model, _ = codecs.NEURAL["rqvae"](config.model.to_dict(), embedding_dim)
    tx, _ = optimizer.make(num_steps=config.num_steps, **config.optimizer.to_dict())
    return common.training_case(
        _name(_STEP, embedding_dim),
        loss_fn=neural.loss_fn(model),
        init=model.init,
        tx=tx,
        data=embeddings,
        num_samples=num_items,
        batch_size=config.batch_size,
        num_steps=config.steps_per_call,
        ema_decay=0.0,
        flops=step_flops(config, embedding_dim),
        bytes_read=4 * config.batch_size * embedding_dim,
        facts={"num_items": num_items},
        mesh=mesh,
    )


def _whole_loop(config, embeddings: np.ndarray) -> common.Case:
    """A run of `train.fit`: three dispatches, in which all is compiled, then one a repeat."""
    num_items, embedding_dim = embeddings.shape
    steps, model_settings = config.steps_per_call, config.model.to_dict()
    model, codec = codecs.NEURAL["rqvae"](model_settings, embedding_dim)
    mesh = sharding.one_device()
    facts = {"num_items": num_items, "batch_size": config.batch_size}

    def seconds(repeats):
        config.num_steps = config.eval_every = steps * (3 + repeats)
        with tempfile.TemporaryDirectory() as workdir:
            neural.fit(
                config,
                model,
                codec,
                workdir=pathlib.Path(workdir),
                mesh=mesh,
                data=sharding.replicate(mesh, embeddings),
                data_fingerprint="random",
                evaluate=lambda _: {
                    "tokenizer/reconstruction_loss": 0.0,
                    "tokenizer/unique_before": 0.0,
                },
            )
            return common.logged_seconds(pathlib.Path(workdir), steps)[3:]

    return _timed_case(config, _LOOP, embeddings, seconds, facts)


def _products(config) -> common.Case:
    """The products of as many steps as a dispatch has, each step's results kept till the next."""
    embedding_dim, steps = quantization.SENTENCE_DIM, config.steps_per_call
    shapes = product_shapes(config, embedding_dim)
    precisions = [roofline.PRECISIONS[name][1] for name, *_ in shapes]
    operands = [
        (jnp.full((m, k), 1.5, jnp.float32), jnp.full((k, n), 0.5, jnp.float32))
        for _, m, k, n in shapes
    ]

    def products(operands):
        return [
            jnp.matmul(left, right, precision=precision)
            for (left, right), precision in zip(operands, precisions, strict=True)
        ]

    @jax.jit
    def all_steps(operands):
        def one_step(step, carried):
            # One element is new in each step, or XLA would compute all steps at once.
            operands = [(left.at[0, 0].set(step), right) for left, right in carried[0]]
            return operands, products(operands)

        return jax.lax.fori_loop(1, steps, one_step, (operands, products(operands)))[1]

    flops = roofline.add_flops(*({name: 2 * m * k * n} for name, m, k, n in shapes))
    moved = 4 * sum(m * k + k * n + m * n for _, m, k, n in shapes)
    return common.Case(
        _name(_PRODUCTS, embedding_dim),
        lambda: all_steps(operands),
        "steps",
        steps,
        {precision: steps * count for precision, count in flops.items()},
        steps * moved,
        {"num_products": len(shapes)},
    )


def _pytorch(config, embeddings: np.ndarray) -> common.Case:
    from benchmarks import pytorch_rqvae  # PyTorch is no requirement

    def seconds(repeats):
        return pytorch_rqvae.seconds(config, embeddings, config.steps_per_call, repeats)

    facts = {"num_items": len(embeddings), "batch_size": config.batch_size}
    return _timed_case(config, _TORCH, embeddings, seconds, facts)


def _timed_case(config, what: str, embeddings: np.ndarray, seconds, facts) -> common.Case:
    """Returns the case of a loop that has a clock of its own, counted as a step is."""
    step = step_case(config, embeddings)
    return step._replace(
        name=_name(what, embeddings.shape[1]), call=None, facts=facts, seconds=seconds
    )


def product_shapes(config, embedding_dim: int) -> list[tuple[str, int, int, int]]:
    """Returns precision, m, k and n of each product [m, k] x [k, n] of a step.

    These are each layer's output, its gradients by the kernel and, but for the first layer, by the
    input, and each level's products of latents and codewords.
    """
    batch_size = config.batch_size
    width, levels, size = quantization.code_shape(config)
    dims = quantization.encoder_dims(config, embedding_dim)
    shapes = [("float32_highest", batch_size, width, size)] * levels
    for number, (n_in, n_out) in enumerate(itertools.pairwise((*dims, *dims[-2::-1]))):
        shapes.append(("float32", batch_size, n_in, n_out))
        shapes.append(("float32", n_in, batch_size, n_out))
        if number > 0:
            shapes.append(("float32", batch_size, n_out, n_in))
    return shapes


def step_flops(config, embedding_dim: int) -> dict[str, int]:
    """Returns those of the products of a step.

    A layer's gradients, by its kernel and by its input, take as many as the layer; the first
    layer's input needs none. The decoder is the encoder's mirror image. Products of latents and
    codewords have no gradient: a code is a choice, and the losses' gradients need no products.
    """
    shapes = product_shapes(config, embedding_dim)
    return roofline.add_flops(*({name: 2 * m * k * n} for name, m, k, n in shapes))


if __name__ == "__main__":
    common.main("tokenizer_training", cases, compare)
