"""The sentence that an embedder reads."""

from genrec_jax.data import text


def test_fields_in_order_and_each_category_once():
    item = {
        "item_id": "a",
        "title": "Soap",
        "brand": "Acme",
        "categories": [["Beauty", "Bath"], ["Beauty", "Gifts"]],
    }
    assert text.sentence(item) == "Title: Soap; Brand: Acme; Categories: Beauty, Bath, Gifts"


def test_missing_fields_leave_no_trace():
    assert text.sentence({"item_id": "a", "brand": "Acme"}) == "Brand: Acme"
    assert text.sentence({"item_id": "a"}) == ""


def test_a_text_of_its_own_is_taken_as_it_is():
    assert text.sentence({"item_id": "a", "title": "Soap", "text": "read me"}) == "read me"
