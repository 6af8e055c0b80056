from xml.etree import ElementTree

from genrec_jax.report import charts


def letters(svg):
    """Returns all text of a picture that is whole."""
    return " ".join("".join(part.itertext()) for part in ElementTree.fromstring(svg).iter())


def test_what_is_drawn_can_be_read():
    bins = [{"first": 1, "last": 1, "count": 5}, {"first": 1024, "last": 2047, "count": 2}]
    drawn = [
        charts.curves(dict.fromkeys(("the <loss>", "b"), ([1, 2], [3.0, 4.0])), x="step"),
        charts.groups(
            ["few", "many"],
            [3, 1200],
            {name: charts.Intervals([0.1, 0.2], [0, 0.1], [0.2, 0.3]) for name in ("us", "them")},
            x="n",
            y="r",
        ),
        charts.shares(["one", "two"], {"kept": [0.5, 0.25], "first": [0, 0]}, x="codes"),
        charts.histogram(bins, x="events", y="users"),
    ]
    for svg, words in zip(
        drawn,
        (
            ["the <loss>", "step"],
            ["few", "many", "us", "them", "(1,200)", "n (in brackets: users)"],
            ["kept", "50%", "25%"],
            ["1,024–2,047"],  # noqa: RUF001
        ),
        strict=True,
    ):
        for word in words:
            assert word in letters(svg), word


def test_the_same_picture_each_time():
    first, second = (charts.shares(["one"], {"kept": [0.5]}, x="codes") for _ in range(2))
    assert first == second
