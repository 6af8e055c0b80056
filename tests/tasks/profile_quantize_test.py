"""The profile of quantising, on a tiny model: the files, and figures that are known."""

import jax
import pytest

from configs import profile_quantize
from genrec_jax import files, tables
from genrec_jax.errors import UserError
from genrec_jax.tasks import profile_quantize as task

BATCH, SIZE, LEVELS, WIDTH, EMBEDDING, HIDDEN = 32, 16, 2, 4, 12, 8


CEILINGS = {"bfloat16": 4e10, "float32": 2e10, "float32_highest": 1e10, "copy": 5e9}


def test_a_case_for_each_mode(tmp_path, monkeypatch, capsys, caplog):
    caplog.set_level("INFO")
    # Measuring them takes longer than all else.
    monkeypatch.setattr(task.roofline, "ceilings", lambda *_: CEILINGS)
    monkeypatch.setattr(task.residual, "kernels", None)  # which `xla` asks in no mode
    monkeypatch.setenv("COLUMNS", "80")
    config = profile_quantize.get_config("smoke")
    config.update(batch_sizes=(BATCH,), codebook_sizes=(SIZE,), num_levels=(LEVELS,))
    config.update(embedding_dim=EMBEDDING, num_traced_calls=2, min_seconds=0.0)
    config.model.update(code_dim=WIDTH, hidden_dims=(HIDDEN,))
    metrics = task.run(config, tmp_path)
    cases = {case["mode"]: case for case in files.read_json(tmp_path / "report.json")["cases"]}
    assert list(cases) == ["assign", "encode", "train"]
    told = [line for line in caplog.messages if " ms, in " in line]
    assert [line.split(":")[0] for line in told] == [case["case"] for case in cases.values()]
    check_files(tmp_path, metrics, cases)
    check_operations(cases)
    check_floor(cases["assign"])
    tables.print_profile(list(cases.values()))
    check_table(cases, capsys.readouterr().out.splitlines())


def check_files(workdir, metrics, cases):
    for name in ("report.md", "roofline.png", "time.png"):
        assert (workdir / name).stat().st_size > 500
    for mode in cases:
        name = f"{mode}-b32-k16-q2-xla"
        assert metrics[f"{name}/seconds"] == cases[mode]["seconds"] > 0
        assert (workdir / name / "timeline.png").stat().st_size > 500
        assert (workdir / name / "hlo.txt").read_text().startswith("HloModule jit_")
        for pattern in ("*.xplane.pb", "perfetto_trace.json.gz"):
            assert len(list((workdir / name).rglob(pattern))) == 1
    assert f"## {name}\n\n| scope | ms |" in (workdir / "report.md").read_text()


def check_operations(cases):
    level = 2 * BATCH * SIZE * WIDTH
    encode = 2 * BATCH * (EMBEDDING * HIDDEN + HIDDEN * WIDTH)
    decode, first = encode, 2 * BATCH * EMBEDDING * HIDDEN
    assert cases["assign"]["flops"] == {"float32_highest": LEVELS * level}
    assert cases["encode"]["flops"] == {"float32_highest": LEVELS * level + encode}
    # A layer's gradients take twice its operations; the first layer's input needs none.
    assert cases["train"]["flops"] == {
        "float32_highest": LEVELS * level,
        "float32": 3 * (encode + decode) - first,
    }
    scopes = {row["scope"]: row for row in cases["train"]["scopes"]}
    assert scopes["encode"]["flops"] == {"float32": encode}
    assert scopes["encode (backward)"]["flops"] == {"float32": 2 * encode - first}
    assert scopes["decode (backward)"]["flops"] == {"float32": 2 * decode}
    for number in range(LEVELS):
        assert scopes[f"level_{number}/distances"]["flops"] == {"float32_highest": level}
        assert scopes[f"level_{number}/argmin"]["seconds"] > 0
    assert scopes["level_0/lookup"]["seconds"] > 0
    assert scopes["lookup"]["seconds"] > 0  # of all levels' codewords
    assert scopes["update"]["seconds"] > 0
    assert any(scope.startswith("loss") for scope in scopes)


def check_floor(case):
    """The floor of a whole call is that of its arguments and results."""
    assert case["bytes"] == 4 * (BATCH * WIDTH + LEVELS * SIZE * WIDTH + BATCH * LEVELS)
    assert case["memory_analysis"]["output_size_in_bytes"] == 4 * BATCH * LEVELS
    assert case["cost_analysis"]["flops"] >= sum(case["flops"].values())
    floor = max(case["flops"]["float32_highest"] / 1e10, case["bytes"] / 5e9)
    assert case["floor_seconds"] == pytest.approx(floor)
    assert case["share_of_floor"] == pytest.approx(floor / case["seconds"])
    assert len(case["all_seconds"]) == 3
    assert sum(row["seconds"] for row in case["scopes"]) <= case["traced_seconds"]


def check_table(cases, lines):
    assert max(map(len, lines)) <= 80
    for case in cases.values():
        at = next(n for n, line in enumerate(lines) if line.split()[:1] == [case["case"]])
        slowest, (first, *_) = lines[at + 1].split(), case["scopes"]
        assert slowest[0] == first["scope"].split()[0]
        assert slowest[-4] == str(first["num_kernels"])


def test_another_run_has_no_table(capsys):
    tables.print_profile([])
    assert capsys.readouterr().out == ""


def test_implementations_are_options_of_the_quantiser(monkeypatch):
    asked = []

    def quantize(x, codebooks, *, distance, implementation):
        asked.append(implementation)
        return task.residual.Quantized(x, jax.numpy.zeros((len(x), 2), int), x[None], x[None])

    monkeypatch.setattr(task.residual, "residual_quantize", quantize)
    case = task.Case("assign", "fast", 4, 8, 2)
    task._assign(profile_quantize.get_config("smoke"), case)
    assert asked == ["fast"] and case.name == "assign-b4-k8-q2-fast"


@pytest.mark.parametrize(
    "changes, message",
    [
        (
            {"modes": ("train", "eval")},
            r"modes=\('train', 'eval'\) must be one or more of assign, e",
        ),
        (
            {"implementations": ("cuda",)},
            r"implementations=\('cuda',\) must be one or more of auto, xla",
        ),
        ({"batch_sizes": ()}, r"batch_sizes=\(\) must be one or more whole numbers from 1 on"),
        ({"codebook_sizes": (0, 2)}, r"--config.codebook_sizes=256,512"),
        ({"num_traced_calls": 0}, "--config.num_traced_calls=0 must be at least 1"),
    ],
)
def test_mistakes_name_the_key(tmp_path, changes, message):
    config = profile_quantize.get_config("smoke")
    config.update(changes)
    with pytest.raises(UserError, match=message):
        task.run(config, tmp_path)
    assert list(tmp_path.iterdir()) == []
