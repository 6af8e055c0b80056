"""Tables fit a terminal of 80 characters and say what was measured."""

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
    assert ["train/loss", "8.2664"] in [line.split() for line in lines]
    assert max(map(len, lines)) <= 80


def test_examples_show_titles_side_by_side(capsys, monkeypatch):
    example = {
        "user_id": "u1",
        "target": "Soap [x2]",  # not markup
        "history": ["Brush", "C" * 200],
        "recommended": ["Cream [red]"],
    }
    lines = printed(capsys, monkeypatch, tables.print_examples, [example])
    assert any("User u1, whose next item was: Soap [x2]" in line for line in lines)
    assert any("Brush" in line and "Cream [red]" in line for line in lines)
    assert any("CCC…" in line for line in lines)
    assert max(map(len, lines)) <= 80


def test_examples_without_a_target(capsys, monkeypatch):
    example = {"user_id": "u[1]", "history": [], "recommended": ["Soap"]}
    lines = printed(capsys, monkeypatch, tables.print_examples, [example])
    assert lines[0].rstrip() == "User u[1]"
