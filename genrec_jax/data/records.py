"""What a source of data yields, before anything is stored.

An item record is a dict with `item_id` (str) and any of `title`, `brand` (str), `categories`
(list of paths, each a list of str, coarse to fine; the first one that is not empty is what the
corpus keeps), `price`, `description` (str) and `text` (str, used as it is instead of the template).
A user record is a dict with `user_id` (str), `items` (list of positions in the list of items,
oldest first) and `times` (list of int of the same length, -1 where unknown, or empty).
"""

import hashlib
import json
import pathlib
from collections.abc import Callable, Iterable
from typing import NamedTuple

from genrec_jax import files


class Records(NamedTuple):
    """A whole data set; `facts` are metrics that the source knows about itself."""

    items: Iterable[dict]
    users: Iterable[dict]
    facts: dict[str, float]


class Source(NamedTuple):
    """A data set that has not been read yet.

    `content_hash` is known without reading the records and changes whenever they would. `citation`
    and `homepage` say whose the data are, and are kept with them.
    """

    name: str
    content_hash: str
    read: Callable[[], Records]
    citation: str = ""
    homepage: str = ""


def hash_of_files(
    version: str, root: pathlib.Path, paths: Iterable[pathlib.Path], *settings: int
) -> str:
    """Returns the content hash of what is read of files below a folder.

    Args:
        version: of how they are read.
        settings: all else that the records depend on.
    """
    contents = [(path.relative_to(root).as_posix(), files.sha256(path)) for path in paths]
    hashed = json.dumps([version, contents, *settings])
    return hashlib.sha256(hashed.encode()).hexdigest()[:16]
