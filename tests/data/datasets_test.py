"""From a name to a corpus."""

import pytest

from genrec_jax.data import cold_start, datasets
from genrec_jax.data import corpus as corpus_lib
from genrec_jax.data.sources import amazon, files, movielens, steam, yelp
from genrec_jax.errors import UserError

LEAVE_ONE_OUT = {
    "split": "leave_one_out",
    "valid_share": 0.1,
    "test_share": 0.1,
    "cold_share": 0.0,
    "cold_seed": 0,
}
TABLES = {
    "edition": "",
    "items_file": "",
    "interactions": "",
    "item_id": "item_id",
    "user_id": "user_id",
    "time": "timestamp",
    "text": "",
    "k_core": 0,
    "max_bad_lines": 0,
}
SHOP = {"seed": 0, "num_users": 20, "num_items": 100}


def write(folder):
    folder.mkdir(parents=True)
    (folder / "items.jsonl").write_text('{"item_id": "a", "title": "Soap"}\n')
    (folder / "sequences.txt").write_text("u a\n")


def load(cache, dataset, folder="", **changes):
    settings = TABLES | LEAVE_ONE_OUT | changes
    return datasets.load(cache, dataset=dataset, dir=str(folder), synthetic_shop=SHOP, **settings)


def test_the_synthetic_shop_needs_no_folder(tmp_path):
    corpus = load(tmp_path, "synthetic")
    assert (corpus.num_users, corpus.num_items) == (20, 100)


def test_the_settings_of_a_run_of_before_are_enough(tmp_path):
    settings = {"dataset": "synthetic", "dir": "", "synthetic_shop": SHOP} | TABLES | LEAVE_ONE_OUT
    for name in ("cold_share", "cold_seed", "max_bad_lines", "edition"):
        del settings[name]
    assert datasets.load_again(tmp_path, settings).titles == load(tmp_path, "synthetic").titles


def test_a_folder_may_be_given(tmp_path):
    write(tmp_path / "mine")
    assert load(tmp_path, "files", tmp_path / "mine").titles == ["Soap"]
    assert load(tmp_path, "beauty", tmp_path / "mine").titles == ["Soap"]


@pytest.mark.parametrize(
    "layout, names",
    [
        (files, ["items.jsonl", "sequences.txt"]),
        (files, ["sequences.txt.gz", "movies.csv", "ratings.csv"]),
        (movielens, ["u.data", "u.item"]),
        (movielens, ["ratings.dat", "movies.dat"]),
        (movielens, ["ratings.csv", "movies.csv", "links.csv"]),
        (amazon, ["sequential_data.txt", "datamaps.json"]),
        (amazon, ["reviews_Beauty_5.json.gz", "meta_Beauty.json.gz"]),
        (amazon, ["All_Beauty.jsonl", "meta_All_Beauty.jsonl"]),
        (amazon, ["5core/All_Beauty.csv", "raw_meta_All_Beauty/full-00000-of-00001.parquet"]),
        (yelp, ["yelp_academic_dataset_review.json"]),
        (steam, ["steam_reviews.json.gz", "steam_games.json.gz"]),
        (None, ["ratings.csv", "products.csv"]),
        (None, ["All_Beauty.jsonl", ".cache/meta_All_Beauty.jsonl"]),
        (None, []),
    ],
)
def test_a_layout_is_told_by_its_files(tmp_path, layout, names):
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    if layout:
        assert datasets.recognise(str(tmp_path)) is layout
        return
    with pytest.raises(
        UserError, match=r"no known data set: looked for items.jsonl .*raw_meta_NAM"
    ):
        datasets.recognise(str(tmp_path))


def test_files_may_be_those_of_movielens(tmp_path):
    (tmp_path / "ratings.csv").write_text(
        "userId,movieId,rating,timestamp\n7,20,3.0,900\n7,1,5.0,800\n3,1,0.5,800\nbad\n"
    )
    (tmp_path / "movies.csv").write_text("movieId,title,genres\n1,A (1995),War\n20,B,Drama\n")
    corpus = load(tmp_path, "files", tmp_path, max_bad_lines=1)
    assert (corpus.titles, corpus.user_ids) == (["A (1995)", "B"], ["7", "3"])
    assert (corpus.items.tolist(), corpus.times.tolist()) == ([0, 1, 0], [800, 900, 800])
    assert corpus.facts["data/num_bad_lines"] == 1


def test_named_sets_are_found_in_the_environment(tmp_path, monkeypatch):
    write(tmp_path / "amazon2014-toys")
    monkeypatch.setenv("GENREC_DATA_DIR", str(tmp_path))
    assert load(tmp_path, "toys").titles == ["Soap"]
    with pytest.raises(UserError, match=r"no folder .*amazon2014-beauty"):
        load(tmp_path, "beauty")


def test_a_given_folder_comes_before_the_environment(tmp_path, monkeypatch):
    write(tmp_path / "mine")
    monkeypatch.setenv("GENREC_DATA_DIR", str(tmp_path / "nowhere"))
    assert load(tmp_path, "beauty", tmp_path / "mine").titles == ["Soap"]


def test_without_a_place_the_remedy_is_named(tmp_path, monkeypatch):
    monkeypatch.delenv("GENREC_DATA_DIR", raising=False)
    with pytest.raises(UserError, match=r"amazon: .*--config.data.dir, or what .*data.edition"):
        load(tmp_path, "amazon")
    with pytest.raises(UserError, match=r"files: .*data.dir, or .*data.items and .*interactions$"):
        load(tmp_path, "files")


def test_without_a_place_there_is_a_download(tmp_path, monkeypatch):
    monkeypatch.delenv("GENREC_DATA_DIR", raising=False)
    write(tmp_path / "downloads" / "2014-Toys_and_Games")  # by an earlier run
    assert load(tmp_path, "toys").titles == ["Soap"]


@pytest.mark.parametrize(
    "dataset, folder, edition, message",
    [
        ("beauty", "", "2014/Beauty", "is for the data sets movielens and amazon, not for beauty"),
        ("movielens", "x", "ml-1m", "is to be downloaded, and --config.data.dir names a folder: l"),
        ("movielens", "", "ml-2m", "edition=ml-2m is unknown: give one of ml-100k, "),
        ("movielens", "", "2014/Beauty", "edition=2014/Beauty is none of movielens"),
        ("amazon", "", "ml-1m", "edition=ml-1m is none of amazon"),
    ],
)
def test_editions_that_are_not_to_be_downloaded(tmp_path, dataset, folder, edition, message):
    with pytest.raises(UserError, match=message):
        load(tmp_path, dataset, folder, edition=edition)


def write_tables(folder):
    """Returns the settings of two tables: three users, one of whom comes last."""
    items, interactions = folder / "items.csv", folder / "interactions.csv"
    items.write_text("item_id,title\na,Soap\nb,Brush\n")
    rows = [
        ("u", "a", 1),
        ("u", "b", 2),
        ("v", "a", 3),
        ("u", "a", 4),
        ("v", "b", 5),
        ("w", "b", 6),
    ]
    lines = (f"{user},{item},{time}\n" for user, item, time in rows)
    interactions.write_text("user_id,item_id,timestamp\n" + "".join(lines))
    return {"items_file": str(items), "interactions": str(interactions)}


def test_files_may_be_tables(tmp_path):
    corpus = load(tmp_path, "files", **write_tables(tmp_path))
    assert (corpus.titles, corpus.user_ids) == (["Soap", "Brush"], ["u", "v", "w"])
    assert corpus.items.tolist() == [0, 1, 0, 0, 1, 1]
    assert corpus.times.tolist() == [1, 2, 4, 3, 5, 6]
    assert corpus.facts == {
        "data/num_events_of_unknown_items": 0,
        "data/num_events_without_time": 0,
        "data/num_duplicated_events": 0,
    }


def test_tables_may_be_split_by_time(tmp_path):
    shares = {"split": "temporal", "valid_share": 0.34, "test_share": 0.33}
    corpus = load(tmp_path, "files", **write_tables(tmp_path), **shares)
    # Of the times 1 to 6 a third are for the test, and about a third before it for validation.
    assert (corpus.splits.facts["data/valid_from"], corpus.splits.facts["data/test_from"]) == (2, 5)
    assert corpus.splits.train_ends.tolist() == [1, 3, 5]
    assert corpus.splits.targets["valid"].tolist() == [1, -1, -1]
    assert corpus.splits.targets["test"].tolist() == [-1, 4, -1]
    assert corpus.facts["data/num_duplicated_events"] == 0


@pytest.mark.parametrize("split", ["leave_one_out", "temporal"])
def test_items_are_held_out_after_the_split(tmp_path, split):
    whole = load(tmp_path, "synthetic", split=split)
    cold = load(tmp_path, "synthetic", split=split, cold_share=0.5, cold_seed=3)
    assert not whole.is_cold.any()
    expected = cold_start.hold_out_items(whole, 0.5, 3)
    assert corpus_lib.interactions_fingerprint(cold) == (
        corpus_lib.interactions_fingerprint(expected)
    )
    assert cold.is_cold.tolist() == expected.is_cold.tolist() and cold.is_cold.any()
    assert cold.facts == whole.facts


@pytest.mark.parametrize("share", [-0.1, 1.0])
def test_a_share_that_is_none(tmp_path, share):
    with pytest.raises(UserError, match=rf"cold_share={share} must be at least 0 and below 1"):
        load(tmp_path, "synthetic", cold_share=share)
    with pytest.raises(UserError, match="cold_seed=-1 must be at least 0"):
        load(tmp_path, "synthetic", cold_seed=-1)


def test_other_settings_are_another_prepared_data_set(tmp_path):
    for changes in ({}, {"k_core": 1}, {"text": "title"}):
        load(tmp_path, "files", **write_tables(tmp_path), **changes)
    assert len(list((tmp_path / "prepared" / "corpus").glob("files-*"))) == 3


@pytest.mark.parametrize(
    "dataset, folder, changes, message",
    [
        (
            "synthetic",
            "",
            {"items_file": "i.csv"},
            r"data.items is for tables, and .* synthetic is none",
        ),
        (
            "beauty",
            "x",
            {"interactions": "i.csv"},
            r"data.interactions is for tables, and .*beauty",
        ),
        ("synthetic", "", {"k_core": 5}, r"data.k_core=5: the data set synthetic is generated"),
        (
            "files",
            "x",
            {"items_file": "i.csv", "interactions": "j.csv"},
            r"data.items is .*data.dir for",
        ),
        ("files", "x", {"text": "title"}, r"data.text is for tables, .*: leave one of them out"),
        (
            "files",
            "",
            {"items_file": "i.csv"},
            r"data.items is given without --config.data.interactions",
        ),
        (
            "files",
            "",
            {"interactions": "j.csv"},
            r"interactions is given without .*data.items: ",
        ),
        ("files", "", {"k_core": 5}, r"no place known for .* files: .* or its tables by .*items"),
    ],
)
def test_settings_of_tables_in_part_or_elsewhere(tmp_path, dataset, folder, changes, message):
    with pytest.raises(UserError, match=message):
        load(tmp_path, dataset, folder, **changes)
