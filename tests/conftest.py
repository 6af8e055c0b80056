"""What all tests need before JAX starts: several devices, and flags that count as parsed.

And what several of them use.
"""

import atexit
import contextlib
import importlib.metadata
import os
import pathlib
import shutil
import signal
import sys
import tempfile

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"  # compiling takes most of the tests' time
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=4"
if importlib.metadata.version("jaxlib").startswith("0.10."):  # newer ones end at this flag
    os.environ["XLA_FLAGS"] += " --xla_cpu_use_fusion_emitters=false"  # compiles twice as fast

if "JAX_COMPILATION_CACHE_DIR" not in os.environ:  # the workers find that of the process above
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="genrec-compiled-")
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)

import pytest
from absl import flags

flags.FLAGS.mark_as_parsed()  # Grain's workers read them


@pytest.fixture
def read_only():
    """Gives a folder, and a context in which it and all below it is read-only, to root too."""
    with tempfile.TemporaryDirectory() as name:  # not below pytest's folders, which are private
        folder = pathlib.Path(name)
        is_root = os.geteuid() == 0

        @contextlib.contextmanager
        def locked():
            paths = [folder, *folder.rglob("*")]
            modes = {path: path.stat().st_mode for path in paths}
            for path in paths:
                path.chmod(0o555 if path.is_dir() else 0o444)
            try:
                if is_root:
                    os.seteuid(65534)  # nobody
                yield
            finally:
                if is_root:
                    os.seteuid(0)
                for path, mode in modes.items():
                    path.chmod(mode)

        yield folder, locked


@pytest.fixture
def listening():
    """Lets SIGTERM raise `Preempted`, as the command line does, and not end the tests."""
    from genrec_jax import preemption  # with JAX, which the lines above must precede

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGALRM)}
    hook = sys.unraisablehook
    preemption.listen()
    yield
    sys.unraisablehook = hook
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A Hugging Face hub, and a client that asks there and that nobody has used before."""
    from tests import hub_server

    for name in [name for name in sys.modules if name.startswith("huggingface_hub")]:
        monkeypatch.delitem(sys.modules, name)  # for it reads these when it is imported
    with hub_server.serving() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.address)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hf_home"))
        monkeypatch.setenv("HF_TOKEN", "hf_me")
        monkeypatch.delenv("HF_HUB_DISABLE_PROGRESS_BARS", raising=False)
        yield hub
