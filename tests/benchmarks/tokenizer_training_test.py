"""A smoke run, and its operations and bytes against numbers worked by hand."""

import functools
import json

import numpy as np
import pytest

from benchmarks import common, quantization
from benchmarks import tokenizer_training as benchmark


def test_a_smoke_run(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(benchmark, "has_pytorch", lambda: False)
    path = tmp_path / "report.json"
    common.run("tokenizer_training", benchmark.cases, True, path, [], benchmark.compare)
    assert "PyTorch is not installed" in capsys.readouterr().out
    report = json.loads(path.read_text())
    step, loop, products = report["cases"]
    names = [case["case"] for case in report["cases"]]
    assert names == ["step, 768-d", "whole loop, 768-d", "products alone, 768-d"]
    for case in report["cases"]:
        assert case["rate"] > 0 and case["unit"] == "steps/s" and case["count"] == 5

    # 5 steps of 64 items. Encoder and decoder are 2 * 51,840 with 768-64-32-16-8.
    assert step["facts"]["num_parameters"] == 2 * 51_840 + 384
    # Three times each kernel, but twice the first, of 768 * 64 = 49,152.
    assert step["flops"] == {
        "float32": 5 * 2 * 64 * (3 * 2 * 51_840 - 49_152),
        "float32_highest": 5 * 2 * 64 * 384,
    }
    # The parameters and two moments are read and written, a batch is read.
    assert step["bytes"] == 5 * 4 * (6 * 104_064 + 64 * 768)

    # A loop does what its steps do, and has a clock of its own.
    assert loop["flops"] == step["flops"] == products["flops"]
    assert loop["bytes"] == step["bytes"]
    assert len(loop["seconds"]) == 3
    assert loop["rate"] == pytest.approx(5 / np.median(loop["seconds"]))
    # 8 layers of three products, but the first of two, and 3 levels.
    assert products["facts"]["num_products"] == 8 * 3 - 1 + 3
    assert report["comparisons"] == {
        "whole loop / step": pytest.approx(loop["rate"] / step["rate"]),
        "step / products alone": pytest.approx(step["rate"] / products["rate"]),
        "whole loop / products alone": pytest.approx(loop["rate"] / products["rate"]),
    }


def test_the_products_of_a_step():
    config = quantization.tokenizer_config(smoke=True)
    config.batch_size = 7
    config.model.hidden_dims, config.model.code_dim = (3,), 2
    config.model.num_levels, config.model.codebook_size = 1, 4
    assert sorted(benchmark.product_shapes(config, 5)) == sorted(
        [
            ("float32_highest", 7, 2, 4),
            *(("float32", 7, 5, 3), ("float32", 5, 7, 3)),
            *(("float32", 7, 3, 2), ("float32", 3, 7, 2), ("float32", 7, 2, 3)),
            *(("float32", 7, 2, 3), ("float32", 2, 7, 3), ("float32", 7, 3, 2)),
            *(("float32", 7, 3, 5), ("float32", 3, 7, 5), ("float32", 7, 5, 3)),
        ]
    )


def test_the_rate_beside_pytorch():
    rates = {"step, 768-d": 8.0, "whole loop, 768-d": 6.0, "products alone, 768-d": 10.0}
    assert benchmark.compare(rates | {"PyTorch, 768-d": 3.0}) == {
        "whole loop / step": 0.75,
        "step / products alone": 0.8,
        "whole loop / products alone": 0.6,
        "whole loop / PyTorch": 2.0,
    }


@pytest.mark.skipif(not benchmark.has_pytorch(), reason="PyTorch is no requirement")
def test_pytorch_computes_the_same_loss_and_gradients():
    import jax
    import torch

    from benchmarks import pytorch_rqvae
    from genrec_jax.tokenizers import codecs, neural

    config = quantization.tokenizer_config(smoke=True)
    embeddings = benchmark.random_embeddings(64, 20)
    model, _ = codecs.NEURAL["rqvae"](config.model.to_dict(), 20)
    params = model.init(jax.random.key(0))
    loss_fn = neural.loss_fn(model)
    (loss, _), grads = jax.value_and_grad(loss_fn, has_aux=True)(
        params, embeddings, np.arange(64), 0, jax.random.key(1)
    )

    def kernel(name, number, tree):
        return np.array(tree[name]["layers"][number]["kernel"]).T

    theirs = pytorch_rqvae.from_config(config, 20)
    tensors = []  # ours beside theirs, in the order of the layers
    for name, mlp in (("encoder", theirs.encoder), ("decoder", theirs.decoder)):
        for number, layer in enumerate(mlp[::2]):
            tensors.append((functools.partial(kernel, name, number), layer.weight))
    for level, codebook in enumerate(theirs.codebooks):
        tensors.append((lambda tree, level=level: np.array(tree["codebooks"][level]), codebook))
    with torch.no_grad():
        for take, tensor in tensors:
            tensor.copy_(torch.from_numpy(take(params)))
    value = theirs(torch.from_numpy(embeddings))
    value.backward()
    assert value.item() == pytest.approx(float(loss), rel=1e-5)
    for take, tensor in tensors:
        np.testing.assert_allclose(tensor.grad.numpy(), take(grads), rtol=1e-3, atol=1e-4)
