"""The page of a run that was trained on a folder of files, read and clicked through."""

import json
import math
import re
import shutil

import numpy as np
import pytest

from configs import report as config_file
from genrec_jax import checkpoint
from genrec_jax.errors import UserError
from genrec_jax.report import explorer
from genrec_jax.tasks import report, summary
from tests.tasks.recommend_test import NUM_EVALUATED, train
from tests.tasks.recommend_test import run as recommend

pytestmark = pytest.mark.once


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return train(tmp_path_factory, {})


def write(folder, workdir, **settings):
    config = config_file.get_config()
    config.update({"run": str(folder)} | settings)
    return report.run(config, workdir)


@pytest.fixture(scope="module")
def page(trained, tmp_path_factory):
    """Returns the file and what the stage says of it."""
    workdir = tmp_path_factory.mktemp("page")
    return workdir / "report.html", write(trained[1], workdir, num_users=0)


@pytest.fixture(scope="module")
def data(page):
    """Returns what the explorer shows."""
    (found,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', read(page))
    return json.loads(found)


def read(page):
    return page[0].read_text(encoding="utf-8")


def test_the_page_stands_alone(page):
    text = read(page)
    assert page[1]["page/megabytes"] == page[0].stat().st_size / 1e6 < 1
    addresses = re.findall(r"""(?:src|href)\s*=\s*["']?(.{5})""", text)
    assert addresses and all(address.startswith(("#", "data:")) for address in addresses)
    assert "http" not in re.sub(r'src="data:.*?"|<script.*?</script>', "", text, flags=re.DOTALL)


def test_it_says_what_the_run_measured(trained, page):
    text, metrics = read(page), trained[2]
    knn = metrics["baseline/itemknn/test/recall@10"]
    assert f"(item-kNN) for {100 * knn:.1f}%" in text and "the last item" in text
    assert f"<b>{100 * metrics['test/recall@10']:.1f}%</b>" in text
    for prefix in ("test", "test_new", "baseline/itemknn/test", "baseline/popularity/test_new"):
        for name in ("recall@5", "ndcg@5", "recall@10", "ndcg@10"):
            assert f"<td>{metrics[f'{prefix}/{name}']:.4f}<br>" in text
    assert text.count('<img src="data:image/') == 11
    assert f"<td>{metrics['model/num_parameters']:,}</td>" in text
    assert "<td>model.num_heads</td><td>2</td>" in text
    assert str(trained[0]) not in text  # nor any other place of this machine


def test_users_are_those_of_the_test(trained, data, tmp_path):
    _, rows = recommend(trained, tmp_path, split="test", exclude_history=False)
    by_user = {row["user_id"]: row for row in rows}
    arrays, meta = checkpoint.load_export(trained[1], ("semantic_ids",))
    ids = data["items"]["ids"]
    assert ids == meta["item_ids"] and data["items"]["titles"] == meta["titles"]
    assert data["items"]["codes"] == arrays["semantic_ids"].tolist()
    assert len({user["id"] for user in data["users"]}) == NUM_EVALUATED
    lines = (trained[0] / "sequences.txt").read_text().splitlines()
    histories = {user: items for user, *items in map(str.split, lines)}
    for user in data["users"]:
        row = by_user[user["id"]]
        assert [ids[item] for item in user["items"]] == row["item_ids"]
        np.testing.assert_allclose(user["scores"], row["scores"], atol=1e-4)
        *history, target = histories[user["id"]]
        assert ids[user["target"]] == target
        assert [ids[item] for item in user["history"]] == history[-6:]  # the model's `max_history`


def test_beams_are_a_tree_that_ends_at_items(data):
    codes = data["items"]["codes"]
    for user in data["users"]:
        prefixes = [()]
        for level in user["beams"]:
            assert 1 <= sum(math.exp(score) for _, _, score in level) * 20 <= 20.1
            prefixes = [(*prefixes[parent], code) for code, parent, _ in level]
        assert prefixes == [tuple(codes[item]) for item in user["beamItems"]]
        assert user["beamItems"][:10] == user["items"]


def test_neighbours_are_other_items(data):
    for item, near in enumerate(data["items"]["neighbours"]):
        assert len(set(near)) == 10 and item not in near


def test_a_user_is_drawn_and_few_items_are_those_that_are_needed(trained, tmp_path, monkeypatch):
    found = explorer.Found([np.arange(10)], None, None, None)
    monkeypatch.setattr(report, "_search", lambda *_: found)
    finished = summary.load(trained[1])
    finished.config["data"]["split"], finished.config["eval"]["unseen_share"] = "temporal", 0.3
    monkeypatch.setattr(summary, "load", lambda _: finished)
    metrics = write(trained[1], tmp_path, num_users=1, num_items=5)
    assert 10 <= metrics["page/num_items"] <= 17 and metrics["page/num_users"] == 1
    text = read([tmp_path / "report.html"])
    assert "among the items of this page" in text and "1 of the 120 test users, drawn" in text
    assert "first item of the test period" in text and "of the first r places 30.0%" in text


def test_titles_cannot_become_code():
    from genrec_jax.report import page

    text = page._script_json({"title": "</script><script>alert(1)</script>"})
    assert "<" not in text and json.loads(text)["title"].startswith("</script>")


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda folder: (folder / "ranks.parquet").unlink(), r"ranks.parquet is missing"),
        (lambda folder: (folder / "tokenizer/metrics.json").unlink(), r"no finished tokenizer"),
    ],
)
def test_what_is_missing_is_named(trained, tmp_path, change, message):
    folder = tmp_path / "run"
    shutil.copytree(trained[1], folder)
    change(folder)
    with pytest.raises(UserError, match=message):
        write(folder, tmp_path)
    assert not (tmp_path / "report.html").exists()


def test_runs_that_have_no_page(tmp_path):
    with pytest.raises(UserError, match=r"no --config\.run"):
        write("", tmp_path)
    with pytest.raises(UserError, match=r"is on the hub"):
        write("hf://somebody/shop", tmp_path)


@pytest.fixture(scope="module")
def browser():
    """Starts Chromium, and skips without it or the extra `browser`."""
    playwright = pytest.importorskip("playwright.sync_api")
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no chromium on PATH")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(params=[1280, 390], ids=["wide", "phone"])
def tab(browser, page, request):
    """Opens the page, and fails if it says anything to the console or asks the net for anything."""
    tab = browser.new_page(viewport={"width": request.param, "height": 844})
    said = []
    tab.on("console", lambda message: said.append(message.text))
    tab.on("pageerror", lambda error: said.append(str(error)))
    tab.on("request", lambda sent: said.extend([sent.url] * sent.url.startswith("http")))
    tab.goto(page[0].as_uri())
    yield tab
    assert said == []
    assert tab.evaluate("document.documentElement.scrollWidth") == request.param
    tab.close()


def test_clicking_through_users(tab, data):
    users, titles = data["users"], data["items"]["titles"]
    heading = tab.locator("#user h3").first
    assert users[0]["id"] in heading.inner_text()
    tab.get_by_label("The next user").click()
    tab.get_by_text(f"of user {users[1]['id']},").wait_for()
    assert tab.locator("#user ol").first.locator("a").all_inner_texts() == [
        titles[item] for item in reversed(users[1]["history"])
    ]
    tab.get_by_label("The user before").click()
    tab.get_by_label("The user before").click()  # from the first to the last
    tab.get_by_text(f"of user {users[-1]['id']},").wait_for()

    hits = [user for user in users if user["target"] in user["items"]]
    assert 0 < len(hits) < NUM_EVALUATED
    tab.get_by_label("Which users").select_option("hits")
    tab.get_by_text(f"of user {hits[0]['id']},").wait_for()
    assert tab.locator("#user-choice option").count() == len(hits)
    rank = hits[0]["items"].index(hits[0]["target"]) + 1
    assert f"number {rank} of" in tab.locator("#user p.hit").inner_text()
    assert tab.locator("#user li.hit a").inner_text() == titles[hits[0]["target"]]
    assert tab.locator("#user .tree").get_by_text(titles[hits[0]["target"]]).count() == 1
    assert tab.locator("#user .tree .true").count() == 3  # a code each


def test_clicking_through_items(tab, data):
    items = data["items"]
    tab.get_by_label("Find an item").fill(items["titles"][7].upper())
    found = tab.locator("#item-found a")
    assert items["titles"][7] in found.all_inner_texts()
    found.get_by_text(items["titles"][7], exact=True).first.click()
    tab.locator("#item h3").first.get_by_text(items["titles"][7], exact=True).wait_for()
    near = tab.locator("#item ol a")
    assert near.all_inner_texts() == [items["titles"][item] for item in items["neighbours"][7]]
    own = tab.locator("#item .branch .chip.same")
    assert own.count() >= 1

    near.first.click()
    other = items["neighbours"][7][0]
    tab.locator("#item h3").first.get_by_text(items["titles"][other], exact=True).wait_for()
    tab.go_back()
    tab.locator("#item h3").first.get_by_text(items["titles"][7], exact=True).wait_for()


@pytest.mark.parametrize("tab", [1280], indirect=True)
def test_addresses(tab, page, data):
    user, item = data["users"][-1]["id"], data["items"]["ids"][3]
    first = f"of user {data['users'][0]['id']},"
    tab.goto(f"{page[0].as_uri()}#user=%")  # which is no address at all
    tab.get_by_text(first).wait_for()
    tab.goto(f"{page[0].as_uri()}#item={item}")
    assert tab.locator("#item p").first.inner_text().startswith(f"{item} ·")
    assert tab.evaluate("document.activeElement.textContent") == data["items"]["titles"][3]
    missed = [one["id"] for one in data["users"] if one["target"] not in one["items"]]
    tab.get_by_label("Which users").select_option("hits")
    tab.goto(f"{page[0].as_uri()}#user={missed[-1]}")  # who is not in the group
    tab.get_by_text(f"of user {missed[-1]},").wait_for()
    assert tab.get_by_label("Which users").input_value() == "all"
    assert tab.locator("#user-choice option:checked").inner_text().startswith(missed[-1])
    tab.goto(page[0].as_uri())
    tab.get_by_label("The user before").click()
    tab.get_by_text(f"of user {user},").wait_for()
    tab.go_back()
    tab.get_by_text(first).wait_for()


@pytest.mark.parametrize("tab", [1280], indirect=True)
def test_finding_items(tab, data):
    search, count = tab.get_by_label("Find an item"), tab.locator("#item-count")
    search.fill("no such item")
    assert count.inner_text() == "No item on this page has these words."
    search.fill("o")
    matching = [
        title
        for title, item in zip(data["items"]["titles"], data["items"]["ids"], strict=True)
        if "o" in f"{title} {item}".lower()
    ]
    assert tab.locator("#item-found a").all_inner_texts() == matching[:20]
    assert count.inner_text() == f"and {len(matching) - 20} more: add words"
    search.fill("")
    assert count.inner_text() == ""
