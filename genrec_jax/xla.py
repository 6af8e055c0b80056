"""What every run tells XLA before JAX starts; what the environment says has precedence."""

import hashlib
import os
import pathlib
import platform
import sys

# What each gains is in docs/results.md.
_FLAGS = (
    # On GPUs the same program then gives the same bits each time. Without it XLA chooses between
    # kernels by timing them, so that two runs with one seed differ; and it takes longer to compile.
    "--xla_gpu_deterministic_ops=true",
    # Kernels of a CUDA graph that do not wait for each other run at once.
    "--xla_gpu_command_buffer_scheduling_mode=CONCURRENT",
)
_LARGEST_CACHE = 4 * 2**30  # bytes; what was not used for longest goes first


def set_up() -> None:
    """Sets XLA's flags, and where compiled programs are kept for the next run."""
    given = os.environ.get("XLA_FLAGS", "")
    os.environ["XLA_FLAGS"] = " ".join([*_FLAGS, given]).strip()
    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    try:
        cache = _cache_dir()
        cache.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError) as error:  # RuntimeError: the user has no home
        remedy = "JAX_COMPILATION_CACHE_DIR=FOLDER says where they may be"
        print(f"compiled programs are not kept: {error}: {remedy}", file=sys.stderr)
        return
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(cache)
    size = os.environ.setdefault("JAX_COMPILATION_CACHE_MAX_SIZE", str(_LARGEST_CACHE))

    import jax  # which reads these two when it is imported, and that may have been before

    jax.config.update("jax_compilation_cache_dir", str(cache))
    jax.config.update("jax_compilation_cache_max_size", int(size))


def _cache_dir() -> pathlib.Path:
    """Returns a folder of the user's, for processors like this one alone.

    What XLA compiles for one CPU may end another's process, and JAX does not tell them apart.
    """
    root = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    cpuinfo = pathlib.Path("/proc/cpuinfo")  # of Linux
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else [platform.processor()]
    features = next((line for line in lines if line.startswith(("flags", "Features"))), lines[0])
    name = hashlib.sha256(features.encode()).hexdigest()[:8]
    return pathlib.Path(root) / "genrec_jax" / f"compiled-{platform.machine()}-{name}"
