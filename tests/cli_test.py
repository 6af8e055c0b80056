"""The command `genrec-jax`, in a clone and from the wheel."""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import zipfile

import pytest

import genrec_jax
from genrec_jax import cli
from genrec_jax.data.datasets import NAMES
from genrec_jax.errors import UserError

ROOT = pathlib.Path(__file__).parents[1]
# The command as an installer writes it, in the packages that PYTHONPATH names.
COMMAND = """
import importlib.metadata
(script,) = importlib.metadata.entry_points(group="console_scripts", name="genrec-jax")
script.load()()
"""


def test_a_stage_is_its_config():
    assert cli.arguments(["rqvae:beauty,smoke", "--config.seed=1"]) == [
        f"--config={ROOT}/configs/rqvae.py:beauty,smoke",
        "--config.seed=1",
    ]
    assert cli.arguments(["prepare", "--workdir=x"])[0] == f"--config={ROOT}/configs/prepare.py"
    inspect = f"--config={ROOT}/configs/inspect.py"
    assert cli.arguments(["data", "inspect", "beauty", "--workdir=x"]) == [
        f"{inspect}:beauty",
        "--workdir=x",
    ]
    assert cli.arguments(["data", "inspect", str(ROOT)]) == [
        f"{inspect}:files",
        f"--config.data.dir={ROOT}",
    ]
    assert cli.arguments(["--config=mine.py:beauty"]) == ["--config=mine.py:beauty"]


@pytest.mark.parametrize(
    "given, message",
    [
        ([], "no stage: genrec-jax --help lists them"),
        (["rqvea", "--workdir=x"], "unknown stage 'rqvea': the nearest is rqvae, and genrec-jax "),
        (["common"], "unknown stage 'common': "),
        (["data", "show"], "data has one use: genrec-jax data inspect DATASET|FOLDER"),
        (["data", "inspect", "--workdir=x"], "data has one use: "),
        (["data", "inspect", "beuaty"], "beuaty is neither a folder nor a data set .synthetic, be"),
    ],
)
def test_what_is_no_stage(monkeypatch, capsys, given, message):
    with pytest.raises(UserError, match=message.replace("|", r"\|")):
        cli.arguments(given)
    monkeypatch.setattr("sys.argv", ["genrec-jax", *given])
    with pytest.raises(SystemExit) as exit:
        cli.main()
    assert exit.value.code == 2 and capsys.readouterr().err.count("\n") == 1


def test_help_has_the_first_line_of_each_config(monkeypatch, capsys):
    def printed(*given):
        monkeypatch.setattr("sys.argv", ["genrec-jax", *given])
        cli.main()
        return capsys.readouterr().out

    usage, _, listed = printed("--help").partition("The stages:\n")
    assert set(NAMES) <= set(re.findall(r"\w+", usage))
    listed = listed.splitlines()
    names = {path.stem for path in (ROOT / "configs").glob("*.py")} - {"common"}
    assert {line.split()[0] for line in listed} == names
    assert all(line.endswith((".", ").")) for line in listed)
    assert "    genrec-jax recommend --config.run=RUN" in printed("recommend", "-h").splitlines()
    for text in (printed(name, "--help") for name in names):
        assert "--config=configs" not in text
        assert not re.search(r"\S  ", text)  # lines joined by a backslash that is not in the text
    of_stage = printed("rqvae:beauty", "--help")
    assert of_stage.startswith("RQ-VAE: item embeddings to semantic IDs.\n")
    assert of_stage.endswith(f"each with a comment: {ROOT}/configs/rqvae.py\n")


@pytest.mark.once
def test_the_wheel_needs_no_clone(tmp_path):
    source, site, place = (tmp_path / name for name in ("source", "site", "place"))
    for name in ("genrec_jax", "configs"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE", "requirements.txt"):
        shutil.copy(ROOT / name, source)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", f"--wheel-dir={tmp_path}", source], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(site)  # all that installing one does, but for the script
    shipped = {path.name for path in (site / "genrec_jax" / "configs").iterdir()}
    assert shipped == {path.name for path in (ROOT / "configs").glob("*.py")}
    page = {path.name for path in (site / "genrec_jax" / "report").iterdir()}
    assert page == {path.name for path in (ROOT / "genrec_jax" / "report").glob("*.*")}
    assert {path.name for path in site.iterdir()} == {
        "genrec_jax",
        f"genrec_jax-{genrec_jax.__version__}.dist-info",
    }
    (place / "configs").mkdir(parents=True)
    mine = "from configs import common, mine_too, prepare\nget_config = prepare.get_config\n"
    (place / "configs" / "mine.py").write_text(mine)
    (place / "configs" / "mine_too.py").write_text("")

    def run(*given):
        command = [sys.executable, "-P", "-c", COMMAND, *given]
        environment = os.environ | {"PYTHONPATH": str(site)}
        return subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True)

    done = run("retrieval", "--help")
    assert done.returncode == 0 and f"{site}/genrec_jax/configs/retrieval.py" in done.stdout
    for number, stage in enumerate(("prepare", "--config=configs/mine.py")):
        done = run(stage, f"--workdir=run{number}", "--config.data.synthetic_shop.num_users=30")
        assert (done.returncode, done.stderr) == (0, "")
        metrics = json.loads((place / f"run{number}" / "metrics.json").read_text())
        assert metrics["data/num_users"] == 30
