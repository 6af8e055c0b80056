"""A user's mistakes end in one line and exit status 2, with nothing begun."""

import gzip
import io
import json
import pathlib

import numpy as np
import pytest
from absl import flags

from genrec_jax import cli, main
from genrec_jax.errors import exit_on_error

ROOT = pathlib.Path(__file__).parents[1]
SHOP = "--config.data.synthetic_shop.num_users=30"


@pytest.fixture
def run(capsys, monkeypatch):
    """Returns a function that runs a command line in this process, in the project's root."""
    monkeypatch.chdir(ROOT)
    monkeypatch.delenv("GENREC_DATA_DIR", raising=False)

    def run(*arguments):
        """Returns the exit status and what was printed."""
        argv = ["main", *arguments]
        monkeypatch.setattr("sys.argv", argv)  # where config flags look for overrides
        try:
            rest = exit_on_error(main.parse_flags)(argv)
            exit_on_error(main.main)(rest)
            status = 0
        except SystemExit as exit:
            status = exit.code
        finally:
            for name in [name for name in flags.FLAGS if name.startswith("config.")]:
                delattr(flags.FLAGS, name)
            flags.FLAGS.unparse_flags()
            flags.FLAGS.mark_as_parsed()
        return status, *capsys.readouterr()

    return run


RQVAE, RETRIEVAL = "--config=configs/rqvae.py:smoke", "--config=configs/retrieval.py:smoke"
FSQ, KMEANS = "--config=configs/fsq.py:smoke", "--config=configs/residual_kmeans.py:smoke"


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "no --config: give one, such as --config=configs/rqvae.py"),
        (["--config=configs/nope.py"], "no config file 'configs/nope.py'; there are configs/add"),
        (["--config=configs/rqvae.py:beaty"], "unknown data set 'beaty': choose one of synthetic"),
        (["--config=configs/rqvae.py:toys,sports"], "names 2 data sets"),
        (
            [RQVAE, "--config.num_step=3"],
            "unknown config key 'num_step'; the nearest are num_steps",
        ),
        (
            [RQVAE, "--config.nosuch=3"],
            "'nosuch'; the nearest are mesh, optimizer.schedule, model.distance",
        ),
        ([RQVAE, "--config.model.code_dims", "3"], "unknown config key 'model.code_dims'"),
        ([RQVAE, "--config.num_steps=many"], "num_steps"),
        ([RQVAE, "--config.num_steps=2.5"], "num_steps"),
        ([RQVAE, "--workdri=x"], "Unknown command line flag 'workdri'"),
        ([RQVAE, "--config.model=3"], "is not a dict"),
        ([RQVAE, "--config.embedder.standardize=maybe"], "embedder.standardize"),
        ([RQVAE, "--config.embedder.name=precomputed"], "no file '' of precomputed embeddings"),
        (
            [RQVAE, "--config.batch_size=30"],
            "--config.batch_size=30 cannot be split over 4 devices",
        ),
        ([RQVAE, "--config.optimizer.schedule=linear"], "unknown schedule 'linear'"),
        ([RQVAE, "--config.embedder.name=bert"], "unknown embedder 'bert'"),
        ([RQVAE, "--config.data.dataset=books"], "unknown data set 'books': choose one of synth"),
        ([RQVAE, "--config.task=train"], "unknown task 'train': choose one of add_items"),
        ([RETRIEVAL, "--config.trackers=comet"], "no tracker 'comet': choose of tensorboard, wand"),
        ([RQVAE, "--config.seed=-1"], "--config.seed=-1 must be at least 0"),
        ([RQVAE, "--config.steps_per_call=0"], "--config.steps_per_call=0 must be at least 1"),
        ([RQVAE, "--config.profile.first_step=-1"], "profile.first_step=-1 must be at least 0"),
        (
            [RQVAE, "--config.profile.first_step=400", "--config.profile.num_steps=1"],
            "end after the last step, --config.num_steps=400: lower one of them",
        ),
        ([RQVAE, "--config.accumulation=0"], "--config.accumulation=0 must be at least 1"),
        ([RQVAE, "--config.optimizer.clip_norm=-1.0"], "optimizer.clip_norm=-1.0 must be at least"),
        (
            [RQVAE, "--config.model.residual_gradient=no"],
            "is unknown: choose one of estimator, pass",
        ),
        ([RQVAE, "--config.model.estimator=ste"], "choose one of straight_through, rotation, gum"),
        ([RQVAE, "--config.model.distance=l1"], "choose one of euclidean, cosine"),
        ([RQVAE, "--config.model.temperature=0.0"], "model.temperature=0.0 must be above 0"),
        ([RQVAE, "--config.model.simvq=True"], "none can start anew: give --config.reset_every=0"),
        ([RQVAE, "--config.model.final_temperature=-1.0"], "final_temperature=-1.0 must be above"),
        ([RQVAE, "--config.model.codebook_ema=1.0"], "codebook_ema=1.0 must be at least 0 and bel"),
        (
            [RQVAE, "--config.model.codebook_ema=0.9", "--config.model.estimator=gumbel"],
            "moves codewords by averages, but simvq and the estimator gumbel teach them",
        ),
        ([RQVAE, "--config.model.train_balance=some"], "choose one of none, last, all"),
        ([RQVAE, "--config.model.assign_balance=some"], "choose one of none, last, all"),
        ([RQVAE, "--config.model.level_sizes=(64,0)"], "level_sizes=(64, 0) must be whole numbers"),
        ([RQVAE, "--config.collisions=ignore"], "choose one of extra_code, reassign"),
        (
            [RQVAE, "--config.model.level_sizes=(2000,2)", "--config.kmeans_items=0"],
            "items to train on are fewer than the 2000 codes of a level",
        ),
        (
            [RQVAE, "--config.model.num_categorical=3"],
            "num_categorical=3: so many of the 126 columns of the embeddings, the last ones, must",
        ),
        (
            [FSQ, "--config.model.level_shapes=((8,1),)"],
            "level_shapes=((8, 1),) must be a tuple of",
        ),
        ([KMEANS, "--config.model.num_init=0"], "--config.model.num_init=0 must be at least 1"),
        (
            [RQVAE, "--config.data.cold_share=1.0"],
            "--config.data.cold_share=1.0 must be at least 0",
        ),
        (
            [RQVAE, "--config.data.cold_share=0.001"],
            "to predict in the test is none: give more, or",
        ),
        ([RQVAE, "--config.data.cold_seed=-1"], "--config.data.cold_seed=-1 must be at least 0"),
        ([RQVAE, "--config.data.synthetic_shop.num_items=9"], "num_items=9 must be at least 100"),
        ([RETRIEVAL, "--config.model.activation=tanh"], "choose one of relu, gelu, silu"),
        ([RETRIEVAL, "--config.dtype=half"], "choose one of auto, float32, bfloat16"),
        ([RETRIEVAL, "--config.model.dropout=1.0"], "--config.model.dropout=1.0 must be at least"),
        (
            [RETRIEVAL, "--config.eval.unseen_share=1.0"],
            "--config.eval.unseen_share=1.0 must be at",
        ),
        ([RETRIEVAL, "--config.num_examples=-1"], "--config.num_examples=-1 must be at least 0"),
        (
            [RETRIEVAL, "--config.tokenizer_config.batch_size=30"],
            "--config.tokenizer_config.batch_size=30 cannot be split over 4 devices",
        ),
        (
            [RETRIEVAL, "--config.tokenizer_config.embedder.name=precomputed"],
            "give an .npy or a .parquet by --config.tokenizer_config.embedder.path",
        ),
        (
            [RQVAE, "--config.model.codebook_size=4096", "--config.kmeans_items=4095"],
            "--config.kmeans_items=4095 are fewer",
        ),
        ([RETRIEVAL, "--config.eval.num_beams=10"], "num_beams=10 cannot fill the 20 places"),
        ([RETRIEVAL, "--config.eval.batch_size=7"], "--config.eval.batch_size=7 cannot be split"),
        ([RETRIEVAL, "--config.accumulation=5"], "4 devices and 5 accumulated parts: make it a"),
        ([RETRIEVAL, "--config.tokenizer=nowhere"], "no finished run in nowhere"),
        (["--config=configs/rqvae.py:amazon"], "no place known for the data set amazon"),
        (["--config=configs/rqvae.py:files", "--config.data.dir=nowhere"], "no folder nowhere"),
    ],
)
def test_one_line_that_names_the_mistake(run, tmp_path, arguments, message):
    status, out, err = run(*arguments, SHOP, f"--workdir={tmp_path}")
    assert status == 2
    assert out == ""
    (line,) = err.splitlines()
    assert line.startswith("error: ") and message in line
    assert not (tmp_path / "metrics.json").exists() and not (tmp_path / "config.json").exists()


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--config=configs/recommend.py:beauty"], "takes no argument such as 'beauty'"),
        (["--config.data.dir=x"], "unknown config key 'data.dir'"),
        ([], "no --config.run: give the folder of a finished retrieval run"),
        (["--config.run=nowhere"], "no finished run in nowhere: "),
        (["--config.run=x", "--config.k=0"], "--config.k=0 must be at least 1"),
        (["--config.run=x", "--config.split=train"], "is unknown: choose one of all, valid, test"),
        (["--config.run=x", "--config.unseen_share=1"], "unseen_share=1.0 must be at least 0 and"),
        (["--config.run=x", "--config.unseen_share=many"], "unseen_share"),
        (
            ["--config.run=x", "--config.unseen_share=.1", "--config.scorer=itemknn"],
            "--config.unseen_share=0.1 is for the model, not for --config.scorer=itemknn: leave",
        ),
        (["--config.run=x", "--config.unknown=ignore"], "is unknown: choose one of error, skip"),
        (
            ["--config.run=x", "--config.output=a.csv"],
            "--config.output=a.csv must end in .jsonl or .parquet",
        ),
        (
            ["--config.run=x", "--config.split=test", "--config.histories=h.txt"],
            "--config.split=test is for the run's own users: leave it out, or leave out",
        ),
    ],
)
def test_one_line_that_names_the_mistake_in_recommending(run, tmp_path, arguments, message):
    if not arguments or not arguments[0].startswith("--config="):
        arguments = ["--config=configs/recommend.py", *arguments]
    status, out, err = run(*arguments, f"--workdir={tmp_path}")
    assert status == 2 and out == ""
    (line,) = err.splitlines()
    assert line.startswith("error: ") and message in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "no --config.run: give the folder of a finished tokenizer run, or of a retrieval run"),
        (["--config.run=nowhere"], "no finished run in nowhere: "),
        (["--config.run=x", "--config.num_neighbours=0"], "--config.num_neighbours=0 must be at"),
        (["--config.run=x", "--config.num_items=-1"], "--config.num_items=-1 must be at least 0"),
    ],
)
def test_one_line_that_names_the_mistake_in_reporting(run, tmp_path, arguments, message):
    arguments = ["--config=configs/tokenizer_report.py", *arguments]
    status, out, err = run(*arguments, f"--workdir={tmp_path}")
    assert status == 2 and out == ""
    (line,) = err.splitlines()
    assert line.startswith("error: ") and message in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--config=configs/profile_quantize.py:beauty"], "takes smoke or no argument, not 'beau"),
        (
            ["--config=configs/profile_quantize.py:smoke", "--config.modes=eval"],
            "--config.modes=('eval',) must be one or more of assign, encode, train",
        ),
    ],
)
def test_one_line_that_names_the_mistake_in_profiling(run, tmp_path, arguments, message):
    status, out, err = run(*arguments, f"--workdir={tmp_path}")
    assert status == 2 and out == ""
    (line,) = err.splitlines()
    assert line.startswith("error: ") and message in line
    assert list(tmp_path.iterdir()) == []


COMPACT = {
    "items.jsonl": [
        {"item_id": number, "title": f"{kind} {number}"}
        for number, kind in enumerate(["lamp", "desk", "lamp", "desk"], start=1)
    ],
    "sequences.txt": ["ada 1 2 3 4", "bo 4 3 2"],
}
TABLES = {
    "items.csv": ["id,title", "a,red lamp", "b,red desk", "c,blue lamp"],
    "events.csv": ["user,id,time", "u,a,1", "u,b,2", "u,c,3", "v,b,5", "v,a,6", "v,c,7"],
}
WITH_TABLES = [
    "items=items.csv",
    "interactions=events.csv",
    "item_id=id",
    "user_id=user",
    "time=time",
]


def lines(*rows):
    return "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)


def compressed(text):
    return gzip.compress(text.encode())


def npy(array):
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


EMBEDDINGS = np.arange(8.0).reshape(4, 2)
PRECOMPUTED = ["embedder.name=precomputed", "embedder.path=e.npy"]


@pytest.mark.parametrize(
    "changes, settings, message",
    [
        # The compact format.
        ({"items.jsonl": None}, [], "has no items.jsonl or items.jsonl.gz, which the compact"),
        ({"sequences.txt": None}, [], "has no sequences.txt or sequences.txt.gz"),
        ({"items.jsonl": ""}, [], "items.jsonl: no items"),
        ({"sequences.txt": "\n"}, [], "sequences.txt: no users"),
        ({"items.jsonl": '{"item_id": 1}\n{"item_id": \n'}, [], "items.jsonl:2: not JSON: "),
        ({"items.jsonl": '{"item_id": 1}\n[2]\n'}, [], "items.jsonl:2: each line must be a JSON"),
        ({"items.jsonl": '{"item_id": 1}\n' * 2}, [], "items.jsonl:2: item_id 1 was already on"),
        ({"items.jsonl": '{"item_id": 1, "title": 5}\n'}, [], "items.jsonl:1: title must be a"),
        (
            {
                "items.jsonl": None,
                "items.jsonl.gz": compressed(lines(*COMPACT["items.jsonl"]))[:-9],
            },
            [],
            "items.jsonl.gz: damaged gzip file (",
        ),
        ({"items.jsonl": b"\xff\n"}, [], "items.jsonl:1: not UTF-8: "),
        (
            {"sequences.txt": "ada 1 2\nbo 3 9\n"},
            [],
            "sequences.txt:2: item 9 is not in items.jsonl: add it there or remove it here",
        ),
        ({"sequences.txt": "ada 1 2\nada 3\n"}, [], "sequences.txt:2: user ada was already on"),
        ({"timestamps.txt": "ada 1 2\nbo 1 2 3\n"}, [], "timestamps.txt:1: expected user ada with"),
        (
            {"timestamps.txt": "ada 1 2 3 4\nbo 1 2 x\n"},
            [],
            "timestamps.txt:2: times must be whole",
        ),
        (
            {},
            ["data.split=temporal"],
            "--config.data.split=temporal needs times, and this data set",
        ),
        ({}, ["data.split=random"], "--config.data.split='random' is unknown: choose one of leave"),
        ({}, ["data.valid_share=0.9"], "their sum below 1"),
        ({}, ["data.dir=elsewhere"], "no folder elsewhere: give the folder of one data set"),
        # The catalogue and the model.
        ({}, ["model.codebook_size=8"], "4 items to train on are fewer than the 8 codes"),
        ({}, ["held_out_share=0.75"], "1 items to train on are fewer than the 2 codes"),
        ({}, ["held_out_share=1.0"], "--config.held_out_share=1.0 must be at least 0 and below 1"),
        (
            {"items.jsonl": lines({"item_id": 1}, {"item_id": 2}), "sequences.txt": "ada 1 2\n"},
            [],
            "embedder lsa: the 2 texts have fewer than two words, or none that occurs",
        ),
        # Embeddings of one's own.
        ({}, PRECOMPUTED, "no file 'e.npy' of precomputed embeddings: give an .npy or a .parquet"),
        ({"e.npy": npy(EMBEDDINGS[:3])}, PRECOMPUTED, "has 3 rows, the catalogue has 4 items"),
        (
            {"e.npy": npy(np.where(EMBEDDINGS == 5, np.nan, EMBEDDINGS))},
            PRECOMPUTED,
            "every value must be a finite number in float32, but row 2 (from 0), of item 3, is not",
        ),
        ({"e.npy": npy(EMBEDDINGS)[:-1]}, PRECOMPUTED, "e.npy is neither an .npy array of numbers"),
        ({"e.npy": npy(np.array(["a"] * 4))}, PRECOMPUTED, "e.npy: expected one array [items, wid"),
        # Tables.
        (TABLES, [*WITH_TABLES, "data.dir=."], "leave one of them out"),
        (
            TABLES,
            WITH_TABLES[:1],
            "--config.data.items is given without --config.data.interactions",
        ),
        (TABLES, [*WITH_TABLES, "items=i.xlsx"], "--config.data.items=i.xlsx must end in .csv"),
        (
            TABLES,
            [*WITH_TABLES, "items=i.csv"],
            "no file i.csv: give a table by --config.data.items",
        ),
        (
            TABLES,
            [*WITH_TABLES, "time=when"],
            "events.csv has no column 'when': name it by --config",
        ),
        (
            TABLES,
            [*WITH_TABLES, "text=name"],
            "items.csv has no column 'name': name it by --config.d",
        ),
        (TABLES, [*WITH_TABLES, "k_core=4"], "no users and items are left that have 4 events each"),
        (TABLES, [*WITH_TABLES, "k_core=-1"], "--config.data.k_core=-1 must be at least 0"),
        (
            TABLES | {"events.csv": "user,id,time\nu,A,1\n"},
            WITH_TABLES,
            "none of its items is in the table of items: the first id is 'A' here and 'a' there",
        ),
        (TABLES | {"events.csv": "user,id,time\nu,a\n"}, WITH_TABLES, "events.csv:2: "),
        (
            TABLES | {"events.csv": "user,id,time\nu,a,no\n"},
            WITH_TABLES,
            "events.csv:2: time 'no' is",
        ),
        (
            TABLES | {"events.csv": "user,id,time\n,a,3\n"},
            WITH_TABLES,
            "events.csv:2: no user: eve",
        ),
        (TABLES | {"items.csv": "id,title\na,x\na,y\n"}, WITH_TABLES, "items.csv:3: id a was alre"),
        (TABLES | {"items.csv": ""}, WITH_TABLES, "items.csv"),
        (
            TABLES | {"events.csv.gz": compressed(lines(*TABLES["events.csv"]))[:-9]},
            [*WITH_TABLES, "interactions=events.csv.gz"],
            "events.csv.gz: damaged gzip file (",
        ),
        (
            TABLES | {"events.jsonl": '{"user": 1, "id": "a", "time": 3}\n{"user": 2\n'},
            [*WITH_TABLES, "interactions=events.jsonl"],
            "events.jsonl:2: not JSON: ",
        ),
        (
            TABLES | {"events.parquet": b"PAR1 no"},
            [*WITH_TABLES, "interactions=events.parquet"],
            "events.parquet: not a Parquet file, or a damaged one",
        ),
    ],
)
def test_one_line_that_names_the_mistake_in_the_files(
    run, tmp_path, monkeypatch, changes, settings, message
):
    with_tables = changes.keys() >= TABLES.keys()
    contents = changes if with_tables else COMPACT | changes
    for name, content in contents.items():
        if content is not None:
            content = lines(*content) if isinstance(content, list) else content
            content = content.encode() if isinstance(content, str) else content
            (tmp_path / name).write_bytes(content)
    monkeypatch.chdir(tmp_path)
    settings = settings if with_tables else ["data.dir=.", *settings]
    of_data = {"items", "interactions", "item_id", "user_id", "time", "text", "k_core"}
    given = [
        f"--config.{'data.' if setting.partition('=')[0] in of_data else ''}{setting}"
        for setting in settings
    ]
    smallest = ["--config.model.codebook_size=2", "--config.batch_size=8"]
    status, out, err = run(
        f"--config={ROOT}/configs/rqvae.py:files,smoke", *smallest, *given, "--workdir=run"
    )
    assert status == 2 and out == ""
    (line,) = err.splitlines()
    assert line.startswith("error: ") and message in line
    assert not (tmp_path / "run" / "metrics.json").exists()
    assert not (tmp_path / "run" / "config.json").exists()
    assert not list(tmp_path.glob("run/**/*.npy")) and not list(tmp_path.glob("run/**/export"))


@pytest.mark.parametrize(
    "place, message",
    [
        ("--workdir", "cannot use taken/run as --workdir: Not a directory"),
        ("--config.cache_dir", "taken/run: Not a directory: choose another path, or allow this"),
    ],
)
def test_places_that_cannot_be_written(run, tmp_path, monkeypatch, place, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").write_text("a file")
    arguments = [f"--config={ROOT}/configs/prepare.py", SHOP, "--workdir=run", f"{place}=taken/run"]
    status, out, err = run(*arguments)
    assert status == 2 and out == ""
    (line,) = err.splitlines()
    assert line.startswith("error: ") and message in line


def test_tables_and_the_compact_format_reach_the_corpus(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, content in (COMPACT | TABLES).items():
        (tmp_path / name).write_text(lines(*content))
    prepare = f"--config={ROOT}/configs/prepare.py:files"
    for workdir, settings in (("compact", ["dir=."]), ("tables", WITH_TABLES)):
        given = [f"--config.data.{setting}" for setting in settings]
        status, _, err = run(prepare, *given, f"--workdir={workdir}")
        assert status == 0, err
    compact, tables = (
        json.loads((tmp_path / workdir / "metrics.json").read_text())
        for workdir in ("compact", "tables")
    )
    assert (compact["data/num_items"], compact["data/num_interactions"]) == (4, 7)
    assert (tables["data/num_items"], tables["data/num_interactions"]) == (3, 6)


def test_data_are_inspected_as_often_as_asked(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, content in COMPACT.items():
        (tmp_path / name).write_text(lines(*content))
    for sequences, num_short in (["ada 1 2 3 4", "bo 4 3"], 1), (["ada 1 2 3 4"], 0):
        (tmp_path / "sequences.txt").write_text(lines(*sequences))
        status, out, err = run(*cli.arguments(["data", "inspect", "."]))
        assert (status, err) == (0, "")
        assert (
            "problem: users with fewer than 3 events: 1 (such as user bo)\n" in out
        ) == num_short
        place = tmp_path / "runs" / "inspect-files"
        metrics = json.loads((place / "metrics.json").read_text())
        assert metrics["problems/short_histories"] == num_short
        assert metrics["events_of_a_user/most"] == 4
        report = json.loads((place / "report.json").read_text())
        assert report["histograms"][0]["bins"][-1] == {"first": 4, "last": 7, "count": 1}


def test_a_reader_that_has_seen_enough_is_no_defect(run, tmp_path, monkeypatch):
    def print_metrics(metrics):
        raise BrokenPipeError

    monkeypatch.setattr("genrec_jax.tables.print_metrics", print_metrics)
    monkeypatch.setattr("os.dup2", lambda *files: None)
    status, _, err = run("--config=configs/prepare.py", SHOP, f"--workdir={tmp_path}")
    assert (status, err) == (1, "")
    assert (tmp_path / "metrics.json").exists()


def test_the_workdir_of_a_stage_without_data_has_a_default(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = tmp_path / "runs" / "recommend" / "config.json"
    config.parent.mkdir(parents=True)
    config.write_text('{"task": "prepare"}')
    status, _, err = run(f"--config={ROOT}/configs/recommend.py", "--config.run=nowhere")
    assert status == 2 and "runs/recommend holds a run of another config" in err


def test_no_argument_at_all(run):
    assert run() == (2, "", "error: no --config: give one, such as --config=configs/rqvae.py\n")


def test_a_stray_argument(run, tmp_path):
    status, _, err = run("--config=configs/prepare.py", "beauty", f"--workdir={tmp_path}")
    assert status == 2
    assert err == (
        "error: unexpected argument 'beauty': settings are given as --config.KEY=VALUE\n"
    )


def test_settings_may_follow_a_space_and_the_workdir_has_a_default(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    key, value = SHOP.split("=")
    status, out, _ = run("--config", f"{ROOT}/configs/prepare.py", key, value)
    assert status == 0 and "data/num_users" in out
    metrics = json.loads((tmp_path / "runs/prepare-synthetic/metrics.json").read_text())
    assert metrics["data/num_users"] == 30


def test_a_workdir_of_another_config_is_refused(run, tmp_path):
    arguments = ["--config=configs/prepare.py", SHOP, f"--workdir={tmp_path}"]
    status, out, _ = run(*arguments)
    assert status == 0 and "data/num_users" in out
    assert json.loads((tmp_path / "metrics.json").read_text())["data/num_users"] == 30
    seed = "--config.data.synthetic_shop.seed=1"
    status, _, err = run(*arguments, seed)
    assert status == 2
    assert "data.synthetic_shop.seed is 0 there and 1 here" in err
    status, out, _ = run(*arguments)
    assert status == 0 and "data/num_users" in out


def test_an_extra_code_that_is_too_small(run, tmp_path):
    status, _, err = run(
        RQVAE,
        f"--workdir={tmp_path}",
        SHOP,
        "--config.num_steps=2",
        "--config.steps_per_call=2",
        "--config.batch_size=8",
        "--config.model.codebook_size=2",
        "--config.model.hidden_dims=(8,)",
        "--config.kmeans_items=0",
        "--config.collisions=extra_code",
        "--config.extra_code_size=1",
    )
    assert status == 2
    assert "share one semantic ID, the extra code tells 1 apart: train a tokenizer, in" in err
    assert not (tmp_path / "metrics.json").exists() and not (tmp_path / "export").exists()


@pytest.mark.parametrize("name", ["rqvae", "retrieval", "sasrec", "hybrid", "fsq"])
def test_a_plan_is_printed_and_nothing_is_run(run, tmp_path, name):
    arguments = [f"--config=configs/{name}.py:smoke", f"--workdir={tmp_path / 'run'}", SHOP]
    arguments += ["--config.plan.num_devices=1024", "--config.mesh.model=2"]
    status, out, _ = run(*arguments)
    text = " ".join(out.split())
    assert status == 0 and "GiB a device: " in text and "all smaller ones" in text
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["cache"]


def test_a_plan_for_devices_that_the_mesh_does_not_share_is_refused(run, tmp_path):
    arguments = [RQVAE, f"--workdir={tmp_path}", SHOP, "--config.plan.num_devices=6"]
    status, _, err = run(*arguments, "--config.mesh.model=4")
    assert status == 2 and "--config.mesh.data=-1 and --config.mesh.model=4 do not share 6" in err
    status, _, err = run(RQVAE, "--config.plan.num_devices=-1")
    assert status == 2 and "error: --config.plan.num_devices=-1 must be at least 0" in err
