"""Flags of XLA that every run sets before JAX starts."""

import os

# On GPUs the same program then gives the same bits each time. Without it XLA chooses between
# kernels by timing them, so that two runs with one seed differ; and it takes longer to compile.
# Figures are in docs/results.md.
_FLAGS = ("--xla_gpu_deterministic_ops=true",)


def set_flags() -> None:
    """Adds ours to the environment's XLA_FLAGS, which has precedence where it names the same."""
    given = os.environ.get("XLA_FLAGS", "")
    os.environ["XLA_FLAGS"] = " ".join([*_FLAGS, given]).strip()
