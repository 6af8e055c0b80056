"""The first training step of a fresh process, stage by stage; benchmarks/startup.py starts it.

    python -m benchmarks.first_step MODEL FILE.json [smoke]

It does what a run does, with random data of the shapes of Amazon Beauty, and leaves out only what
depends on the data: the start of codebooks by k-means. The file gets the seconds of each stage.
"""

import sys
import time

_STARTED = time.perf_counter()  # before anything else is imported

from genrec_jax import xla  # noqa: E402

xla.set_up()

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402

from benchmarks import quantization, retrieval_training  # noqa: E402
from configs import retrieval as retrieval_config  # noqa: E402
from genrec_jax import files, optimizer, sharding, train_step  # noqa: E402
from genrec_jax.models import encoder_decoder  # noqa: E402
from genrec_jax.tokenizers import codecs, neural  # noqa: E402


def parts(name: str, smoke: bool):
    """Returns config, model, loss and the data, host arrays, of `rqvae` or `retrieval`."""
    num_users, num_items = (300, 200) if smoke else (22_363, 12_101)
    if name == "rqvae":
        config = quantization.tokenizer_config(smoke)
        width = quantization.SENTENCE_DIM
        model, _ = codecs.NEURAL["rqvae"](config.model.to_dict(), width)
        return config, model, neural.loss_fn(model), np.ones((num_items, width), np.float32)
    config = retrieval_config.get_config("beauty,smoke" if smoke else "beauty")
    model = encoder_decoder.from_config(config.to_dict(), retrieval_training.LEVEL_SIZES)
    data = retrieval_training.synthetic_data(num_users, num_items)
    loss = train_step.gathering(*retrieval_training.gather_and_loss(config, model, packed=False))
    return config, model, loss, data


def measure(name: str, smoke: bool, started: float) -> dict[str, float]:
    """Returns the seconds of each stage; `started` is when the process did."""
    seconds, last = {}, started

    def lap(stage):
        nonlocal last
        now = time.perf_counter()
        seconds[stage], last = now - last, now

    lap("import")
    jax.block_until_ready(jnp.zeros(()))
    lap("device")
    config, model, loss_fn, data = parts(name, smoke)
    mesh = sharding.one_device()
    data = sharding.replicate(mesh, data)
    lap("data")
    tx, _ = optimizer.make(num_steps=config.num_steps, **config.optimizer.to_dict())

    rng = jax.device_put(jax.random.key(0), sharding.replicated(mesh))
    init = lambda rng, _: model.init(rng)  # noqa: E731
    state = train_step.new_state(mesh, init, tx, None, 0.0, rng, None)
    jax.block_until_ready(state)
    lap("init")
    train_superbatch = train_step.make_train_superbatch(
        loss_fn, tx, mesh, accumulation=1, ema_decay=0.0, rules=None
    )
    batch = sharding.shard_rows(mesh, np.zeros((1, config.batch_size), np.int32), row_axis=1)
    lowered = train_superbatch.lower(state, data, batch, rng)
    lap("trace")
    compiled = lowered.compile()
    lap("compile")
    jax.block_until_ready(compiled(state, data, batch, rng))
    lap("step")
    return seconds


if __name__ == "__main__":
    name, path, *smoke = sys.argv[1:]
    files.write_json(path, measure(name, bool(smoke), _STARTED))
