"""The flags of XLA that every run sets."""

import os
import subprocess
import sys

import pytest

from genrec_jax import xla


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, "--xla_gpu_deterministic_ops=true"),
        ("--xla_a=1", "--xla_gpu_deterministic_ops=true --xla_a=1"),
    ],
)
def test_flags_are_added_before_those_of_the_environment(monkeypatch, given, expected):
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    if given is not None:
        monkeypatch.setenv("XLA_FLAGS", given)
    xla.set_flags()
    assert os.environ["XLA_FLAGS"] == expected


def test_xla_knows_the_flags():
    program = "from genrec_jax import xla; xla.set_flags(); import jax; print(jax.numpy.ones(()))"
    done = subprocess.run(  # an unknown flag would end it
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "1.0\n"
