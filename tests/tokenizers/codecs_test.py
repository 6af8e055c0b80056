"""One interface for all tokenizers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import fsq, product_quantization, residual_kmeans, rqvae
from genrec_jax.quantizers import residual
from genrec_jax.tokenizers import codecs

CONFIGS = {
    config.__name__.split(".")[-1]: config.get_config("smoke").to_dict()
    for config in (rqvae, fsq, residual_kmeans, product_quantization)
}
X = np.random.default_rng(0).normal(size=(50, 12)).astype(np.float32)


def params_of(config):
    if config["name"] in codecs.NEURAL:
        return codecs.NEURAL[config["name"]](config["model"], 12)[0].init(jax.random.key(0))
    codebooks = [jnp.asarray(X[:size]) for size in codecs.sizes_of(config["model"])]
    rotation = jnp.eye(12)[::-1] if config["name"] == "product_quantization" else None
    return codecs.clustered_params(codebooks, rotation)


@pytest.mark.parametrize("name", CONFIGS)
def test_every_config_has_a_codec_of_its_sizes(name):
    config = CONFIGS[name]
    codec, params = codecs.from_config(config, 12), params_of(config)
    codewords = codec.codewords(params)
    assert codec.level_sizes == codecs.sizes_of(config["model"])
    if name in codecs.NEURAL:
        assert tuple(map(len, codewords)) == codec.level_sizes == (64, 64, 64)
    latents = codec.encode(params, X)
    quantized = residual.residual_quantize(latents, codewords)
    sums = sum(codewords[level][quantized.ids[:, level]] for level in range(3))
    np.testing.assert_allclose(quantized.embedding, sums, atol=1e-5)
    assert codec.decode(params, quantized.embedding).shape == X.shape


def test_clusters_of_the_embeddings_as_they_are_or_rotated():
    params = codecs.clustered_params([jnp.asarray(X[:4]), jnp.asarray(X[:2])], jnp.eye(12)[::-1])
    plain, rotated = (codecs._clusters((4, 2), rotates=rotates) for rotates in (False, True))
    np.testing.assert_array_equal(plain.encode(params, X), X)
    np.testing.assert_array_equal(rotated.encode(params, X), X[:, ::-1])
    np.testing.assert_array_equal(rotated.decode(params, X[:, ::-1]), X)
    for ours, expected in zip(plain.codewords(params), (X[:4], X[:2]), strict=True):
        np.testing.assert_array_equal(ours, expected)


def test_sizes_of_levels():
    assert codecs.sizes_of({"num_levels": 2, "codebook_size": 8, "level_sizes": ()}) == (8, 8)
    assert codecs.sizes_of({"num_levels": 2, "codebook_size": 8, "level_sizes": (4, 5, 6)}) == (
        4,
        5,
        6,
    )
    assert codecs.sizes_of({"level_shapes": ((2, 3), (5,))}) == (6, 5)


def test_which_levels_are_balanced():
    expected = {"none": (), "last": (2,), "all": (0, 1, 2)}
    for balance in codecs.BALANCES:
        assert codecs.balanced_levels(balance, 3) == expected[balance]


def test_a_balanced_config_balances_where_it_says():
    settings = CONFIGS["rqvae"]["model"] | {"train_balance": "last", "assign_balance": "all"}
    _, codec = codecs.NEURAL["rqvae"](settings, 12)
    assert codec.balanced_levels == (0, 1, 2) and codec.balanced_rows == 0
    kmeans = CONFIGS["residual_kmeans"]
    settings = kmeans["model"] | {"balanced": True, "batch_size": 16}
    codec = codecs.from_config(kmeans | {"model": settings}, 12)
    assert codec.balanced_levels == (0, 1, 2) and codec.balanced_rows == 16


def test_categorical_columns_are_reconstructed_as_chances():
    codec = codecs.Codec(None, None, lambda params, z: z, (), num_categorical=1)
    z = jnp.array([[3.0, 0.0], [5.0, np.log(3.0)]])
    expected = [[3.0, 0.5], [5.0, 0.75]]
    np.testing.assert_allclose(codecs.reconstruct(codec, None, z), expected, rtol=1e-6)
