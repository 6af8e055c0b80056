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


def test_fields_of_any_names_are_joined():
    fields = {"title": "Soap", "made in": "", "itemType": "Bath", "x": "7"}
    assert text.join_fields(fields) == "Title: Soap; ItemType: Bath; X: 7"
    assert text.join_fields({"title": ""}) == ""


def test_names_are_joined_once_each():
    assert text.join_names(["b", "a", "b"]) == "b, a"


def test_price_and_description_come_last():
    item = {"item_id": "a", "description": "Soft", "price": "$5.90", "title": "Soap"}
    assert text.sentence(item) == "Title: Soap; Price: $5.90; Description: Soft"
