"""The meshes of the four devices that the tests run on."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from configs import retrieval as retrieval_config
from configs import rqvae as rqvae_config
from genrec_jax import checkpoint, optimizer, sharding, train_step
from genrec_jax.data import batches
from genrec_jax.data.corpus import Samples
from genrec_jax.errors import UserError
from genrec_jax.models import encoder_decoder
from genrec_jax.tasks import retrieval
from genrec_jax.tokenizers import codecs, neural

NUM_STEPS, BATCH = 50, 8


def test_rows_are_spread_and_parameters_are_everywhere():
    mesh = sharding.make_mesh()
    assert mesh.shape == {"data": 4, "model": 1}
    rows = sharding.shard_rows(mesh, np.arange(16).reshape(2, 8), row_axis=1)
    parts = [np.asarray(shard.data).tolist() for shard in rows.addressable_shards]
    assert parts == [[[0, 1], [8, 9]], [[2, 3], [10, 11]], [[4, 5], [12, 13]], [[6, 7], [14, 15]]]
    everywhere = sharding.replicate(mesh, {"a": np.arange(3)})["a"]
    assert [shard.data.tolist() for shard in everywhere.addressable_shards] == [[0, 1, 2]] * 4


def test_large_arrays_are_split():
    mesh = sharding.make_mesh(data=2, model=2)
    arrays = {"embeddings": np.arange(12).reshape(3, 4), "items": np.arange(6).reshape(2, 3)}
    placed = sharding.put(mesh, arrays)
    parts = [shard.data.tolist() for shard in placed["embeddings"].addressable_shards]
    left, right = [[0, 1], [4, 5], [8, 9]], [[2, 3], [6, 7], [10, 11]]
    assert parts == [left, right, left, right]
    assert [shard.data.tolist() for shard in placed["items"].addressable_shards] == [
        [[0, 1, 2]],
        [[3, 4, 5]],
    ] * 2


@pytest.mark.parametrize(
    ("path", "shape", "expected"),
    [
        ("params/encoder/blocks/0/self_attention/query", (24, 4, 8), P(None, "model")),
        ("opt_state/1/0/mu/decoder/blocks/3/cross_attention/out", (4, 8, 24), P("model")),
        ("params/encoder/blocks/0/feed_forward/up/kernel", (24, 64), P(None, "model")),
        ("params/encoder/blocks/0/feed_forward/down/kernel", (64, 24), P("model")),
        ("params/tokens", (64, 24), P("model")),
        ("params/items", (12_101, 64), P(None, "model")),  # 2 does not divide the rows
        ("params/items", (12_101, 63), P()),
        ("params/codebooks", (3, 256, 32), P(None, "model")),
        ("params/encoder/layers/0/kernel", (768, 512), P()),  # of the autoencoder
        ("params/encoder/norm/scale", (24,), P()),
    ],
)
def test_rules(path, shape, expected):
    assert sharding.spec(path, shape, 2) == expected
    assert sharding.spec(path, shape, 1) == P()


@pytest.mark.parametrize(
    ("data", "model", "expected"),
    [(-1, 1, (8, 1)), (-1, 4, (2, 4)), (4, -1, (4, 2)), (2, 4, (2, 4))],
)
def test_sizes(data, model, expected):
    assert tuple(sharding.sizes(data, model, 8).values()) == expected


@pytest.mark.parametrize(("data", "model"), [(3, 2), (-1, 3), (16, -1), (4, 1)])
def test_axes_that_do_not_share_the_devices_are_refused(data, model):
    with pytest.raises(UserError, match=f"mesh.data={data} and .*={model} do not share 8 devices"):
        sharding.sizes(data, model, 8)


@pytest.mark.parametrize(("data", "model"), [(-1, -1), (0, 1), (1, -2)])
def test_axes_without_a_size_are_refused(data, model):
    with pytest.raises(UserError, match="must be 1 or more, and one of them may be -1"):
        sharding.sizes(data, model, 8)


def test_a_batch_that_cannot_be_split_is_refused():
    sharding.check_batch_size("--config.batch_size", 24, 4, 3)
    with pytest.raises(UserError, match=r"--config.batch_size=20 .* make it a multiple of 12"):
        sharding.check_batch_size("--config.batch_size", 20, 4, 3)
    with pytest.raises(UserError, match=r"batch_size=0 cannot be split over 4 devices"):
        sharding.check_batch_size("batch_size", 0, 4)
    with pytest.raises(UserError, match=r"batch_size=6 cannot be split over 4 devices: make"):
        sharding.check_batch_size("batch_size", 6, 4)


def tokenizer_losses(mesh):
    """Returns the losses of each step, and the state."""
    config = rqvae_config.get_config("synthetic,smoke")
    embeddings = np.random.default_rng(0).standard_normal((96, 64), np.float32)
    model, _ = codecs.NEURAL["rqvae"](config.model.to_dict(), embeddings.shape[1])
    data = sharding.put(mesh, {"embeddings": embeddings})["embeddings"]
    return steps(mesh, neural.loss_fn(model), model, data, len(embeddings))


def retrieval_losses(mesh):
    """Returns the losses of each step, and the state."""
    config = retrieval_config.get_config("synthetic,smoke")
    config.model.update(num_heads=4, dim=32, hidden_dim=64)
    config.model.num_encoder_layers = config.model.num_decoder_layers = 1
    rng = np.random.default_rng(0)
    model = encoder_decoder.from_config(config.to_dict() | {"dtype": "float32"}, (16,) * 3)
    start = np.arange(64, dtype=np.int32) * 4
    data = {
        "items": rng.integers(40, size=300, dtype=np.int32),
        "semantic_ids": rng.integers(16, size=(40, 3), dtype=np.int32),
        "samples": Samples(np.arange(64, dtype=np.int32), start, start + 1 + start // 4 % 6),
    }
    num_shards = mesh.shape["data"]
    loss = train_step.gathering(
        retrieval.packed_gather_fn(config.max_history),
        retrieval.packed_loss_fn(model, BATCH // num_shards),
    )
    packing = retrieval.packing_of(data["samples"], config.max_history, num_shards)
    return steps(mesh, loss, model, sharding.replicate(mesh, data), 64, packing)


def steps(mesh, loss, model, data, num_samples, packing=None):
    tx, _ = optimizer.make(
        name="adamw",
        num_steps=NUM_STEPS,
        learning_rate=1e-3,
        schedule="cosine",
        warmup_steps=10,
        final_fraction=0.1,
        weight_decay=0.01,
        clip_norm=1.0,
    )
    superbatch = train_step.make_train_superbatch(
        loss, tx, mesh, accumulation=1, ema_decay=0.9, rules=None
    )
    params = model.init(jax.random.key(0))
    state = {"params": params, "opt_state": tx.init(params), "step": jnp.zeros((), jnp.int32)}
    state |= {"ema": jax.tree.map(jnp.copy, params)}
    state = jax.device_put(state, sharding.of_tree(mesh, state))
    batches_of_steps = batches.superbatches(
        num_samples=num_samples,
        batch_size=BATCH,
        boundaries=list(range(NUM_STEPS + 1)),
        seed=0,
        process_index=0,
        process_count=1,
        packing=packing,
    )
    losses = []
    for indices in batches_of_steps:
        indices = sharding.shard_rows(mesh, indices, row_axis=1)
        state, metrics = superbatch(state, data, indices, jax.random.key(2))
        losses.append(float(metrics["loss"]))
    return np.array(losses), state


@pytest.mark.once
@pytest.mark.parametrize("stage", [tokenizer_losses, retrieval_losses])
def test_every_split_trains_alike(stage):
    expected, alone = stage(sharding.one_device())
    assert expected[-1] < expected[0]
    for data, model in ((4, 1), (2, 2), (1, 4)):
        losses, state = stage(sharding.make_mesh(data, model))
        np.testing.assert_allclose(losses, expected, rtol=1e-5)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), state, alone)
        split = [leaf for leaf in jax.tree.leaves(state) if not leaf.sharding.is_fully_replicated]
        assert bool(split) == (model > 1)
        places = sharding.of_tree(sharding.make_mesh(data, model), state)
        is_there = jax.tree.map(
            lambda leaf, place: leaf.sharding.is_equivalent_to(place, leaf.ndim), state, places
        )
        assert all(jax.tree.leaves(is_there))


def test_an_export_of_split_arrays_is_read_anywhere(tmp_path):
    tokens, step = np.arange(24, dtype=np.float32).reshape(8, 3), np.int32(7)
    state = sharding.put(sharding.make_mesh(2, 2), {"tokens": tokens}) | {"step": step}
    arrays = {"state": state, "codes": np.arange(3)}
    checkpoint.export(tmp_path, arrays, {})
    there, _ = checkpoint.load_export(tmp_path, ("state", "codes"))
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(there))
    jax.tree.map(np.testing.assert_array_equal, there, arrays)
    for mesh in (sharding.one_device(), sharding.make_mesh(1, 4)):
        there, _ = checkpoint.load_export(tmp_path, ("state", "codes"), mesh)
        assert isinstance(there["codes"], np.ndarray)
        jax.tree.map(np.testing.assert_array_equal, there, arrays)
        places = sharding.of_tree(mesh, state)
        assert jax.tree.map(lambda leaf: leaf.sharding, there["state"]) == places


def fake_mesh(process_of_device, num_model):
    """Returns what `share_of_rows` reads of the mesh of several processes, of which this is 0."""
    devices = np.array([types.SimpleNamespace(process_index=n) for n in process_of_device])
    devices = devices.reshape(-1, num_model)
    return types.SimpleNamespace(devices=devices, shape={"model": num_model})


def test_processes_share_the_rows_of_a_batch():
    for processes, num_model, share in (
        ([0, 0, 1, 1], 1, (0, 2)),
        ([1, 1, 0, 0], 2, (1, 2)),
        ([0, 1, 0, 1], 1, (0, 2)),
        ([2, 2, 1, 1, 0, 0, 3, 3], 4, (1, 2)),
        ([0, 0, 1, 1], 4, (0, 1)),
    ):
        assert sharding.share_of_rows(fake_mesh(processes, num_model)) == share
    with pytest.raises(UserError, match=r"--config.mesh.model=6 splits arrays over parts of proc"):
        sharding.share_of_rows(fake_mesh([0] * 4 + [1] * 4 + [2] * 4, 6))
