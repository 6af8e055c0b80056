"""Stage `push_to_hub`: a trained recommender to a repository of the Hugging Face hub.

What is pushed is first written to the workdir's `repository/`: the run's export, config.json and
metrics.json, a model card, and what stage `export` makes of them. Histories are not among it, nor
does it name files of this machine.
"""

import json
import logging
import pathlib
import shutil
import time

from ml_collections import ConfigDict

from genrec_jax import __version__, checkpoint, files, hub, recommender, tables
from genrec_jax.errors import UserError
from genrec_jax.tasks import export

_log = logging.getLogger(__name__)
_CARD = """\
---
library_name: genrec_jax
tags:
- recommendation
- generative-retrieval
- semantic-ids
- jax
---

# {name}

A recommender of genrec_jax {version}: task `{task}`, config `{config}`, trained on the data set
`{dataset}`{edition} with {num_items:,} items.
{rankings}
```python
from genrec_jax.recommender import Recommender

recommender = Recommender.load("hf://{repo}")
for best in recommender.recommend([{history}], k=10):
    print(best.item_ids, best.scores, best.titles)
```

It needs the package `huggingface_hub`. `hf://{repo}@COMMIT` is the run as a commit had it;
`metrics.json` has all figures, `config.json` all settings.
"""
_RANKINGS = """
{table}

`test` ranks the whole catalogue, `test_new` all of it but the user's history, which are different
questions.{words}
"""
_WORDS = {  # of rankings that not all runs have, by what is in their names
    "reachable": "`reachable` is the most that any recommender can expect on this generated shop.",
    "generated": "`generated` ranks by semantic IDs alone, `scored` by the items' scores alone.",
    "cold": "`test_cold` is of users whose target nobody had in training.",
    "baseline": "`baseline` is what counting gives: the most popular items, and item-kNN.",
}
_EXPORTED = """
`{folder}/` has what `genrec-jax export` writes, for use without genrec_jax: its `serving.py`
says how.
"""


def run(config, workdir: pathlib.Path) -> dict[str, float]:
    """Pushes the run and returns counts."""
    started = time.monotonic()
    _check(config)
    folder = workdir / "repository"
    if folder.exists():
        shutil.rmtree(folder)  # of an earlier push
    folder.mkdir()
    try:
        _write(config, folder)
        address = hub.push(folder, config.repo, private=config.private)
    except BaseException:
        shutil.rmtree(folder)
        raise
    _log.info("pushed to %s", address)
    pushed = [path for path in folder.rglob("*") if path.is_file()]
    return {
        "num_files": len(pushed),
        "megabytes": sum(path.stat().st_size for path in pushed) / 1e6,
        "time/seconds": time.monotonic() - started,
    }


def _check(config) -> None:
    """Refuses what would only fail later, before anything is written."""
    if not config.run:
        raise UserError("no --config.run: give the folder of a finished run")
    hub.check_folder(config.run)
    if not hub.is_repo(config.repo):
        raise UserError(f"--config.repo={config.repo!r} must be USER/NAME")
    if not (pathlib.Path(config.run) / "metrics.json").is_file():
        raise UserError(
            f"no finished run in {config.run}: metrics.json is missing; run that stage first"
        )
    hub.check_installed()


def _write(config, folder: pathlib.Path) -> None:
    """Writes all that is to be pushed."""
    arrays, meta = recommender.load_export(config.run)
    meta["config"] = hub.without_places(meta["config"])
    checkpoint.export(folder, arrays, meta)
    files.write_json(folder / "config.json", meta["config"])
    metrics = files.read_json(pathlib.Path(config.run) / "metrics.json")
    files.write_json(folder / "metrics.json", metrics)
    files.write_atomically(folder / "README.md", _card(config, meta, metrics).encode())
    if config.exported:
        settings = ConfigDict(config.export_config.to_dict() | {"run": str(folder)})
        try:
            export.run(settings, folder / hub.EXPORTED)
        except UserError as error:  # here its settings are below a key of their own
            message = str(error).replace("--config.", "--config.export_config.")
            raise UserError(message.replace(str(folder), config.run)) from error


def _card(config, meta: dict, metrics: dict[str, float]) -> str:
    """Returns the model card."""
    ranked = [name for name in metrics if name.endswith("/recall@10")]  # none if converted
    words = [text for word, text in _WORDS.items() if any(word in name for name in ranked)]
    rankings = _RANKINGS.format(
        table=tables.rankings(metrics), words="".join(f"\n{text}" for text in words)
    )
    edition = meta["config"]["data"].get("edition")  # which runs of before do not have
    card = _CARD.format(
        name=config.repo.partition("/")[2],
        version=__version__,
        task=meta["config"]["task"],
        config=meta["config"]["name"],
        dataset=meta["config"]["data"]["dataset"],
        edition=f" (`{edition}`)" if edition else "",
        num_items=len(meta["item_ids"]),
        rankings=rankings if ranked else "",
        repo=config.repo,
        history=json.dumps(meta["item_ids"][:2]),
    )
    return card + (_EXPORTED.format(folder=hub.EXPORTED) if config.exported else "")
