"""Lloyd's iterations, alone and level by level, against the recording."""

import numpy as np
from flax import nnx

from genrec_jax.models import rqvae
from genrec_jax.quantizers import kmeans
from genrec_jax.quantizers.vector import nearest_codeword
from tests.parity.fixtures import Fixture


def test_every_step():
    fixture = Fixture("kmeans")
    x, centroids = fixture["x"], fixture["x"][fixture["init_idx"]]
    np.testing.assert_array_equal(centroids, fixture["centroids"][0])
    for step, recorded in enumerate(fixture["assignment"]):
        centroids, assignment = kmeans.lloyd_step(x, centroids)
        np.testing.assert_array_equal(assignment, recorded)
        np.testing.assert_allclose(centroids, fixture["centroids"][step + 1], rtol=0, atol=1e-5)


def test_until_nothing_moves():
    fixture = Fixture("kmeans")
    x, start = fixture["x"], fixture["x"][fixture["init_idx"]]
    centroids, steps = kmeans.lloyd(x, start, max_iterations=1000)
    np.testing.assert_allclose(centroids, fixture["final_centroids"], rtol=0, atol=1e-5)
    np.testing.assert_array_equal(nearest_codeword(x, centroids), fixture["final_assignment"])
    assert steps == fixture["n_iters_to_converge"] + 1  # the recording counts from 0


def test_cut_short():
    fixture = Fixture("kmeans")
    centroids, steps = kmeans.lloyd(fixture["x"], fixture["x"][fixture["init_idx"]], 3)
    assert steps == 3
    np.testing.assert_allclose(centroids, fixture["max_iters3_centroids"], rtol=0, atol=1e-5)


def test_codebooks_of_an_autoencoder():
    fixture = Fixture("kmeans")
    params = {name: w.T for name, w in fixture.below("rq/param/encoder.mlp.").items()}
    kernels = [params[name] for name in sorted(params, key=lambda name: int(name.split(".")[0]))]
    dims = [kernel.shape[0] for kernel in kernels] + [kernels[-1].shape[1]]

    encoder = rqvae.MLP(tuple(dims), rngs=nnx.Rngs(0))
    for layer, kernel in zip(encoder.layers, kernels, strict=True):
        layer.kernel[...] = kernel
    residual = np.asarray(encoder(fixture["rq/x"]))
    for level, rows in enumerate(fixture["rq/init_idx"]):
        recorded = fixture["rq/residuals"][..., level]
        np.testing.assert_allclose(residual, recorded, rtol=0, atol=3e-5)
        codebook, _ = kmeans.lloyd(residual, residual[rows], max_iterations=1000)
        np.testing.assert_allclose(codebook, fixture["rq/codebooks"][level], rtol=0, atol=3e-5)
        codes = np.asarray(nearest_codeword(residual, codebook))
        np.testing.assert_array_equal(codes, fixture["rq/sem_ids"][:, level])
        residual = residual - np.asarray(codebook)[codes]
