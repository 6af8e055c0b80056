"""Tables fit a terminal of 80 characters and say what was measured."""

import pytest

from genrec_jax import tables


def printed(capsys, monkeypatch, function, value):
    monkeypatch.setenv("COLUMNS", "80")
    function(value)
    return capsys.readouterr().out.splitlines()


def test_rankings_have_a_line_each(capsys, monkeypatch):
    metrics = {
        "data/num_items": 12101,
        "train/loss": 8.26641,
        "baseline/popularity/test_new/recall@5": 0.5,
        "baseline/popularity/test_new/recall@10": 0.25,
        "baseline/popularity/test_new/ndcg@10": 0.125,
        "baseline/popularity/test_new/num_users": 7,
        "reachable/test/recall@10": 0.75,
    }
    lines = printed(capsys, monkeypatch, tables.print_metrics, metrics)
    (popularity,) = [line.split() for line in lines if "popularity" in line]
    assert popularity == ["baseline/popularity/test_new", "0.5000", "0.2500", "0.1250"]
    assert ["reachable/test", "0.7500"] in [line.split() for line in lines]
    assert ["data/num_items", "12,101"] in [line.split() for line in lines]
    assert ["train/loss", "8.266"] in [line.split() for line in lines]
    assert max(map(len, lines)) <= 80


def test_numbered_things_of_a_kind_have_a_line_each(capsys, monkeypatch):
    metrics = {
        "tokenizer/level_0/usage": 0.5,
        "tokenizer/level_0/dead_codes": 1128,
        "tokenizer/unique_before": 0.875,
        "tokenizer/level_1/usage": 1.0,
        "tokenizer/level_1/dead_codes": 0,
        "categories/depth_2/num_items": 7,
        "categories/depth_2/prefix_1/ami": 0.25,
        "neighbours/prefix_1/shared": 0.125,
    }
    lines = printed(capsys, monkeypatch, tables.print_metrics, metrics)
    lines = [line.split() for line in lines]
    first, second = (
        lines.index([f"tokenizer/level_{n}", *rest])
        for n, rest in enumerate((["0.5", "1,128"], ["1", "0"]))
    )
    assert second == first + 1 and lines[first - 2] == ["level", "usage", "dead_codes"]
    assert lines[lines.index(["categories/depth_2", "7"]) - 2] == ["depth", "num_items"]
    assert lines[lines.index(["categories/depth_2/prefix_1", "0.25"]) - 2] == ["prefix", "ami"]
    assert lines[lines.index(["neighbours/prefix_1", "0.125"]) - 2] == ["prefix", "shared"]
    assert ["tokenizer/unique_before", "0.875"] in lines


def test_collisions_show_the_first_titles(capsys, monkeypatch):
    titles = ["Soap [x2]", "C" * 200, "Brush", "Comb"]
    groups = [
        {"codes": [7, 255, n], "num_items": 1004, "num_texts": 3, "titles": titles}
        for n in range(6)
    ]
    lines = printed(capsys, monkeypatch, tables.print_collisions, groups)
    assert ["7", "255", "0", "1,004", "3", "Soap", "[x2]"] in [line.split() for line in lines]
    assert sum("Brush" in line for line in lines) == 5  # groups
    assert any("CCC…" in line for line in lines) and not any("Comb" in line for line in lines)
    assert max(map(len, lines)) <= 80
    assert printed(capsys, monkeypatch, tables.print_collisions, []) == []


def test_examples_show_titles_side_by_side(capsys, monkeypatch):
    example = {
        "user_id": "u1",
        "target": "Soap [x2]",  # not markup
        "history": ["Brush", "C" * 200],
        "recommended": ["Cream [red]", "Soap [x2]"],
    }
    lines = printed(capsys, monkeypatch, tables.print_examples, [example])
    assert [line.split("✓")[1].strip() for line in lines if "✓" in line] == ["Soap [x2]"]
    assert any("User u1, whose next item was: Soap [x2]" in line for line in lines)
    assert any("Brush" in line and "Cream [red]" in line for line in lines)
    assert any("CCC…" in line for line in lines)
    assert max(map(len, lines)) <= 80


def test_of_a_long_history_the_latest_are_shown(capsys, monkeypatch):
    example = {"user_id": "u", "history": [f"i{n}" for n in range(203)], "recommended": ["Soap"]}
    lines = printed(capsys, monkeypatch, tables.print_examples, [example])
    rows = [line.split()[0] for line in lines if line.strip()][3:]
    assert rows == ["(183", *(f"i{n}" for n in range(183, 203))]


def test_examples_without_a_target(capsys, monkeypatch):
    example = {"user_id": "u[1]", "history": [], "recommended": ["Soap"]}
    lines = printed(capsys, monkeypatch, tables.print_examples, [example])
    assert lines[0].rstrip() == "User u[1]"


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.012345, "0.0123"), (2.5, "2.5"), (375.2, "375"), (999.4, "999"), (12345.6, "12,346")],
)
def test_numbers_of_three_digits(value, text):
    assert tables.three_digits(value) == text


def test_a_histogram_has_a_bar_for_each_bin(capsys, monkeypatch):
    bins = [
        {"first": 0, "last": 0, "count": 0},
        {"first": 1, "last": 1, "count": 1000},
        {"first": 2, "last": 3, "count": 500},
    ]
    histogram = {"name": "events", "of": "users", "bins": bins}
    lines = printed(capsys, monkeypatch, tables.print_histograms, [histogram])
    rows = [line.split() for line in lines if line.strip()]
    assert rows[0] == ["events", "users"] and max(map(len, lines)) <= 80
    assert rows[2:] == [["0", "0"], ["1", "1,000", "█" * 40], ["2–3", "500", "█" * 20]]  # noqa: RUF001


def test_problems_have_a_line_each_if_there_are_any(capsys, monkeypatch):
    found = [
        {
            "name": "a",
            "count": 1200,
            "what": "items without text",
            "examples": ["item 3", "item x"],
        },
        {"name": "b", "count": 0, "what": "events without a time", "examples": []},
        {"name": "c", "count": 2, "what": "events left out", "examples": []},
    ]
    assert printed(capsys, monkeypatch, tables.print_problems, found) == [
        "problem: items without text: 1,200 (such as item 3, item x)",
        "problem: events left out: 2",
    ]
