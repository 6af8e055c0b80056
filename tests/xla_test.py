"""What every run tells XLA, and where it keeps compiled programs."""

import os
import pathlib
import subprocess
import sys

import jax
import pytest

from genrec_jax import xla

OURS = "--xla_gpu_deterministic_ops=true --xla_gpu_command_buffer_scheduling_mode=CONCURRENT"


@pytest.fixture
def environment(monkeypatch, tmp_path):
    for name in ("XLA_FLAGS", "JAX_COMPILATION_CACHE_DIR", "JAX_COMPILATION_CACHE_MAX_SIZE"):
        monkeypatch.setenv(name, "")  # so that what is set here ends with the test
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    names = "jax_compilation_cache_dir", "jax_compilation_cache_max_size"
    before = {name: getattr(jax.config, name) for name in names}
    yield monkeypatch
    for name, value in before.items():
        jax.config.update(name, value)


@pytest.mark.parametrize("given, expected", [(None, OURS), ("--xla_a=1", f"{OURS} --xla_a=1")])
def test_flags_are_added_before_those_of_the_environment(environment, given, expected):
    if given is not None:
        environment.setenv("XLA_FLAGS", given)
    xla.set_up()
    assert os.environ["XLA_FLAGS"] == expected


def test_compiled_programs_are_kept_in_the_users_cache(environment, tmp_path):
    xla.set_up()
    folder = pathlib.Path(os.environ["JAX_COMPILATION_CACHE_DIR"])
    assert folder.is_dir() and folder.parent == tmp_path / "genrec_jax"
    assert os.environ["JAX_COMPILATION_CACHE_MAX_SIZE"] == str(4 * 2**30)
    environment.setenv("JAX_COMPILATION_CACHE_DIR", "elsewhere")
    xla.set_up()
    assert os.environ["JAX_COMPILATION_CACHE_DIR"] == "elsewhere"


def test_a_cache_that_cannot_be_made_is_told(environment, tmp_path, capsys):
    (tmp_path / "file").touch()
    environment.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    xla.set_up()
    assert "JAX_COMPILATION_CACHE_DIR" not in os.environ
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("compiled programs are not kept: ") and "Not a directory" in line
    assert line.endswith("JAX_COMPILATION_CACHE_DIR=FOLDER says where they may be")


def test_a_user_without_a_home_is_told(environment, capsys):
    for name in ("XDG_CACHE_HOME", "HOME"):
        environment.delenv(name)
    environment.setattr(os, "getuid", lambda: 2**31 - 5)  # as in a container
    xla.set_up()
    assert "JAX_COMPILATION_CACHE_DIR" not in os.environ
    assert "home directory" in capsys.readouterr().err


@pytest.mark.parametrize("first", ["", "import jax; "])
def test_a_second_process_finds_what_the_first_compiled(environment, tmp_path, first):
    program = (
        f"{first}from genrec_jax import xla; xla.set_up(); import jax, jax.numpy as jnp\n"
        "jax.config.update('jax_persistent_cache_min_compile_time_secs', 0)\n"
        "from jax import monitoring; hits = []\n"
        "monitoring.register_event_listener(lambda event, **_: hits.append(event))\n"
        "jax.jit(lambda x: jnp.sin(x) @ x)(jnp.ones((3, 3)))\n"
        "print('/jax/compilation_cache/cache_hits' in hits)"
    )
    said = [
        subprocess.run(  # an unknown flag would end it
            [sys.executable, "-c", program], capture_output=True, text=True, check=True
        ).stdout
        for _ in range(2)
    ]
    assert said == ["False\n", "True\n"]
