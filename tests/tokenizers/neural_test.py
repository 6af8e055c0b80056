"""Training of a tokenizer by gradients: what keeps its codebooks in use, and what it draws."""

import jax
import numpy as np
import pytest

from configs import rqvae
from genrec_jax import files, sharding
from genrec_jax.evaluators import tokenizer as evaluator
from genrec_jax.tokenizers import codecs, neural


def collapsing_embeddings():
    """Returns 900 rows: 90 clusters of near copies, apart in 2 of 16 directions alone."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(90, 16)) * np.array([3.0, 3.0] + [1e-3] * 14)
    rows = np.repeat(centres, 10, axis=0) + 1e-3 * rng.normal(size=(900, 16))
    return rows.astype(np.float32)


def train(workdir, stop_at=None, **changes):
    config = rqvae.get_config("smoke")
    config.model.update(hidden_dims=(32,), code_dim=8, num_levels=2, codebook_size=32)
    config.update(num_steps=400, eval_every=400, steps_per_call=100, batch_size=128)
    config.update_from_flattened_dict(changes)
    embeddings = collapsing_embeddings()
    model, codec = codecs.NEURAL["rqvae"](config.model.to_dict(), 16)
    mesh = sharding.make_mesh()
    data = sharding.replicate(mesh, embeddings)
    evaluate = evaluator.Evaluator(codec, data, np.zeros(len(data), bool), mesh)

    def evaluate_or_stop(params):
        metrics = evaluate.run(params)
        calls.append(metrics)
        if len(calls) == stop_at:
            raise KeyboardInterrupt
        return metrics

    calls = []
    result = neural.fit(
        config,
        model,
        codec,
        workdir=workdir,
        mesh=mesh,
        data=data,
        data_fingerprint=files.digest(embeddings),
        evaluate=evaluate_or_stop,
    )
    return result.params, evaluate.run(result.params)


EMA = {"model.codebook_ema": 0.9, "reset_every": 20, "num_steps": 60, "steps_per_call": 10}


def test_an_interrupted_run_with_averages_ends_like_one_that_was_not(tmp_path):
    whole, _ = train(tmp_path / "whole", **EMA | {"eval_every": 15})
    with pytest.raises(KeyboardInterrupt):  # at step 45, after the checkpoint of step 30
        train(tmp_path / "again", stop_at=3, **EMA | {"eval_every": 15})
    # It may be traced meanwhile.
    profile = {"profile.first_step": 30, "profile.num_steps": 5}
    again, _ = train(tmp_path / "again", **EMA | {"eval_every": 15} | profile)
    (trace,) = (tmp_path / "again" / "profile").iterdir()
    assert "| level_0/distances |" in (trace / "scopes.md").read_text()
    jax.tree.map(np.testing.assert_array_equal, again, whole)


def test_accumulated_parts_give_the_same_averages(tmp_path):
    settings = EMA | {"num_steps": 4, "steps_per_call": 4, "eval_every": 4}
    one, _ = train(tmp_path / "one", **settings)
    two, _ = train(tmp_path / "two", accumulation=2, **settings)
    start = train(tmp_path / "start", **settings | {"num_steps": 1})[0]["codebooks"]
    np.testing.assert_allclose(two["codebooks"], one["codebooks"], rtol=1e-4, atol=1e-5)
    assert np.abs(one["codebooks"] - start).max() > 1e-3


@pytest.mark.parametrize(("step", "expected"), [(0, 1.0), (5, 0.1), (10, 0.01)])
def test_the_temperature_changes_by_the_same_factor_each_step(step, expected):
    config = rqvae.get_config("smoke")
    config.num_steps = 11
    config.model.update(temperature=1.0, final_temperature=0.01)
    assert neural._temperature_fn(config)(step) == pytest.approx(expected)


def test_gumbel_trains_at_the_temperature_of_the_step():
    settings = rqvae.get_config("smoke").model.to_dict() | {"estimator": "gumbel"}
    model, _ = codecs.NEURAL["rqvae"](settings, 16)
    params, x = model.init(jax.random.key(0)), collapsing_embeddings()
    indices = np.arange(64)
    loss = jax.jit(neural.loss_fn(model, temperature=lambda step: 0.1 * 2.0**step))
    for step in (0, 3):
        output = model.bind(params)(x[indices], jax.random.key(1), 0.1 * 2.0**step)
        expected = (output.reconstruction_loss + output.quantization_loss).mean()
        value, _ = loss(params, x, indices, step, jax.random.key(1))
        np.testing.assert_allclose(value, expected, rtol=1e-4)


def usage(metrics):
    return [metrics[f"tokenizer/level_{level}/usage"] for level in range(2)]


def test_averages_with_new_starts_use_the_codes_that_plain_training_leaves(tmp_path):
    _, plain = train(tmp_path / "plain", kmeans_items=0, reset_every=0)
    averaged = {"model.codebook_ema": 0.9, "reset_every": 20}
    _, healthy = train(tmp_path / "averaged", kmeans_items=0, **averaged)
    assert min(usage(plain)) < 0.5
    assert min(usage(healthy)) > 0.9
