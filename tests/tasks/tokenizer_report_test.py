"""The report on a tokenizer that was trained on a folder of files, checked from outside."""

import json
import shutil
from collections import Counter

import jax
import numpy as np
import pytest
from matplotlib import image

from configs import rqvae as tokenizer_config
from configs import tokenizer_report as report_config
from genrec_jax import checkpoint
from genrec_jax import workdir as workdir_lib
from genrec_jax.data import datasets, embedders
from genrec_jax.errors import UserError
from genrec_jax.tasks import tokenizer, tokenizer_report
from genrec_jax.tokenizers import codecs
from tests.program_test import TOKENIZER
from tests.tasks.recommend_test import write_shop

pytestmark = pytest.mark.once

NUM_ITEMS, NUM_LEVELS = 100, 3
DUPLICATES = ("item-5", "item-6")  # which have the text of item-4


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Returns the data set's folder, the run's, and its metrics."""
    data, folder = tmp_path_factory.mktemp("files") / "shop", tmp_path_factory.mktemp("run")
    write_shop(data)
    items = [json.loads(line) for line in (data / "items.jsonl").read_text().splitlines()]
    for item in items[5:7]:
        assert item["item_id"] in DUPLICATES
        item |= {key: value for key, value in items[4].items() if key != "item_id"}
    items[9]["categories"] = []
    (data / "items.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    config = tokenizer_config.get_config("files,smoke")
    settings = TOKENIZER | {"model.hidden_dims": (32,), "embedder.name": "lsa"}
    config.update_from_flattened_dict(settings | {"data.dir": str(data)})
    metrics = workdir_lib.run_once(folder, config.to_dict(), lambda: tokenizer.run(config, folder))
    return data, folder, metrics


@pytest.fixture(scope="module")
def world(trained):
    """Returns the corpus, the embeddings, the export and what the model makes of it."""
    arrays, meta = checkpoint.load_export(trained[1], ["state", "codes", "codebooks"])
    corpus = datasets.load(trained[1] / "cache", **meta["config"]["data"])
    embeddings = embedders.embed(corpus, trained[1] / "cache", **meta["config"]["embedder"])
    return corpus, embeddings, arrays, meta


def run(directory, workdir, **settings):
    """Returns the metrics and report.json."""
    config = report_config.get_config()
    config.update({"run": str(directory), "num_items": 0} | settings)
    workdir.mkdir(exist_ok=True)
    metrics = tokenizer_report.run(config, workdir)
    assert metrics.pop("time/seconds") > 0
    return metrics, json.loads((workdir / "report.json").read_text())


@pytest.fixture(scope="module")
def report(trained, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("report")
    return workdir, *run(trained[1], workdir)


def nearest(x, k):
    """Returns the k nearest of each row, by brute force in float64."""
    x = x.astype(np.float64)
    distances = ((x[:, None] - x) ** 2).sum(axis=-1)
    np.fill_diagonal(distances, np.inf)
    return np.argsort(distances, axis=1, kind="stable")[:, :k]


def test_the_report_holds_all_metrics_and_the_groups(report):
    _, metrics, written = report
    groups = written["collision_groups"]
    assert written == metrics | {"collision_groups": groups}
    assert all(isinstance(value, int | float) for value in metrics.values())
    assert len(groups) == metrics["collisions/num_groups"] > 0


def test_usage_and_losses_are_those_of_the_run(trained, world, report):
    _, metrics, _ = report
    for name, value in trained[2].items():
        if name.startswith("tokenizer/") and "loss" not in name:
            assert metrics[name] == pytest.approx(value, rel=1e-6), name
    width = world[1].shape[1]
    assert metrics["reconstruction/prefix_3/error"] * width == pytest.approx(
        trained[2]["tokenizer/reconstruction_loss"], rel=1e-5
    )


def test_reconstruction(world, report):
    _, embeddings, arrays, meta = world
    model, _ = codecs.NEURAL["rqvae"](meta["config"]["model"], embeddings.shape[1])
    module = model.bind(arrays["state"]["params"])
    sums = np.zeros((NUM_ITEMS, arrays["codebooks"].shape[2]))
    with jax.default_matmul_precision("highest"):
        latents = np.asarray(module.encode(embeddings))
        for level in range(NUM_LEVELS):
            sums = sums + arrays["codebooks"][level][arrays["codes"][:, level]]
            lost = embeddings - np.asarray(module.decoder(sums.astype(np.float32)))
            expected = {
                "error": (lost**2).mean(),
                "relative_error": (lost**2).mean() / embeddings.var(axis=0).mean(),
                "relative_latent_error": ((latents - sums) ** 2).mean()
                / latents.var(axis=0).mean(),
            }
            for name, value in expected.items():
                key = f"reconstruction/prefix_{level + 1}/{name}"
                assert report[1][key] == pytest.approx(value, rel=1e-4), key


def test_categories(world, report):
    corpus, _, arrays, _ = world
    assert corpus.categories[9] == () and len(corpus.categories[0]) == 3
    for depth in (1, 2, 3):
        known = [item for item in range(NUM_ITEMS) if item != 9]
        classes = [corpus.categories[item][:depth] for item in known]
        assert report[1][f"categories/depth_{depth}/num_categories"] == len(set(classes))
        assert report[1][f"categories/depth_{depth}/num_items"] == NUM_ITEMS - 1
        for length in (1, 2, 3):
            prefixes = [tuple(arrays["codes"][item, :length]) for item in known]
            pairs = Counter(zip(prefixes, classes, strict=True))
            largest = Counter()
            for (prefix, _), count in pairs.items():
                largest[prefix] = max(largest[prefix], count)
            key = f"categories/depth_{depth}/prefix_{length}/purity"
            assert report[1][key] == pytest.approx(largest.total() / (NUM_ITEMS - 1)), key


def test_collisions(world, report):
    corpus, _, arrays, _ = world
    ids = [tuple(row) for row in arrays["codes"].tolist()]
    items_of = {}
    for item, codes in zip(corpus.item_ids, ids, strict=True):
        items_of.setdefault(codes, []).append(item)
    shared = {codes: items for codes, items in items_of.items() if len(items) > 1}
    groups = report[2]["collision_groups"]
    assert {tuple(group["codes"]): group["item_ids"] for group in groups} == shared
    sizes = [group["num_items"] for group in groups]
    assert sizes == sorted(map(len, shared.values()), reverse=True)
    metrics = report[1]
    assert metrics["collisions/num_items"] == sum(sizes)
    assert metrics["collisions/num_collisions"] == NUM_ITEMS - len(items_of)
    assert metrics["collisions/num_items_of_equal_text"] == 3
    # Equal texts give equal codes, so two of the collisions are those of the duplicates.
    assert metrics["collisions/explained_by_text"] * (NUM_ITEMS - len(items_of)) == pytest.approx(2)
    assert metrics["collisions/unique_but_for_text"] == pytest.approx(
        len(items_of) / (NUM_ITEMS - 2)
    )
    (group,) = (group for group in groups if "item-4" in group["item_ids"])
    assert set(DUPLICATES) < set(group["item_ids"])
    assert group["num_texts"] == group["num_items"] - 2
    titles = dict(zip(corpus.item_ids, corpus.titles, strict=True))
    assert group["titles"] == [titles[item] for item in group["item_ids"]]


def test_neighbours(world, report):
    _, embeddings, arrays, _ = world
    codes = arrays["codes"]
    near = nearest(embeddings, 10)
    for length in (1, 2, 3):
        shares = (codes[near, :length] == codes[:, None, :length]).all(axis=-1)
        key = f"neighbours/prefix_{length}/shared"
        # Of neighbours that are equally far, the search in float32 may take others.
        assert report[1][key] == pytest.approx(shares.mean(), abs=3 / shares.size), key
    assert report[1]["neighbours/chance_overlap"] == pytest.approx(10 / (NUM_ITEMS - 1))
    codewords = np.stack([arrays["codebooks"][q][codes[:, q]] for q in range(NUM_LEVELS)])
    near_quantized = nearest(codewords.sum(axis=0), 10)
    both = [len({*a} & {*b}) for a, b in zip(near, near_quantized, strict=True)]
    assert report[1]["neighbours/overlap"] == pytest.approx(np.mean(both) / 10, abs=0.005)


def test_a_sample_of_items_is_seeded(trained, report, tmp_path):
    some, _ = run(trained[1], tmp_path, num_items=20)
    assert some == run(trained[1], tmp_path, num_items=20)[0]
    other, _ = run(trained[1], tmp_path, num_items=20, seed=1)
    for metrics in (some, other):
        assert abs(metrics["neighbours/overlap"] - report[1]["neighbours/overlap"]) < 0.2
    assert some["neighbours/overlap"] != other["neighbours/overlap"]


def test_pictures(report):
    workdir, _, _ = report
    names = {path.name for path in workdir.iterdir()}
    assert names == {"report.json", "usage.png", "categories.png", "tree.png"}
    for name in ("usage.png", "categories.png", "tree.png"):
        height, width, _ = image.imread(workdir / name).shape
        assert 300 < height < 3000 and 1500 < width < 3000


def test_fewer_groups_and_other_numbers_of_neighbours(trained, report, tmp_path):
    metrics, written = run(trained[1], tmp_path, num_groups=1, num_neighbours=99)
    assert written["collision_groups"] == report[2]["collision_groups"][:1]
    assert metrics["neighbours/overlap"] == 1  # all are neighbours of all
    assert metrics["neighbours/prefix_1/shared"] == pytest.approx(
        metrics["neighbours/prefix_1/chance_shared"]
    )
    with pytest.raises(UserError, match=r"num_neighbours=100 must be below the number of items, 1"):
        run(trained[1], tmp_path, num_neighbours=100)


def exported(world, folder, task="tokenizer", **changes):
    """Returns a folder with the run's export, some of which is changed."""
    _, _, arrays, meta = world
    meta = meta | {key: value for key, value in changes.items() if key in meta}
    arrays = arrays | {key: value for key, value in changes.items() if key in arrays}
    config = meta["config"] | {"task": task}
    checkpoint.export(folder, arrays, meta | {"config": config})
    return folder


def test_what_is_done_about_collisions_does_not_matter(trained, report, tmp_path):
    config = tokenizer_config.get_config("files,smoke")
    config.update(checkpoint.load_export(trained[1], ())[1]["config"])
    config.collisions = "extra_code"
    folder, cache_dir = tmp_path / "ids", trained[1] / "cache"
    folder.mkdir()
    tokenizer.run(config, folder, cache_dir)
    metrics, _ = run(folder, tmp_path / "report", cache_dir=str(cache_dir))
    assert metrics == report[1]
    assert not (folder / "cache").exists()


def test_a_retrieval_run_whose_tokenizer_lies_in_it(world, trained, report, tmp_path):
    shutil.copytree(trained[1] / "export", tmp_path / "tokenizer" / "export")
    shutil.copytree(trained[1] / "cache", tmp_path / "cache")
    metrics, _ = run(tmp_path, tmp_path / "report")
    assert metrics == report[1]
    assert not (tmp_path / "tokenizer" / "cache").exists()


def test_without_categories_there_is_no_picture_of_them(trained, tmp_path):
    data = tmp_path / "shop"
    shutil.copytree(trained[0], data)
    items = [json.loads(line) for line in (data / "items.jsonl").read_text().splitlines()]
    for item in items:
        item |= {"text": f"{item['title']} of {item['brand']}", "categories": [[]]}
    (data / "items.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    config = tokenizer_config.get_config("files,smoke")
    settings = TOKENIZER | {"model.hidden_dims": (32,), "num_steps": 20, "eval_every": 20}
    config.update_from_flattened_dict(settings | {"data.dir": str(data)})
    folder = tmp_path / "ids"
    workdir_lib.run_once(folder, config.to_dict(), lambda: tokenizer.run(config, folder))
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "categories.png").touch()  # of a run before
    metrics, _ = run(folder, tmp_path / "report")
    assert {path.name for path in (tmp_path / "report").glob("*.png")} == {"usage.png", "tree.png"}
    assert not [name for name in metrics if name.startswith("categories/")]


def test_refusals(trained, world, tmp_path):
    cache_dir = str(trained[1] / "cache")
    retrieval = exported(world, tmp_path / "retrieval", task="retrieval")
    with pytest.raises(UserError, match=r"is a run of retrieval and holds no tokenizer: give the"):
        run(retrieval, tmp_path / "report", cache_dir=cache_dir)
    other = exported(world, tmp_path / "other", corpus="another")
    with pytest.raises(UserError, match=r"cannot describe .*other as .*: its catalogue is another"):
        run(other, tmp_path / "report", cache_dir=cache_dir)
    other = exported(world, tmp_path / "other", training="others")
    with pytest.raises(
        UserError, match=r"cannot describe .*: its interactions are others now: restore"
    ):
        run(other, tmp_path / "report", cache_dir=cache_dir)
    damaged = exported(world, tmp_path / "damaged")
    file = max((damaged / "export").rglob("*"), key=lambda path: path.stat().st_size)
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    with pytest.raises(UserError, match=r"is damaged: copy it again"):
        run(damaged, tmp_path / "report", cache_dir=cache_dir)
    assert not list((tmp_path / "report").iterdir())


def test_a_data_set_that_has_gone(world, tmp_path):
    meta = world[3]
    data = meta["config"]["data"] | {"dir": str(tmp_path / "gone")}
    folder = exported(world, tmp_path / "ids", config=meta["config"] | {"data": data})
    with pytest.raises(UserError, match=r"cannot describe the items of .*: no folder .*gone"):
        run(folder, tmp_path / "report")
