"""The clock, the floor and the command line that all benchmarks share; never how fast it is."""

import json

import jax.numpy as jnp
import pytest
from absl import flags

from benchmarks import common
from genrec_jax.errors import UserError


def one_case(smoke):
    assert smoke
    values = jnp.arange(4.0)
    yield common.Case("one", lambda: values + 1, "items", 4, {"float32": 8}, 32, {"width": 1})


@pytest.fixture
def run(capsys, monkeypatch):
    """Returns a function that runs a command line in this process."""

    def run(*arguments):
        """Returns the exit status and what was printed."""
        monkeypatch.setattr("sys.argv", ["benchmark", *arguments])
        try:
            common.main("shared", one_case)
        except SystemExit as exit:
            status = exit.code or 0
        finally:
            flags.FLAGS.unparse_flags()
            flags.FLAGS["smoke"].value, flags.FLAGS["output"].value = False, None
            flags.FLAGS.mark_as_parsed()
        return status, *capsys.readouterr()

    return run


def test_the_report(run, tmp_path):
    path = tmp_path / "new" / "report.json"
    status, out, err = run("--smoke", f"--output={path}")
    assert status == 0
    first, told = err.splitlines()
    assert first == "measuring the device's ceilings"
    assert told.startswith("one: ") and told.endswith(" items/s")
    assert "shared on cpu" in out and "one" in out and "items/s" in out
    report = json.loads(path.read_text())
    assert report["benchmark"] == "shared" and report["smoke"] is True
    assert report["arguments"] == ["--smoke", f"--output={path}"]
    assert set(report["ceilings"]) == {"bfloat16", "float32", "float32_highest", "copy"}
    assert all(rate > 0 for rate in report["ceilings"].values())
    (case,) = report["cases"]
    seconds = case["median_seconds"]
    assert len(case["seconds"]) == 3 and sorted(case["seconds"])[1] == seconds > 0
    assert case["rate"] == pytest.approx(4 / seconds)
    assert case["tflops_per_second"] == pytest.approx(8e-12 / seconds)
    assert case["gigabytes_per_second"] == pytest.approx(32e-9 / seconds)
    floor = max(8 / report["ceilings"]["float32"], 32 / report["ceilings"]["copy"])
    assert case["share_of_floor"] == pytest.approx(floor / seconds)
    assert case["facts"] == {"width": 1}


def test_a_case_with_a_clock_of_its_own_and_how_cases_compare(tmp_path, capsys):
    def cases(smoke):
        for name, seconds in (("slow", [4.0, 2.0, 3.0]), ("fast", [1.0, 1.0, 1.0])):
            yield common.Case(name, None, "steps", 6, {}, 32, {}, lambda repeats, s=seconds: s)

    def compare(rates):
        return {"fast / slow": rates["fast"] / rates["slow"]}

    path = tmp_path / "report.json"
    common.run("timed", cases, True, path, [], compare)
    assert "fast / slow: 3\n" in capsys.readouterr().out
    report = json.loads(path.read_text())
    slow, fast = report["cases"]
    assert (slow["median_seconds"], slow["rate"], fast["rate"]) == (3, 2, 6)
    assert slow["seconds"] == [4, 2, 3] and slow["spread"] == pytest.approx(2 / 3)
    assert report["comparisons"] == {"fast / slow": 3}


def test_a_case_is_told_as_soon_as_it_is_done_and_its_figures_are_never_cut(monkeypatch, capsys):
    def cases():
        yield common.result("a name " * 9, [2.0, 4.0, 3.0], 6_000, "items", {})
        assert capsys.readouterr().err == f"{'a name ' * 9}: 3 s, 2 k items/s\n"
        yield common.result("other", [1.0], 1, "items", {})

    monkeypatch.setenv("COLUMNS", "60")
    columns = {name: lambda case: f"{case['rate']:.9f}" for name in ("one", "two")}
    first, second = common.write_report("told", True, [], cases(), columns, None)
    assert (first["rate"], second["rate"]) == (2_000, 1)
    out, err = capsys.readouterr()
    assert err == "other: 1 s, 1 items/s\n"
    assert out.count("2000.000000000") == 2 and out.count(" a name") > 1


def test_a_failed_program_is_a_mistake_that_names_it():
    with pytest.raises(UserError, match=r"^json.tool no-such-file failed:"):
        common.run_module("json.tool", ["no-such-file"])
    assert common.run_module("json.tool", ["--help"], {"PYTHONUTF8": "1"}) > 0


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--smok"], "Unknown command line flag 'smok'"),
        (["--smoke", "fast"], "unexpected argument 'fast': --help says which options there are"),
        (["--smoke=maybe"], "smoke"),
        (["--smoke", "--output=/dev/null/x.json"], "--output=/dev/null/x.json cannot be written"),
        (["--smoke", "--output=."], "--output=. cannot be written: it is a folder"),
    ],
)
def test_one_line_that_names_the_mistake(run, arguments, message):
    status, out, err = run(*arguments)
    assert (status, out) == (2, "")
    (line,) = err.splitlines()
    assert line.startswith("error: ") and message in line


def test_the_state_is_read_and_written():
    assert common.state_bytes(10, ema_decay=0.0) == 10 * 4 * 3 * 2
    assert common.state_bytes(10, ema_decay=0.9) == 10 * 4 * 4 * 2
