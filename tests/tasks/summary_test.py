"""Mean and spread over runs and users, worked by hand."""

import json

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

from configs import summary as summary_config
from genrec_jax.errors import UserError
from genrec_jax.tasks import summary

USERS = ["a", "b", "c", "d"]


def write(folder, seed, ranks, users=USERS, **settings):
    """Writes a run's folder with these ranks of the targets, None where it is not found."""
    folder.mkdir()
    config = {"seed": seed, "tokenizer": f"ids-{seed}", "model": {"dim": 8}} | settings
    (folder / "config.json").write_text(json.dumps(config))
    hits = [rank is not None and rank <= 10 for rank in ranks]
    metrics = {
        "test/recall@10": np.mean(hits),
        "valid/ndcg@10": 0.1 * (seed + 1),
        "train/loss": 3.0,
        "train/best_step": 100 * seed,
        "model/num_parameters": 7,
        "time/seconds": 60.0,
    }
    (folder / "metrics.json").write_text(json.dumps(metrics))
    columns = {"user_id": users, "item_id": ["x"] * len(users)}
    columns["test"] = pyarrow.array(ranks, pyarrow.int32())
    parquet.write_table(pyarrow.table(columns), folder / "ranks.parquet")
    return folder


def run(*folders, **settings):
    config = summary_config.get_config()
    config.update({"runs": ",".join(map(str, folders))} | settings)
    return summary.run(config, None)


def test_mean_and_spread(tmp_path):
    folders = [
        write(tmp_path / "0", 0, [1, 12, None, 3]),
        write(tmp_path / "1", 1, [1, 2, None, None]),
        write(tmp_path / "2", 2, [1, 10, None, 11]),
    ]
    values = run(*folders)
    assert values["num_runs"] == 3 and values["num_users"] == 4
    assert values["mean/test/recall@10"] == pytest.approx(0.5)
    assert values["std/test/recall@10"] == 0
    assert values["mean/valid/ndcg@10"] == pytest.approx(0.2)
    assert values["std/valid/ndcg@10"] == pytest.approx(0.1)  # of a sample: divided by 2
    assert values["mean/train/best_step"] == 100 and values["mean/model/num_parameters"] == 7
    assert "mean/train/loss" not in values
    # Of the users' means 1, 2/3, 0 and 1/3 each resample draws four.
    assert 0 <= values["low/test/recall@10"] < 0.5 < values["high/test/recall@10"] <= 1
    # Only user a ever has a first place, in all runs: the mean of a resample is a multiple of 1/4.
    assert values["low/test/recall@1"] == 0
    assert values["high/test/recall@1"] in (0.5, 0.75)
    assert run(*folders) == values


def test_a_single_run_has_no_spread_over_seeds(tmp_path):
    values = run(write(tmp_path / "0", 0, [1, 1, 1, 1]))
    assert not [name for name in values if name.startswith("std/")]
    assert values["low/test/ndcg@10"] == values["high/test/ndcg@10"] == 1


def test_runs_that_are_not_of_one_kind(tmp_path):
    first = write(tmp_path / "0", 0, [1] * 4)
    wide = write(tmp_path / "wide", 1, [1] * 4, model={"dim": 16})
    again = write(tmp_path / "again", 0, [1] * 4)
    others = write(tmp_path / "others", 1, [1] * 4, users=["a", "b", "c", "e"])
    for runs, message in (
        ((), "no --config.runs: give folders"),
        ((first, first), "names a folder twice"),
        ((first, wide), r"wide is no other seed of .*0: model.dim differs; give runs that"),
        ((first, again), r"again has the seed of .*0: give each once"),
        ((first, others), r"others was tested on other users than .*0: give runs with"),
        ((first, tmp_path), r"no finished run of .* in .*: config.json is missing; run that first"),
    ):
        with pytest.raises(UserError, match=message):
            run(*runs)
    with pytest.raises(UserError, match=r"num_resamples=0 must be at least 1"):
        run(first, num_resamples=0)
