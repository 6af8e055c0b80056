"""IDs for items that come later."""

import json
import pathlib

import jax
import numpy as np
import pytest

from configs import add_items as add_config
from configs import retrieval as retrieval_config
from configs import rqvae as tokenizer_config
from configs import tokenizer_report as report_config
from genrec_jax import checkpoint
from genrec_jax.data import datasets, embedders
from genrec_jax.errors import UserError
from genrec_jax.quantizers import residual
from genrec_jax.recommender import Recommender
from genrec_jax.tasks import add_items, retrieval, tokenizer, tokenizer_report
from genrec_jax.tokenizers import codecs

NUM_OLD, NUM_NEW = 60, 70
WORDS = "red blue green small large old new soft hard warm cold round flat long short wide".split()


def write(folder: pathlib.Path, order) -> pathlib.Path:
    """Writes a data set of the items in this order; histories have the first ones alone."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    titles = [" ".join(rng.choice(WORDS, 4)) for _ in range(NUM_NEW)]
    items = [json.dumps({"item_id": f"i{item}", "title": titles[item]}) for item in order]
    (folder / "items.jsonl").write_text("\n".join(items))
    histories = [rng.permutation(np.arange(1, NUM_OLD))[:6] for _ in range(80)]
    users = [" ".join([f"u{n}", *(f"i{i}" for i in items)]) for n, items in enumerate(histories)]
    (folder / "sequences.txt").write_text("\n".join(users))
    return folder


def tokenizer_settings(folder, collisions):
    config = tokenizer_config.get_config("files,smoke")
    config.data.dir = str(folder)
    config.update(num_steps=20, eval_every=20, steps_per_call=10, batch_size=16)
    config.update(extra_code_size=16, collisions=collisions)
    config.embedder.update(dim=8, remainder_dim=4, collaborative_dim=4)
    config.model.update(hidden_dims=(16,), code_dim=4, codebook_size=16, num_levels=2)
    return config


def added_settings(run, data):
    config = add_config.get_config("files")
    config.run, config.data.dir = str(run), str(data)
    return config


def exported(folder):
    return checkpoint.load_export(folder, ("state", "codebooks", "semantic_ids", "codes"))


@pytest.fixture(scope="module", params=["extra_code", "reassign"])
def world(request, tmp_path_factory):
    """Returns a folder with the data sets old and new and the runs ids and ids2, and metrics."""
    folder = tmp_path_factory.mktemp("world")
    old = write(folder / "old", range(NUM_OLD))
    new = write(folder / "new", reversed(range(NUM_NEW)))
    tokenizer.run(tokenizer_settings(old, request.param), folder / "ids")
    return folder, add_items.run(added_settings(folder / "ids", new), folder / "ids2")


def test_all_keep_their_ids_and_the_others_get_ones_of_their_own(world):
    folder, metrics = world
    before, old_meta = exported(folder / "ids")
    after, meta = exported(folder / "ids2")
    assert meta["item_ids"] == [f"i{item}" for item in reversed(range(NUM_NEW))]
    places = [meta["item_ids"].index(item_id) for item_id in old_meta["item_ids"]]
    np.testing.assert_array_equal(after["semantic_ids"][places], before["semantic_ids"])
    assert len(np.unique(after["semantic_ids"], axis=0)) == NUM_NEW
    assert metrics["data/num_added_items"] == NUM_NEW - NUM_OLD
    assert metrics["tokenizer/unique_after"] == 1
    assert meta["level_sizes"] == old_meta["level_sizes"]
    assert (after["semantic_ids"] < meta["level_sizes"]).all()
    assert meta["corpus"] != old_meta["corpus"] == meta["fitted_corpus"]
    jax.tree.map(np.testing.assert_array_equal, after["state"], before["state"])


def test_codes_of_a_new_item_are_the_nearest_to_its_latent(world):
    folder, _ = world
    arrays, meta = exported(folder / "ids2")
    config = meta["config"]
    old, new = (
        datasets.load(folder / "cache", **config["data"] | {"dir": str(folder / name)})
        for name in ("old", "new")
    )
    added = [place for place, item_id in enumerate(new.item_ids) if item_id not in old.item_ids]
    longer = add_items._append(old, new, added)
    assert longer.item_ids[NUM_OLD:] == [f"i{item}" for item in range(NUM_NEW - 1, NUM_OLD - 1, -1)]
    embed = embedders.embed
    embeddings = embed(longer, folder / "cache", num_fitted=NUM_OLD, **config["embedder"])
    alone = embed(old, folder / "cache", **config["embedder"])
    np.testing.assert_allclose(embeddings[:NUM_OLD], alone, atol=1e-4)

    codec = codecs.from_config(config, embeddings.shape[1])
    params = arrays["state"]["params"]
    latents = codec.encode(params, embeddings[NUM_OLD:])
    codes = np.asarray(residual.residual_quantize(latents, codec.codewords(params)).ids)
    ids = arrays["semantic_ids"][added]
    if config["collisions"] == "extra_code":
        np.testing.assert_array_equal(ids[:, :2], codes)
    else:
        taken = set(map(tuple, arrays["semantic_ids"][[n not in added for n in range(NUM_NEW)]]))
        free = [tuple(row) not in taken for row in codes.tolist()]
        assert any(free) and not all(free)
        first = [codes.tolist().index(row) == place for place, row in enumerate(codes.tolist())]
        np.testing.assert_array_equal((ids == codes).all(axis=1), np.array(free) & first)


def test_health_is_that_of_all_items(world):
    folder, metrics = world
    before, old_meta = exported(folder / "ids")
    after, meta = exported(folder / "ids2")
    places = [meta["item_ids"].index(item_id) for item_id in old_meta["item_ids"]]
    np.testing.assert_array_equal(after["codes"][places], before["codes"])
    distinct = len(np.unique(after["codes"], axis=0))
    assert metrics["tokenizer/unique_before"] == distinct / NUM_NEW
    assert meta["health"].items() <= metrics.items()


def test_a_report_describes_the_added_items_too(world, tmp_path):
    folder, metrics = world
    config = report_config.get_config()
    config.run, config.num_neighbours = str(folder / "ids2"), 3
    report = tokenizer_report.run(config, tmp_path)
    assert report["data/num_items"] == NUM_NEW
    assert report["tokenizer/unique_before"] == metrics["tokenizer/unique_before"]
    # In full the reconstruction is that of each item by its own codes, added ones included.
    arrays, meta = exported(folder / "ids2")
    corpus, embeddings = add_items.embed_all(folder / "ids2", meta, folder / "cache")
    assert corpus.item_ids == meta["item_ids"]
    codec = codecs.from_config(meta["config"], embeddings.shape[1])
    params = arrays["state"]["params"]
    codewords = [np.asarray(level) for level in codec.codewords(params)]
    quantized = sum(level[arrays["codes"][:, n]] for n, level in enumerate(codewords))
    errors = (codecs.reconstruct(codec, params, quantized) - embeddings) ** 2
    assert report["reconstruction/prefix_2/error"] == pytest.approx(float(errors.mean()), rel=1e-4)
    changed = meta | {"added": {"data": meta["config"]["data"], "path": ""}}
    checkpoint.export(tmp_path / "changed", arrays, changed)
    config.run = str(tmp_path / "changed")
    with pytest.raises(UserError, match=r"whose items .*changed added is another one now: restore"):
        tokenizer_report.run(config, tmp_path)


def test_again_gives_the_same_and_once_more_keeps_these(world, tmp_path):
    folder, _ = world
    add_items.run(added_settings(folder / "ids", folder / "new"), tmp_path / "again")
    expected, meta = exported(folder / "ids2")
    again = exported(tmp_path / "again")[0]["semantic_ids"]
    np.testing.assert_array_equal(again, expected["semantic_ids"])
    more = write(tmp_path / "more", range(NUM_NEW))
    with (more / "items.jsonl").open("a") as file:
        file.write('\n{"item_id": "late", "title": "red old"}')
    add_items.run(added_settings(folder / "ids2", more), tmp_path / "more_ids")
    arrays, more_meta = exported(tmp_path / "more_ids")
    places = [more_meta["item_ids"].index(item_id) for item_id in meta["item_ids"]]
    np.testing.assert_array_equal(arrays["semantic_ids"][places], expected["semantic_ids"])
    assert len(np.unique(arrays["semantic_ids"], axis=0)) == NUM_NEW + 1


@pytest.mark.parametrize("world", ["extra_code"], indirect=True)
def test_a_trained_model_recommends_them(world, tmp_path):
    folder, _ = world
    config = retrieval_config.get_config("files,smoke")
    config.data.dir, config.tokenizer = str(folder / "old"), str(folder / "ids")
    config.update(num_steps=4, eval_every=4, steps_per_call=2, batch_size=16)
    config.model.update(dim=16, embedding_dim=16, hidden_dim=16)
    config.model.update(num_encoder_layers=1, num_decoder_layers=1)
    retrieval.run(config, tmp_path / "run")
    own = Recommender.load(tmp_path / "run")
    longer = Recommender.load(tmp_path / "run", tokenizer=folder / "ids2")
    new = {f"i{item}" for item in range(NUM_OLD, NUM_NEW)}
    (best,) = longer.recommend([["i1", "i65"]], k=10, unseen_share=0.5)
    assert len(new & set(best.item_ids)) >= 5 and "i65" not in best.item_ids
    (every,) = longer.recommend([["i1"]], k=NUM_NEW, exclude_history=False)
    assert set(every.item_ids) == set(longer.item_ids) > new
    (known,) = own.recommend([["i1"]], k=NUM_OLD, exclude_history=False)
    scores = dict(zip(every.item_ids, every.scores, strict=True))
    again = [scores[item_id] for item_id in known.item_ids]
    assert again == pytest.approx(known.scores, abs=1e-4)
    with pytest.raises(UserError, match="give a run of configs/add_items"):
        Recommender.load(tmp_path / "run", tokenizer=folder / "ids")


@pytest.mark.parametrize(
    ("order", "message"),
    [
        (range(1, NUM_NEW), "lacks 1 items of .*i0. is one"),
        (range(NUM_OLD), "has no item that .* does not know"),
    ],
)
def test_nothing_is_lost_and_nothing_done_in_vain(world, tmp_path, order, message):
    data = write(tmp_path / "data", order)
    with pytest.raises(UserError, match=message):
        add_items.run(added_settings(world[0] / "ids", data), tmp_path / "ids2")


def test_the_data_set_of_the_tokenizer_must_be_as_it_was(world, tmp_path):
    folder, _ = world
    arrays, meta = exported(folder / "ids")
    moved = meta["config"] | {"data": meta["config"]["data"] | {"dir": str(folder / "new")}}
    checkpoint.export(tmp_path / "ids", arrays, meta | {"config": moved})
    with pytest.raises(UserError, match=r"cannot describe .*ids as when it .* now: restore"):
        add_items.run(added_settings(tmp_path / "ids", folder / "new"), tmp_path / "ids2")
