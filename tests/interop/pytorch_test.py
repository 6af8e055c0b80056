"""Checkpoints of the original: what they are refused for, and what is read of them.

That the parameters give the original's numbers is tested in tests/parity.
"""

import jax
import numpy as np
import pytest
import safetensors.numpy

from genrec_jax.errors import UserError
from genrec_jax.interop import pytorch
from tests.interop import torch_files
from tests.parity import fixtures
from tests.parity.fixtures import Fixture


def rqvae_weights(name="rqvae_ste"):
    return Fixture(name).below("param/")


def decoder_weights():
    return Fixture("t5_encdec").below("param/")


def of(weights):
    return pytorch.Checkpoint("a.pt", weights, {}, 0)


@pytest.mark.parametrize("name", ["rqvae_ste", "rqvae_simvq_norm", "semids"])
def test_sizes_of_an_rqvae_are_those_of_its_arrays(name):
    fixture = Fixture(name)
    rqvae = pytorch.rqvae(of(fixture.below("param/")))
    assert rqvae.embedding_dim == fixture.meta["input_dim"]
    assert rqvae.model == {
        "num_levels": fixture.meta["n_layers"],
        "codebook_size": fixture.meta["codebook_size"],
        "hidden_dims": tuple(fixture.meta["hidden_dims"]),
        "code_dim": fixture.meta["embed_dim"],
        "simvq": fixture.meta.get("sim_vq", False),
    }
    shapes = jax.eval_shape(fixtures.rqvae_model(fixture.meta).init, jax.random.key(0))
    assert jax.tree.map(np.shape, rqvae.params) == jax.tree.map(np.shape, shapes)


def test_sizes_of_a_decoder_are_those_of_its_arrays():
    fixture = Fixture("t5_encdec")
    decoder = pytorch.decoder(of(decoder_weights()))
    assert decoder.level_sizes == (16, 16, 16) and decoder.codes is None
    config = fixture.meta["t5config"]["encoder"]
    assert decoder.model == {
        "embedding_dim": config["d_model"],
        "dim": config["d_model"],
        "num_heads": config["num_heads"],
        "head_dim": config["d_kv"],
        "hidden_dim": config["d_ff"],
        "num_encoder_layers": config["num_layers"],
        "num_decoder_layers": fixture.meta["t5config"]["decoder"]["num_layers"],
        "activation": config["dense_act_fn"],
        "positions": "relative",
        "use_separator": True,
        "num_user_bins": fixture.meta["num_user_bins"],
    }
    shapes = jax.eval_shape(fixtures.t5_model(fixture.meta, full=True).init, jax.random.key(0))
    assert jax.tree.map(np.shape, decoder.params) == jax.tree.map(np.shape, shapes)


@pytest.mark.parametrize("wrapper", ["", "_orig_mod.", "module._orig_mod."])
def test_whole_checkpoints(tmp_path, wrapper):
    weights = rqvae_weights()
    config = torch_files.model_config(
        codebook_normalize=True, n_cat_features=0, commitment_weight=0.5, embed_dim=8
    )
    saved = torch_files.checkpoint(weights, wrapper=wrapper, model_config=config)
    read = pytorch.read(torch_files.save(tmp_path / "a.pt", saved))
    assert read.step == 7
    assert read.settings == {
        "normalize": True,
        "num_categorical": 0,
        "commitment_weight": 0.5,
        "estimator": "straight_through",
    }
    assert read.weights.keys() == weights.keys()
    for name, array in weights.items():
        np.testing.assert_array_equal(read.weights[name], array)


def test_an_enum_by_its_name(tmp_path):
    config = torch_files.model_config(codebook_mode=torch_files.ModeByName.ROTATION_TRICK)
    saved = torch_files.checkpoint(rqvae_weights(), model_config=config)
    read = pytorch.read(torch_files.save(tmp_path / "a.pt", saved))
    assert read.settings == {"estimator": "rotation"}


def test_an_rqvae_of_before_with_another_activation(tmp_path):
    config = torch_files.model_config(torch_files.SiLU)
    saved = torch_files.checkpoint(rqvae_weights(), model_config=config)
    read = pytorch.read(torch_files.save(tmp_path / "a.pt", saved))
    with pytest.raises(
        UserError, match=r"a.pt was trained with SiLU, .*and the RQ-VAE here has Re"
    ):
        pytorch.rqvae(read)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_state_dicts_alone(tmp_path, suffix):
    weights, path = decoder_weights(), tmp_path / f"a{suffix}"
    if suffix == ".pt":
        torch_files.save(path, weights)
    else:
        safetensors.numpy.save_file(weights, path)
    read = pytorch.read(path)
    assert (read.step, read.settings) == (0, {})
    assert jax.tree.all(jax.tree.map(np.array_equal, read.weights, weights))


def test_files_without_arrays(tmp_path):
    path = torch_files.save(tmp_path / "a.pt", {"iter": 3})
    with pytest.raises(UserError, match=r"a.pt holds no named arrays: give a checkpoint of"):
        pytorch.read(path)
    broken = tmp_path / "a.safetensors"
    broken.write_bytes(b"no")
    with pytest.raises(UserError, match=r"a.safetensors is damaged"):
        pytorch.read(broken)
    with pytest.raises(UserError, match=r"no file .*b.safetensors"):
        pytorch.read(tmp_path / "b.safetensors")


def test_an_rqvae_with_other_names_or_shapes():
    weights = rqvae_weights()
    del weights["layers.1.embedding.weight"]
    weights["decoder.mlp.2.weight"] = np.zeros((3, 3), np.float32)
    weights["extra.bias"] = np.zeros(3, np.float32)
    message = (
        r"a.pt is no RQ-VAE of the original: it lacks layers.1.embedding.weight; it should not "
        r"have extra.bias; it has decoder.mlp.2.weight \[3, 3\] instead of \[20, 16\]. Give one"
    )
    with pytest.raises(UserError, match=message):
        pytorch.rqvae(of(weights))
    lacks = "lacks layers.0.embedding.weight, encoder.mlp.0.weight"
    with pytest.raises(UserError, match=lacks):
        pytorch.rqvae(of(decoder_weights()))
    weights = rqvae_weights() | {"layers.0.embedding.weight": np.zeros(3, np.float32)}
    message = r"has layers.0.embedding.weight \[3\] instead of a matrix"
    with pytest.raises(UserError, match=message):
        pytorch.rqvae(of(weights))


def test_an_rqvae_with_other_layers():
    weights = rqvae_weights() | {"encoder.mlp.5.running_mean": np.zeros(3, np.float32)}
    with pytest.raises(UserError, match=r"original: it should not have encoder.mlp.5.running_mean"):
        pytorch.rqvae(of(weights))
    weights = rqvae_weights() | {"layers.1000000.embedding.weight": np.zeros(3, np.float32)}
    with pytest.raises(UserError, match=r"lacks layers.3.[^;]*, layers.10.embedding.weight; it sh"):
        pytorch.rqvae(of(weights))


def test_a_decoder_with_other_names_or_shapes():
    with pytest.raises(
        UserError, match=r"lacks item_sid_embedding_table.weight, decoder_mlp.0.wei"
    ):
        pytorch.decoder(of(rqvae_weights()))
    weights = decoder_weights()
    del weights["t5_decoder.block.1.layer.1.EncDecAttention.o.weight"]
    weights["bos_token"] = np.zeros((2, 16), np.float32)
    weights["decoder_mlp.0.bias"] = np.zeros(16, np.float32)
    message = (
        r"lacks t5_decoder.block.1.layer.1.EncDecAttention.o.weight; it should not have "
        r"decoder_mlp.0.bias; it has bos_token \[2, 16\] instead of \[1, 16\]"
    )
    with pytest.raises(UserError, match=message):
        pytorch.decoder(of(weights))
    gone = {name: a for name, a in decoder_weights().items() if not name.startswith("t5_decoder")}
    with pytest.raises(UserError, match=r"lacks t5_decoder.final_layer_norm.weight, t5_decoder"):
        pytorch.decoder(of(gone))
    weights = decoder_weights() | {"codebooks": np.array([[0, 16, 1]])}
    with pytest.raises(UserError, match="codebooks must be whole numbers from 0 to below 16"):
        pytorch.decoder(of(weights))
