"""Reviews of games on Steam as SASRec's authors published them: lines that Python has printed.

Users are told apart by their names, as SASRec does. Some games have no id, some no title, and many
that are reviewed are not in the list.
"""

from typing import Any

from genrec_jax.data import review_files
from genrec_jax.data import text as text_lib
from genrec_jax.data.product_fields import clean, names
from genrec_jax.data.records import Source


def source(directory: str, name: str, *, k_core: int, max_bad_lines: int) -> Source:
    """Returns the data set in a folder, see `review_files.source`."""
    return review_files.source(directory, name, _LAYOUT, k_core, max_bad_lines)


def is_in(directory: str) -> bool:
    """Returns whether the reviews are in the folder."""
    return review_files.is_in(directory, _LAYOUT)


def _describe(game: dict[str, Any]) -> dict:
    genres, tags = (names(game.get(key)) for key in ("genres", "tags"))
    title = clean(game.get("title")) or clean(game.get("app_name"))
    fields = {
        "title": title,
        "developer": clean(game.get("developer")),
        "genres": text_lib.join_names(genres),
        "tags": text_lib.join_names(tags),
    }
    return {"title": title, "categories": [genres], "text": text_lib.join_fields(fields)}


_LAYOUT = review_files.Layout(
    reviews="steam_reviews.json",
    items="steam_games.json",
    keys=("username", "product_id", "date"),
    item_key="id",
    describe=_describe,
    citation="W.-C. Kang and J. McAuley, Self-Attentive Sequential Recommendation, ICDM 2018.",
    homepage="https://cseweb.ucsd.edu/~jmcauley/datasets.html#steam_data",
)
