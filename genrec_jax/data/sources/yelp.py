"""The Yelp Open Dataset: a folder with its files of businesses and of reviews, in JSON Lines.

`categories` are text with commas between names, in old editions a list of them.
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
    """Returns whether Yelp's reviews are in the folder."""
    return review_files.is_in(directory, _LAYOUT)


def _describe(business: dict[str, Any]) -> dict:
    categories = business.get("categories")
    categories = names(categories.split(",") if isinstance(categories, str) else categories)
    title = clean(business.get("name"))
    fields = {
        "title": title,
        "categories": text_lib.join_names(categories),
        "city": clean(business.get("city")),
        "state": clean(business.get("state")),
    }
    return {"title": title, "categories": [categories], "text": text_lib.join_fields(fields)}


_LAYOUT = review_files.Layout(
    reviews="yelp_academic_dataset_review.json",
    items="yelp_academic_dataset_business.json",
    keys=("user_id", "business_id", "date"),
    item_key="business_id",
    describe=_describe,
    citation="Yelp Inc., Yelp Open Dataset.",
    homepage="https://business.yelp.com/data/resources/open-dataset",
)
