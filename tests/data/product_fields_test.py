"""What of a product's fields is text."""

import pytest

from genrec_jax.data import product_fields


@pytest.mark.parametrize(
    "value, expected",
    [
        ("Soap  &amp;\n Co", "Soap & Co"),
        ('<span id="t">Soap</span><br/>', "Soap"),
        ("&lt;b&gt;Soap&lt;/b&gt;", "Soap"),
        ("Less < more", "Less < more"),
        ("Multi-function (black)", "Multi-function (black)"),
        (".5 oz Cream", ".5 oz Cream"),
        ("var aPageStart = (new Date()).getTime();", ""),
        ("#nav {color: red}", ""),
        ("x = function() { return 1 }", ""),
        (None, ""),
        (3, ""),
    ],
)
def test_text_is_cleaned(value, expected):
    assert product_fields.clean(value) == expected


@pytest.mark.parametrize(
    "price, expected",
    [
        (5.9, "$5.90"),
        (1234, "$1234.00"),
        ("5.90", "$5.90"),
        ("$1,234.50", "$1,234.50"),
        ("$5.90 - $7.00", "$5.90 - $7.00"),
        ("£3", "£3"),
        (0.0, None),
        (float("nan"), None),
        (None, None),
        ("None", None),
        ("from 5.90 or so", None),
        (".a-box-inner{background-color:#fff}", None),
    ],
)
def test_prices(price, expected):
    assert product_fields.item_record("a", {"price": price}).get("price") == expected


@pytest.mark.parametrize(
    "product, expected",
    [
        ({"categories": [["A", "B"], [], ["C"]]}, [["A", "B"], ["C"]]),
        ({"category": ["A", "</span>", "B &amp; C"]}, [["A", "B & C"]]),
        ({"categories": [], "main_category": "All"}, [["All"]]),
        ({"categories": "A"}, [["A"]]),
        ({"categories": [["A"], None]}, None),
        ({}, None),
    ],
)
def test_categories_of_each_edition(product, expected):
    assert product_fields.item_record("a", product).get("categories") == expected


def test_a_long_description_is_cut_between_words():
    longest = product_fields.MAX_DESCRIPTION_CHARS
    words = product_fields.item_record("a", {"description": ["word"] * longest})["description"]
    assert words == " ".join(["word"] * (longest // 5))
    one = product_fields.item_record("a", {"description": "x" * (longest + 5)})["description"]
    assert one == "x" * longest
