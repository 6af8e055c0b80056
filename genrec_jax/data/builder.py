"""The prepared data set: a TFDS builder over any source, and the way back to a `Corpus`.

Splits `items` and `users` lie in ArrayRecord files, so nothing here needs TensorFlow. The folder
is named after the hash of what the source reads and of the text template: other contents, another
folder. It is written aside and renamed when it is whole, and its `digests.json` has the SHA-256 of
each of its files: a folder that is damaged is prepared again.
"""

import contextlib
import errno
import hashlib
import io
import logging
import os
import pathlib
import uuid

import numpy as np
import rich.console
import rich.progress
import tensorflow_datasets as tfds

from genrec_jax import files
from genrec_jax.data import splits, text
from genrec_jax.data.corpus import Corpus
from genrec_jax.data.records import Source

VERSION = "1.1.0"  # raise it when what is stored changes
_log = logging.getLogger(__name__)


class CorpusBuilder(tfds.core.GeneratorBasedBuilder):
    """Users' histories over a catalogue, from one of the sources."""

    name = "corpus"
    VERSION = tfds.core.Version(VERSION)

    def __init__(self, *, source: Source, **kwargs):
        self._source = source
        super().__init__(**kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.__doc__,
            features=tfds.features.FeaturesDict(
                {  # a TFDS data set has one set of features, so both splits carry all of them
                    "id": tfds.features.Text(),
                    "title": tfds.features.Text(),
                    "text": tfds.features.Text(),
                    "categories": tfds.features.Sequence(tfds.features.Text()),
                    "items": tfds.features.Tensor(shape=(None,), dtype=np.int32),
                    "times": tfds.features.Tensor(shape=(None,), dtype=np.int64),
                }
            ),
            disable_shuffling=True,  # the order of the items is the catalogue's
            citation=self._source.citation,
            homepage=self._source.homepage,
            metadata=tfds.core.MetadataDict(),
        )

    def _split_generators(self, dl_manager):
        records = self._source.read()
        self.info.metadata["facts"] = records.facts
        self.info.metadata["text_template"] = text.TEMPLATE_VERSION
        return {
            "items": self._generate_examples("items", map(_item_example, records.items)),
            "users": self._generate_examples("users", map(_user_example, records.users)),
        }

    def _generate_examples(self, split, examples):
        console = rich.console.Console(stderr=True)
        return enumerate(
            rich.progress.track(
                examples, f"writing {split}", console=console, disable=not console.is_terminal
            )
        )


def prepare(source: Source, directory: str | os.PathLike) -> pathlib.Path:
    """Returns the folder of the prepared data set below `directory`.

    It is made now if it is new or damaged. Any number of runs may do so at once.
    """
    directory = pathlib.Path(directory)
    contents = f"{source.content_hash} {text.TEMPLATE_VERSION}"
    contents = hashlib.sha256(contents.encode()).hexdigest()[:16]
    config = f"{source.name}-{contents}"
    place = directory / CorpusBuilder.name / config / VERSION
    if place.exists():
        damage = files.damage(place)
        if damage is None:
            return place
        _log.warning("%s: preparing the data set again", damage)
    with files.folder_aside(directory) as aside:
        finished = _generate(source, aside / "finished", config)
        files.write_digests(finished, "*")
        _put(finished, place, aside)
    return place


def _generate(source: Source, directory: pathlib.Path, config: str) -> pathlib.Path:
    """Returns the folder below `directory` that holds what the source has."""
    tfds.disable_progress_bar()
    builder = CorpusBuilder(
        source=source,
        data_dir=directory,
        file_format="array_record",
        config=tfds.core.BuilderConfig(name=config, version=VERSION),
    )
    with contextlib.redirect_stdout(io.StringIO()):  # TFDS announces a download that is none
        builder.download_and_prepare()
    return pathlib.Path(builder.data_path)


def _put(finished: pathlib.Path, place: pathlib.Path, aside: pathlib.Path) -> None:
    """Moves a folder to its place, unless another run has put a whole one there meanwhile."""
    place.parent.mkdir(parents=True, exist_ok=True)
    while True:
        try:
            return os.rename(finished, place)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        if files.damage(place) is None:
            return
        with contextlib.suppress(FileNotFoundError):  # another run has moved it
            os.rename(place, aside / uuid.uuid4().hex)


def load(path: pathlib.Path) -> Corpus:
    """Reads a prepared data set back, split by leaving one out."""
    builder = tfds.builder_from_directory(path)
    metadata = builder.info.metadata
    items = _read(builder, "items")
    users = _read(builder, "users")
    lengths = [len(user["items"]) for user in users]
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    times = np.concatenate([user["times"] for user in users])
    return Corpus(
        item_ids=[item["id"].decode() for item in items],
        titles=[item["title"].decode() for item in items],
        texts=[item["text"].decode() for item in items],
        categories=[tuple(name.decode() for name in item["categories"]) for item in items],
        text_template=metadata["text_template"],
        user_ids=[user["id"].decode() for user in users],
        items=np.concatenate([user["items"] for user in users]),
        offsets=offsets,
        times=times if len(times) else None,
        splits=splits.leave_one_out(offsets),
        is_cold=np.zeros(len(items), bool),
        facts=metadata["facts"],
    )


def _read(builder, split: str) -> list[dict]:
    source = builder.as_data_source(split)
    return source.__getitems__(range(len(source)))  # at once: single reads are slow


def _item_example(item: dict) -> dict:
    sentence = text.sentence(item)
    return _example(
        item["item_id"],
        title=item.get("title") or sentence,
        text=sentence,
        categories=next(filter(None, item.get("categories", ())), ()),
    )


def _user_example(user: dict) -> dict:
    return _example(user["user_id"], items=user["items"], times=user["times"])


def _example(name, title="", text="", categories=(), items=(), times=()) -> dict:
    return {
        "id": name.encode(),
        "title": title.encode(),
        "text": text.encode(),
        "categories": [category.encode() for category in categories],
        "items": np.array(items, np.int32),
        "times": np.array(times, np.int64),
    }
