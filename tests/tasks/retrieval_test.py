"""The loss of samples that share rows, against that of one sample a row."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import retrieval_training
from configs import retrieval as retrieval_config
from genrec_jax import train_step
from genrec_jax.data import batches
from genrec_jax.models import encoder_decoder
from genrec_jax.tasks import retrieval

PAST, BATCH = 9, 32
DATA = retrieval_training.synthetic_data(100, 50)


def batch(num_shards):
    """Returns the slots of a batch."""
    samples = DATA["samples"]
    lengths = np.minimum(samples.target - samples.start, PAST)
    return next(
        batches.superbatches(
            num_samples=len(samples),
            batch_size=BATCH,
            boundaries=[0, 1],
            seed=0,
            process_index=0,
            process_count=1,
            packing=batches.Packing(lengths, PAST, 5, num_shards),
        )
    )[0]


@pytest.mark.parametrize("packed", [False, True])
def test_batches_are_gathered_alike_on_the_host(packed):
    slots = batch(num_shards=2)
    if not packed:
        slots = slots[slots != batches.NOBODY]
    gather = (retrieval.packed_gather_fn if packed else retrieval.gather_fn)(PAST)
    on_device = jax.jit(gather)(jax.tree.map(jnp.asarray, DATA), slots)
    on_host = gather(DATA, np.stack([slots, slots]))  # a superbatch of two steps
    for name, expected in on_device.items():
        assert isinstance(on_host[name], np.ndarray) and on_host[name].dtype == expected.dtype
        np.testing.assert_array_equal(on_host[name], [expected, expected], name)


@pytest.mark.parametrize("num_shards, use_separator", [(1, False), (4, True)])
def test_losses_and_gradients_are_those_of_padded_histories(num_shards, use_separator):
    config = retrieval_config.get_config("smoke")
    config.max_history = PAST
    config.model.use_separator = use_separator
    model = encoder_decoder.from_config(config.to_dict(), retrieval_training.LEVEL_SIZES)
    params = model.init(jax.random.key(0))
    slots = batch(num_shards)
    assert slots.size // slots.shape[-1] < BATCH  # rows

    def value_and_grad(loss_fn, indices):
        def loss(params):
            return loss_fn(params, jax.tree.map(jnp.asarray, DATA), indices, 0, None)

        return jax.jit(jax.value_and_grad(loss, has_aux=True))(params)

    padded = train_step.gathering(retrieval.gather_fn(PAST), retrieval.loss_fn(model))
    packed = train_step.gathering(
        retrieval.packed_gather_fn(PAST), retrieval.packed_loss_fn(model, BATCH // num_shards)
    )
    expected = value_and_grad(padded, slots[slots != batches.NOBODY])
    found = value_and_grad(packed, jnp.asarray(slots))
    for ours, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
