"""Recommending from a run that was trained on a folder of files, checked from outside."""

import json
import math
import resource
import shutil

import pytest
from pyarrow import parquet

from configs import recommend as recommend_config
from configs import retrieval as retrieval_config
from genrec_jax import checkpoint, recommender
from genrec_jax import workdir as workdir_lib
from genrec_jax.data.sources import synthetic
from genrec_jax.errors import UserError
from genrec_jax.tasks import recommend, retrieval
from tests.program_test import RETRIEVAL, TOKENIZER

pytestmark = pytest.mark.once
NUM_EVALUATED = 120  # of the 150 who can be


def write_shop(folder):
    """Writes a data set in the compact format, in which some users come back to an item."""
    records = synthetic.source(seed=0, num_users=150, num_items=100).read()
    items = list(records.items)
    folder.mkdir()
    (folder / "items.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    with (folder / "sequences.txt").open("w") as file:
        for number, user in enumerate(records.users):
            item_ids = [items[place]["item_id"] for place in user["items"]]
            if number % 3 == 0:
                item_ids[-1] = item_ids[0]
            print(user["user_id"], *item_ids, file=file)
        print("beginner item-3", file=file)
        print("newcomer", file=file)


def train(tmp_path_factory, more):
    """Returns the data set's folder, the run's, and its metrics."""
    data, folder = tmp_path_factory.mktemp("files") / "shop", tmp_path_factory.mktemp("run")
    write_shop(data)
    config = retrieval_config.get_config("files,smoke")
    tokenizer = TOKENIZER | {"model.hidden_dims": (32,)}
    settings = RETRIEVAL | {"data.dir": str(data), "eval.max_users": NUM_EVALUATED} | more
    settings |= {f"tokenizer_config.{key}": value for key, value in tokenizer.items()}
    config.update_from_flattened_dict(settings)
    metrics = workdir_lib.run_once(folder, config.to_dict(), lambda: retrieval.run(config, folder))
    return data, folder, metrics


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return train(tmp_path_factory, {})


@pytest.fixture(scope="module")
def cold(tmp_path_factory):
    """Returns the same of a run that holds a fifth of the items out, with places for them."""
    return train(tmp_path_factory, {"data.cold_share": 0.2, "eval.unseen_share": 0.3})


def run(trained, workdir, **settings):
    """Returns the metrics and the rows of recommendations.jsonl, if that is the output."""
    config = recommend_config.get_config()
    config.update({"run": str(trained[1])} | settings)
    workdir.mkdir(exist_ok=True)
    metrics = recommend.run(config, workdir)
    assert metrics.pop("time/seconds") > 0
    output = workdir / "recommendations.jsonl"
    lines = output.read_text().splitlines() if output.exists() else []
    return metrics, [json.loads(line) for line in lines]


@pytest.fixture(scope="module")
def everybody(trained, tmp_path_factory):
    """Returns the rows of all users with their whole histories."""
    return run(trained, tmp_path_factory.mktemp("everybody"))[1]


def sequences(trained):
    """Returns each user's items, in the order of the file."""
    lines = (trained[0] / "sequences.txt").read_text().splitlines()
    return {user_id: item_ids for user_id, *item_ids in map(str.split, lines)}


@pytest.mark.parametrize(
    "scorer, split, from_end",
    [
        ("model", "test", 1),
        ("model", "valid", 2),
        ("popularity", "test", 1),
        ("itemknn", "test", 1),
    ],
)
@pytest.mark.parametrize("exclude, suffix", [(False, ""), (True, "_new")])
def test_an_outsider_measures_what_the_run_reports(
    trained, tmp_path, scorer, split, from_end, exclude, suffix
):
    _, rows = run(trained, tmp_path, split=split, exclude_history=exclude, scorer=scorer)
    histories = sequences(trained)
    user_ids = [row["user_id"] for row in rows]
    able = [user_id for user_id, item_ids in histories.items() if len(item_ids) >= 3]
    assert len(able) == 150 and len(user_ids) == NUM_EVALUATED
    assert user_ids == sorted(set(user_ids) & set(able), key=able.index)
    hits, gain, repeated = 0, 0.0, 0
    for row in rows:
        *history, target = histories[row["user_id"]][: 1 - from_end or None]
        repeated += target in history
        assert len(row["item_ids"]) == len(set(row["item_ids"])) == 10
        assert not exclude or not set(row["item_ids"]) & set(history)
        if target in row["item_ids"]:
            hits += 1
            gain += 1 / math.log2(row["item_ids"].index(target) + 2)
    assert hits and (repeated > 25 or split == "valid")
    metrics = trained[2]
    prefix = f"{split}{suffix}" if scorer == "model" else f"baseline/{scorer}/{split}{suffix}"
    assert metrics[f"{prefix}/num_users"] == len(rows)
    assert hits / len(rows) == pytest.approx(metrics[f"{prefix}/recall@10"], abs=1e-9)
    assert gain / len(rows) == pytest.approx(metrics[f"{prefix}/ndcg@10"], abs=1e-9)


@pytest.mark.parametrize("exclude, suffix", [(False, ""), (True, "_new")])
def test_an_outsider_measures_what_the_run_reports_of_cold_items(cold, tmp_path, exclude, suffix):
    metrics = cold[2]
    unseen = set(checkpoint.load_export(cold[1], ["semantic_ids"])[1]["unseen_items"])
    assert len(unseen) == metrics["data/num_cold_items"] > 10
    names = [json.loads(line)["item_id"] for line in (cold[0] / "items.jsonl").open()]
    unseen = {names[place] for place in unseen}
    histories = sequences(cold)
    ends = [item_ids[-1] for item_ids in histories.values() if len(item_ids) >= 3]
    assert metrics["data/num_cold_test_targets"] == sum(item in unseen for item in ends)

    def measure(rows):
        """Returns recall@10 of all users and of those with cold targets, and how many they are."""
        hits = {True: [], False: []}
        for row in rows:
            target = histories[row["user_id"]][-1]
            hits[target in unseen].append(target in row["item_ids"])
        everybody = hits[True] + hits[False]
        of_cold = sum(hits[True]) / len(hits[True])
        return sum(everybody) / len(everybody), of_cold, len(everybody), len(hits[True])

    def num_unseen(row):
        return [sum(item in unseen for item in row["item_ids"][:place]) for place in range(1, 11)]

    _, rows = run(cold, tmp_path / "as", split="test", exclude_history=exclude)
    assert measure(rows) == tuple(
        metrics[f"test{name}{suffix}/{metric}"]
        for metric in ("recall@10", "num_users")
        for name in ("", "_cold")
    )
    assert measure(rows)[1] > 0 and metrics[f"baseline/itemknn/test_cold{suffix}/recall@10"] == 0
    for row in rows:
        assert len(set(row["item_ids"])) == 10
        assert all(3 * place // 10 <= n for place, n in enumerate(num_unseen(row), start=1))
    _, fewer = run(cold, tmp_path / "0", split="test", exclude_history=exclude, unseen_share=0.0)
    assert sum(num_unseen(row)[-1] for row in fewer) < sum(num_unseen(row)[-1] for row in rows)
    assert any(row["scores"] != sorted(row["scores"], reverse=True) for row in rows)
    assert all(row["scores"] == sorted(row["scores"], reverse=True) for row in fewer)


def test_the_tokenizer_of_a_run_holds_out_the_same_items(cold):
    metrics = json.loads((cold[1] / "tokenizer" / "metrics.json").read_text())
    assert metrics["data/num_cold_items"] == cold[2]["data/num_cold_items"]
    assert "tokenizer/held_out_reconstruction_loss" in metrics
    assert 0 < cold[2]["valid/num_users"] <= NUM_EVALUATED == cold[2]["test/num_users"]


def test_a_run_of_before_has_no_cold_items(trained, everybody, tmp_path, monkeypatch):
    load = recommender.Recommender.load

    def load_older(*args, **options):
        older = load(*args, **options)
        for name in ("cold_share", "cold_seed"):
            del older.config["data"][name]
        return older

    monkeypatch.setattr(recommender.Recommender, "load", load_older)
    assert run(trained, tmp_path)[1] == everybody


def test_all_users_with_their_whole_histories(trained, tmp_path):
    metrics, rows = run(trained, tmp_path, k=3)
    histories = sequences(trained)
    assert metrics == {"num_users": len(histories), "num_skipped_items": 0}
    assert [row["user_id"] for row in rows] == list(histories)
    assert {"beginner", "newcomer"} < set(histories)
    titles = {}
    for line in (trained[0] / "items.jsonl").read_text().splitlines():
        item = json.loads(line)
        titles[item["item_id"]] = item["title"]
    for row in rows:
        assert list(row) == ["user_id", "item_ids", "scores", "titles"]
        assert len(row["item_ids"]) == len(row["scores"]) == 3
        assert row["titles"] == [titles[item_id] for item_id in row["item_ids"]]
        assert not set(row["item_ids"]) & set(histories[row["user_id"]])
        assert 0 > row["scores"][0] >= row["scores"][1] >= row["scores"][2]
    examples = json.loads((tmp_path / "examples.json").read_text())
    first = next(iter(histories.values()))
    assert [example["user_id"] for example in examples] == list(histories)[:3]
    assert examples[0] == {
        "user_id": next(iter(histories)),
        "history": [titles[item_id] for item_id in first[-6:]],  # what the model reads
        "recommended": rows[0]["titles"],
    }


def test_a_file_of_the_same_histories_gives_the_same(trained, everybody, tmp_path):
    requests = tmp_path / "requests.jsonl"
    requests.write_text(
        "".join(
            json.dumps({"user_id": user_id, "history": item_ids}) + "\n"
            for user_id, item_ids in sequences(trained).items()
        )
    )
    for name, histories in {"compact": trained[0] / "sequences.txt", "jsonl": requests}.items():
        metrics, rows = run(trained, tmp_path / name, histories=str(histories))
        assert rows == everybody
        assert metrics == {"num_users": len(everybody), "num_skipped_items": 0}


def test_parquet_holds_the_same_whatever_the_batches(trained, everybody, tmp_path, caplog):
    output = tmp_path / "new" / "best.parquet"
    caplog.set_level("INFO", "genrec_jax")
    _, none = run(trained, tmp_path, output=str(output), num_examples=0, batch_size=4)
    assert caplog.messages[-1] == f"the recommendations are in {output}"
    assert none == []
    assert json.loads((tmp_path / "examples.json").read_text()) == []
    rows = parquet.read_table(output).to_pylist()
    for row, other in zip(rows, everybody, strict=True):
        assert row | {"scores": None} == other | {"scores": None}
        assert row["scores"] == pytest.approx(other["scores"], abs=1e-5)


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_nobody_to_recommend_to(trained, tmp_path, suffix):
    histories, output = tmp_path / "nobody.txt", tmp_path / f"best.{suffix}"
    histories.write_text("\n")
    metrics, _ = run(trained, tmp_path, histories=str(histories), output=str(output))
    assert metrics["num_users"] == 0
    rows = parquet.read_table(output).to_pylist() if suffix == "parquet" else output.read_text()
    assert not rows


def test_unknown_items(trained, tmp_path):
    histories = tmp_path / "h.txt"
    histories.write_text("a item-1 item-2\n\nb item-1 x item-2 y\n")
    with pytest.raises(UserError) as error:
        run(trained, tmp_path, histories=str(histories))
    assert str(error.value) == (
        f"{histories}:3: the catalogue lacks 2 of its items ('x', 'y'): correct the history, or "
        "give --config.unknown=skip"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["h.txt"]
    metrics, (a, b) = run(trained, tmp_path, histories=str(histories), unknown="skip")
    assert metrics == {"num_users": 2, "num_skipped_items": 2}
    assert a | {"user_id": "b"} == b


def test_a_full_disk_leaves_the_old_file(trained, tmp_path):
    (tmp_path / "best.jsonl").write_text("old")
    for name in ("best.jsonl", "best.parquet"):
        before = sorted(path.name for path in tmp_path.iterdir())
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
        try:
            with pytest.raises(UserError, match=r"cannot write .*: make room, or choose another"):
                run(trained, tmp_path, output=str(tmp_path / name))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert sorted(path.name for path in tmp_path.iterdir()) == before
    assert (tmp_path / "best.jsonl").read_text() == "old"


def test_outputs_that_cannot_be(trained, tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.jsonl").mkdir()
    with pytest.raises(UserError, match=r"cannot write .*best.jsonl"):
        run(trained, tmp_path, output=str(tmp_path / "file" / "best.jsonl"))
    with pytest.raises(UserError, match=r"folder.jsonl is a folder: give the name of a file"):
        run(trained, tmp_path, output=str(tmp_path / "folder.jsonl"))


def test_runs_that_are_none(trained, tmp_path):
    _, folder, _ = trained
    with pytest.raises(UserError, match=r"is a run of tokenizer, which recommends nothing: give"):
        run(trained, tmp_path, run=str(folder / "tokenizer"))
    copy = tmp_path / "copy"
    shutil.copytree(folder / "export", copy / "export")
    (largest, *_) = sorted(
        (path for path in (copy / "export" / "state").rglob("*") if path.is_file()),
        key=lambda path: -path.stat().st_size,
    )
    largest.write_bytes(largest.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"is damaged: copy it again, or delete .*metrics.json and"):
        run(trained, tmp_path, run=str(copy))


def test_the_data_set_of_the_run_must_still_be_there(trained, tmp_path):
    data, _, _ = trained
    items, moved = data / "items.jsonl", data.with_name("moved")
    lines = items.read_text()
    try:
        items.write_text(lines.replace("Kitchen", "Cuisine"))
        with pytest.raises(UserError, match=r"the data set of .* has changed since .*: give hist"):
            run(trained, tmp_path)
        items.write_text(lines)
        sequences = data / "sequences.txt"
        histories = sequences.read_text()
        sequences.write_text(histories + "late item-1 item-2 item-3\n")
        with pytest.raises(
            UserError, match=r"the histories of .* have changed since .*on their test"
        ):
            run(trained, tmp_path, split="test")
        assert len(run(trained, tmp_path)[1]) == 153  # those of today
        sequences.write_text(histories)
        data.rename(moved)
        with pytest.raises(UserError, match=r"cannot read the data set of .*no folder .*: give hi"):
            run(trained, tmp_path)
        _, rows = run(trained, tmp_path, histories=str(moved / "sequences.txt"))
        assert len(rows) == 152
    finally:
        if moved.exists():
            moved.rename(data)
        items.write_text(lines)
