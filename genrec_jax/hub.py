"""Runs on the Hugging Face hub, whose client, `huggingface_hub`, is an extra.

The client's own environment variables say where the hub is (`HF_ENDPOINT`), who asks (`HF_TOKEN`),
and where it keeps what it has fetched (`HF_HOME`).
"""

import contextlib
import importlib.util
import logging
import os
import pathlib
import re
import sys
import types
from collections.abc import Iterator

from genrec_jax import files
from genrec_jax.errors import UserError, one_line, refusal

EXPORTED = "exported"  # the folder of a repository that has what configs/export.py writes
_SCHEME = "hf://"
_PACKAGE = "huggingface_hub>=1,<3"  # the extra `hub` in pyproject.toml
_LIST = f"export/{files.DIGESTS}"
_READ = ("config.json", "export/*")  # of a repository; the hub counts downloads by the first
_PLACES = ("cache_dir", "dir", "interactions", "items_file", "path", "tokenizer")  # settings
_REPO = r"[^/@\s]+/[^/@\s]+"
_log = logging.getLogger(__name__)


def is_name(run: str | os.PathLike) -> bool:
    """Returns whether this names a run on the hub, not a folder."""
    return isinstance(run, str) and run.startswith(_SCHEME)


def check_folder(run: str | os.PathLike) -> None:
    """Raises UserError if this names a run on the hub, where what is asked for is not."""
    if is_name(run):
        raise UserError(
            f"{run} is on the hub, where a run has what recommending and exporting read, but no "
            "tokenizer, histories or ranks of users: give the folder of a run"
        )


def is_repo(name: str) -> bool:
    """Returns whether this has the form USER/NAME; of its characters the client judges."""
    return re.fullmatch(_REPO, name) is not None


def folder(run: str | os.PathLike) -> pathlib.Path:
    """Returns the folder of a run: that itself, or what is fetched of `hf://USER/NAME[@REVISION]`.

    Only the run's export is fetched, which is arrays and JSON, into the client's cache. Without a
    network what was fetched last has to do; the commit is logged.

    Raises:
        UserError: if it cannot be fetched, or is no whole run.
    """
    if not is_name(run):
        return pathlib.Path(run)
    match = re.fullmatch(f"({_REPO})(?:@(.+))?", run.removeprefix(_SCHEME))
    if not match:
        raise UserError(f"{run} is no run on the hub: write {_SCHEME}USER/NAME[@REVISION]")
    repo, revision = match.groups()
    with _client(run) as client:
        # What tells a run first: the `export/` of something else may be large.
        fetched = client.snapshot_download(repo, revision=revision, allow_patterns=_LIST)
        fetched = pathlib.Path(fetched)
        if not (fetched / _LIST).is_file():
            raise UserError(f"{run} is no run of genrec_jax (it has no {_LIST}): name another")
        client.snapshot_download(repo, revision=fetched.name, allow_patterns=_READ)
    _log.info("%s: commit %s", run, fetched.name)
    if damage := files.damage(fetched / "export"):
        raise UserError(
            f"{run} is no whole run of genrec_jax ({damage}): name another, or delete "
            f"{fetched.parents[1]} to fetch it again"
        )
    return fetched


def push(directory: pathlib.Path, repo: str, *, private: bool) -> str:
    """Uploads a folder to a repository, and returns the address of that.

    Args:
        directory: all of it is uploaded, and of an earlier run nothing stays that would be read.
        repo: `USER/NAME`, which is made if there is none.
        private: whether it must be private, as it is made then. Otherwise one that is made is what
            its owner has by default, mostly public.

    Raises:
        UserError: if the hub is out of reach or refuses, or the repository is public but must not.
    """
    with _client(repo) as client:
        api = client.HfApi()
        address = api.create_repo(repo, private=private or None, exist_ok=True)
        if private and not api.model_info(repo).private:
            raise UserError(
                f"{repo} is there and is public: make it private on the hub, name another, or "
                "leave out --config.private"
            )
        api.upload_folder(
            repo_id=repo,
            folder_path=directory,
            commit_message="Push a run of genrec_jax",
            delete_patterns=["export/*", f"{EXPORTED}/*"],
        )
    return str(address)


def check_installed() -> None:
    """Raises UserError unless the client is installed."""
    if importlib.util.find_spec("huggingface_hub") is None:
        raise UserError(f"the Hugging Face hub needs the extra hub: pip install '{_PACKAGE}'")


def without_places(config: dict) -> dict:
    """Returns a config with those settings empty that name files or folders of this machine."""
    cleaned = {}
    for key, value in config.items():
        if isinstance(value, dict):
            value = without_places(value)
        elif isinstance(value, str) and (key in _PLACES or value.startswith(("/", "~", "."))):
            value = ""
        cleaned[key] = value
    return cleaned


@contextlib.contextmanager
def _client(name: str) -> Iterator[types.ModuleType]:
    """Gives the client, to ask for `name`, and makes one line of what it raises, which is pages."""
    check_installed()
    import huggingface_hub
    from huggingface_hub import errors, utils

    # In a file its bars would be lines upon lines.
    is_quiet = not (sys.stderr.isatty() or utils.are_progress_bars_disabled())
    if is_quiet:
        utils.disable_progress_bars()
    try:
        yield huggingface_hub
    except (OSError, RuntimeError, ValueError, errors.HTTPError) as error:  # what it raises
        if refusal(error):  # it is this system that says no
            raise
        reason = one_line(error).rstrip(".")
        raise UserError(
            f"{name}: {reason}: check the name, the network, and who you are to the hub "
            "(`hf auth login`, or HF_TOKEN)"
        ) from error
    finally:
        if is_quiet:
            utils.enable_progress_bars()
