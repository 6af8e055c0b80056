"""Checkpoints of the shape of the original's, with the recorded weights, to runs of ours."""

import importlib
import json
import pathlib
import re

import jax
import numpy as np
import pytest

from configs import from_pytorch as config_file
from configs import tokenizer_report as report_config
from genrec_jax import checkpoint
from genrec_jax.errors import UserError
from genrec_jax.models import encoder_decoder
from genrec_jax.recommender import Recommender
from genrec_jax.tasks import from_pytorch, tokenizer_report
from tests.interop import torch_files
from tests.parity import fixtures
from tests.parity.fixtures import Fixture

pytestmark = pytest.mark.once
RQVAE, DECODER = Fixture("semids"), Fixture("t5_encdec")
NUM_ITEMS = len(RQVAE["x"])
CODES = RQVAE["cached_ids"][:, :-1]
HISTORIES = [[3, 7, 500], [12], list(range(20, 45))]


def write_shop(folder, num_items):
    """Writes a data set in the compact format."""
    folder.mkdir()
    items = ({"item_id": f"i{item}", "title": f"Thing {item}"} for item in range(num_items))
    (folder / "items.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    with (folder / "sequences.txt").open("w") as file:
        for user, history in enumerate(HISTORIES):
            print(f"u{user}", *(f"i{item % num_items}" for item in history), file=file)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Returns a folder with the items' embeddings, both checkpoints, and the data set in `shop`."""
    folder = tmp_path_factory.mktemp("original")
    write_shop(folder / "shop", NUM_ITEMS)
    np.save(folder / "embeddings.npy", RQVAE["x"])
    module = torch_files.model_config(codebook_normalize=False, n_cat_features=0)
    rqvae = torch_files.checkpoint(RQVAE.below("param/"), model_config=module)
    torch_files.save(folder / "rqvae.pt", rqvae)
    weights = DECODER.below("param/") | {"codebooks": CODES}
    decoder = torch_files.checkpoint(weights, iteration=99, wrapper="_orig_mod.")
    torch_files.save(folder / "decoder.pt", decoder, parameters=True)
    return folder


def convert(files, workdir, *names, **settings):
    config = config_file.get_config("files")
    config.data.dir = str(files / "shop")
    config.cache_dir = str(files / "cache")
    config.embedder.path = str(files / "embeddings.npy")
    for name in names:
        config[name] = str(files / f"{name}.pt")
    config.update_from_flattened_dict(settings)
    return from_pytorch.run(config, workdir)


@pytest.fixture(scope="module")
def converted(files, tmp_path_factory):
    """Returns the folder of a run with both models, and the metrics."""
    workdir = tmp_path_factory.mktemp("run")
    return workdir, convert(files, workdir, "rqvae", "decoder")


def test_the_semantic_ids_are_the_originals(files, converted, tmp_path):
    metrics = convert(files, tmp_path, "rqvae")
    assert metrics["tokenizer/unique_after"] == 1 and metrics["data/num_items"] == NUM_ITEMS
    for workdir in (tmp_path, converted[0] / "tokenizer"):
        arrays, meta = checkpoint.load_export(workdir, ["semantic_ids", "codes", "state"])
        np.testing.assert_array_equal(arrays["semantic_ids"], RQVAE["cached_ids"])
        np.testing.assert_array_equal(arrays["codes"], CODES)
        assert arrays["state"]["step"] == 7
        assert meta["level_sizes"] == [16, 16, 16, RQVAE["cached_ids"][:, -1].max() + 1]
    assert converted[1]["tokenizer/same_codes_as_decoder"] == 1


@pytest.mark.parametrize(
    "name, of_file, of_config",
    [
        ("rqvae_simvq_norm", {"codebook_normalize": True}, {}),
        ("rqvae_simvq_norm", {"codebook_normalize": False}, {"normalize": True}),
        ("rqvae_cat", {"n_cat_features": 6}, {}),
    ],
)
def test_settings_are_the_configs_or_the_files(tmp_path, name, of_file, of_config):
    fixture = Fixture(name)
    write_shop(tmp_path / "shop", len(fixture["x"]))
    np.save(tmp_path / "embeddings.npy", fixture["x"])
    module = torch_files.model_config(**of_file)
    saved = torch_files.checkpoint(fixture.below("param/"), model_config=module)
    torch_files.save(tmp_path / "rqvae.pt", saved)
    metrics = convert(tmp_path, tmp_path / "run", "rqvae", **of_config)
    arrays, _ = checkpoint.load_export(tmp_path / "run", ["codes"])
    np.testing.assert_array_equal(arrays["codes"], fixture["eval/sem_ids"])
    reconstruction = float(fixture["eval/reconstruction_loss"])
    assert metrics["tokenizer/reconstruction_loss"] == pytest.approx(reconstruction, rel=1e-4)


def test_a_decoder_without_codes_takes_those_of_the_rqvae(files, tmp_path):
    torch_files.save(tmp_path / "decoder.pt", DECODER.below("param/"))
    convert(files, tmp_path / "run", "rqvae", decoder=str(tmp_path / "decoder.pt"))
    arrays, _ = checkpoint.load_export(tmp_path / "run", ["semantic_ids"])
    np.testing.assert_array_equal(arrays["semantic_ids"], RQVAE["cached_ids"])


def test_the_logits_are_the_originals(converted):
    arrays, meta = checkpoint.load_export(converted[0], ["state", "semantic_ids"])
    assert arrays["state"]["step"] == 99
    np.testing.assert_array_equal(arrays["semantic_ids"], RQVAE["cached_ids"])
    model = encoder_decoder.from_config(meta["config"], meta["level_sizes"])
    inputs = fixtures.t5_inputs(DECODER)

    @jax.jit
    def logits(params, codes, mask, users, targets):
        module = model.bind(params)
        return module.decode(targets, module.encode(codes, mask, users))

    found = np.stack(logits(arrays["state"]["params"], **inputs), axis=1)
    np.testing.assert_allclose(found, DECODER["full/logits"], rtol=0, atol=1e-4)


def test_items_are_scored_by_the_codes_that_the_original_knows(converted):
    arrays, meta = checkpoint.load_export(converted[0], ["state"])
    params = arrays["state"]["params"]
    model = encoder_decoder.from_config(meta["config"], meta["level_sizes"])
    (best,) = Recommender.load(converted[0]).recommend(
        [[f"i{item}" for item in HISTORIES[2]]], NUM_ITEMS, exclude_history=False, users=[2]
    )
    items = [int(item_id[1:]) for item_id in best.item_ids]
    assert sorted(items) == list(range(NUM_ITEMS))

    read = np.tile(CODES[HISTORIES[2][-20:]].astype(np.int32), (NUM_ITEMS, 1, 1))
    users = np.full(NUM_ITEMS, 3)  # the original numbers them from 1 on
    losses = jax.jit(lambda params, *args: model.bind(params).losses(*args).sum(axis=1))
    mask = np.ones(read.shape[:2], bool)
    scores = -losses(params, read, mask, CODES.astype(np.int32), users)
    np.testing.assert_allclose(best.scores, scores[np.array(items)], rtol=0, atol=1e-4)
    equal = [3, 7, 500, 530, 531]  # have the same embeddings in the recording
    assert len({best.scores[items.index(item)] for item in equal}) == 1
    assert sorted(equal, key=items.index) == equal


def test_other_stages_read_the_run(files, converted, tmp_path):
    config = report_config.get_config()
    config.run = str(converted[0])
    metrics = tokenizer_report.run(config, tmp_path)
    assert metrics["collisions/num_groups"] > 0


@pytest.mark.parametrize(
    "names, settings, message",
    [
        ((), {}, "no --config.rqvae and no --config.decoder"),
        (("rqvae",), {"embedder.path": "wide.npy"}, "rqvae.pt reads embeddings of width 12, these"),
        (("rqvae",), {"estimator": "none"}, "--config.estimator='none' is unknown"),
        (
            ("rqvae", "decoder"),
            {"embedder.path": "noise.npy"},
            r"gives \d+.\d% of the items",
        ),
        (("bare",), {}, "does not have the codes of the items"),
        (("few",), {}, "few.pt knows the codes of 5 items, but this data set has"),
    ],
)
def test_mistakes(files, tmp_path, names, settings, message):
    rng = np.random.default_rng(0)
    np.save(tmp_path / "wide.npy", rng.normal(size=(NUM_ITEMS, 13)))
    np.save(tmp_path / "noise.npy", rng.normal(size=RQVAE["x"].shape))
    for name, codes in (("bare", {}), ("few", {"codebooks": CODES[:5]})):
        torch_files.save(tmp_path / f"{name}.pt", DECODER.below("param/") | codes)
        if name in names:
            settings, names = settings | {"decoder": str(tmp_path / f"{name}.pt")}, ()
    if "embedder.path" in settings:
        settings = {"embedder.path": str(tmp_path / settings["embedder.path"])}
    with pytest.raises(UserError, match=message):
        convert(files, tmp_path / "run", *names, **settings)


def test_the_table_of_settings_names_settings():
    page = (pathlib.Path(__file__).parents[2] / "docs" / "from_pytorch.md").read_text()
    parts = re.split(r"### train_\w+.py: configs/(\w+).py", page)[1:]
    assert parts[::2] == ["rqvae", "retrieval"]
    for name, part in zip(parts[::2], parts[1::2], strict=True):
        config = importlib.import_module(f"configs.{name}").get_config("beauty")
        cells = [row.split("|")[2] for row in part.splitlines() if row.startswith("| `")]
        keys = [key for cell in cells for key in re.findall("`([^`]+)`", cell)]
        assert len(keys) > 10
        for key in keys:
            value = config
            for step in key.split("."):
                value = value[step]
