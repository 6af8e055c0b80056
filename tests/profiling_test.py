"""Traces: what is traced, and whose the time is."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import rqvae
from genrec_jax import hlo, profiling
from genrec_jax.errors import UserError


def test_overlapping_intervals_share_the_time():
    # 0..10 alone until 4, then two until 6, three until 8, two until 10, one until 12; 20..21.
    shares = profiling.shares(np.array([0, 4, 6, 20]), np.array([10, 12, 8, 21]))
    np.testing.assert_allclose(shares, [4 + 1 + 2 / 3 + 1, 1 + 2 / 3 + 1 + 2, 2 / 3, 1], rtol=1e-12)
    assert shares.sum() == pytest.approx(13)


@jax.jit
def two_scopes(x):
    with jax.named_scope("products"):
        y = x @ x
    with jax.named_scope("rest"):
        return jnp.sort(jnp.tanh(y), axis=-1)


def test_scopes_of_a_traced_function_have_its_time(tmp_path):
    x = jnp.ones((256, 256))
    compiled = two_scopes.lower(x).compile()
    out, seconds = profiling.trace(lambda: [compiled(x) for _ in range(3)], tmp_path)
    np.testing.assert_array_equal(out[2], two_scopes(x))
    assert len(list(tmp_path.rglob("perfetto_trace.json.gz"))) == 1
    program = hlo.parse(compiled.as_text())
    rows = profiling.by_scope(program, hlo.work(program), tmp_path, num_calls=3)
    assert rows == sorted(rows, key=lambda row: -row.seconds)
    by_name = {row.scope: row for row in rows}
    assert {"products", "rest"} <= set(by_name)
    assert all(row.seconds > 0 and row.num_kernels >= 1 for row in rows)
    assert 3 * sum(row.seconds for row in rows) <= seconds
    assert by_name["products"].flops == {"float32": 2 * 256**3}
    assert by_name["products"].bytes >= 2 * 4 * 256**2
    spans = profiling.spans(program, hlo.work(program), tmp_path, num_calls=3)
    assert len(spans) * 3 == len(np.concatenate(profiling._events(*of_trace(tmp_path, program))))
    assert {scope for *_, scope in spans} == set(by_name) and spans[0][0] == 0
    assert all(start < end for start, end, _ in spans)
    assert profiling.table(rows).splitlines()[2].startswith(f"| {rows[0].scope} | ")


def of_trace(directory, program):
    (path,) = directory.rglob("*.xplane.pb")
    return path, program.name, hlo.callers(program)


def test_a_trace_replaces_the_one_before(tmp_path):
    for _ in range(2):
        profiling.trace(lambda: two_scopes(jnp.ones((4, 4))), tmp_path / "here")
    assert len(list(tmp_path.rglob("*.xplane.pb"))) == 1


@pytest.mark.parametrize(
    "dispatch, is_traced",
    [
        (range(0, 10), False),
        (range(8, 11), True),
        (range(10, 20), True),
        (range(14, 15), True),
        (range(19, 30), True),
        (range(20, 30), False),
    ],
)
def test_dispatches_that_have_steps_to_trace_are_traced_whole(
    tmp_path, monkeypatch, dispatch, is_traced
):
    monkeypatch.setattr(profiling, "trace", lambda run, *_, **__: (run(), 0.0))
    monkeypatch.setattr(profiling, "by_scope", lambda *_, **__: [])
    profile = profiling.Interval(range(10, 20), tmp_path)
    x = jnp.eye(4)
    out = profiling.call(two_scopes, x, dispatch=dispatch, profile=profile)
    np.testing.assert_array_equal(out, two_scopes(x))
    folders = [path.name for path in tmp_path.iterdir()]
    assert folders == [f"steps_{dispatch[0]}_to_{dispatch[-1]}"] * is_traced


def test_no_step_is_traced_by_default(tmp_path):
    interval = profiling.interval(rqvae.get_config("smoke"), tmp_path)
    assert interval == (range(0), tmp_path / "profile")
    profiling.call(two_scopes, jnp.eye(4), dispatch=range(10), profile=interval)
    assert not interval.directory.exists()


def test_steps_after_the_last_are_refused():
    config = rqvae.get_config("smoke")
    config.num_steps, config.profile.num_steps = 100, 10
    config.profile.first_step = 90
    profiling.check(config)
    config.profile.first_step = 91
    with pytest.raises(UserError, match=r"profile.first_step=91 and --config.profile.num_steps=10"):
        profiling.check(config)
