"""The notebook runs, and what the READMEs point to is there."""

import json
import os
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]


@pytest.mark.once
def test_the_notebook_runs_from_top_to_bottom(tmp_path):
    cells = json.loads((ROOT / "docs/quickstart.ipynb").read_text())["cells"]
    code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    (tmp_path / "notebook.py").write_text(code)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "MPLBACKEND": "agg"}
    # It trains longer than it compiles, unlike the tests, see conftest.py.
    environment |= {"XLA_FLAGS": "", "JAX_DISABLE_MOST_OPTIMIZATIONS": "0"}
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    done = subprocess.run(
        [sys.executable, "notebook.py"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "after nothing" in done.stdout
    shown = "".join(
        "".join(output["text"])
        for cell in cells
        for output in cell.get("outputs", [])
        if output["output_type"] == "stream" and output["name"] == "stdout"
    )
    first = r"reachable/test/recall@10 +([.\d]+)"
    assert re.search(first, done.stdout).group(1) == re.search(first, shown).group(1)


@pytest.mark.parametrize("name", ["README.md", "README.zh-CN.md", "CONTRIBUTING.md"])
def test_links_lead_somewhere(name):
    links = re.findall(r"\]\((?!https?:)([^)#]*)(#[^)]*)?\)", (ROOT / name).read_text())
    assert links
    for path, anchor in links:
        target = ROOT / (path or name)
        assert target.exists(), path
        if anchor:
            headings = re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE)
            slugs = [re.sub(r"[^\w -]", "", text).lower().replace(" ", "-") for text in headings]
            assert anchor[1:] in slugs, anchor
