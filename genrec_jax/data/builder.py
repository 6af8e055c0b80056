"""The prepared data set: a TFDS builder over any source, and the way back to a `Corpus`.

Splits `items` and `users` lie in ArrayRecord files, so nothing here needs TensorFlow. The folder
is named after the hash of what the source reads and of the text template: other contents, another
folder. TFDS writes into
a temporary folder and renames it at the end, so a folder that exists is whole.
"""

import contextlib
import hashlib
import io
import pathlib

import numpy as np
import tensorflow_datasets as tfds

from genrec_jax.data import splits, text
from genrec_jax.data.corpus import Corpus
from genrec_jax.data.records import Source
from genrec_jax.errors import UserError

VERSION = "1.0.0"


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
                    "items": tfds.features.Tensor(shape=(None,), dtype=np.int32),
                    "times": tfds.features.Tensor(shape=(None,), dtype=np.int64),
                }
            ),
            disable_shuffling=True,  # the order of the items is the catalogue's
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
        digest = hashlib.sha256()
        for number, example in enumerate(examples):
            _update(digest, example)
            yield number, example
        self.info.metadata[f"{split}_sha256"] = digest.hexdigest()


def prepare(source: Source, directory: str) -> pathlib.Path:
    """Returns the folder of the prepared data set below `directory`, made now if it is new."""
    tfds.disable_progress_bar()
    contents = f"{source.content_hash} {text.TEMPLATE_VERSION}"
    contents = hashlib.sha256(contents.encode()).hexdigest()[:16]
    builder = CorpusBuilder(
        source=source,
        data_dir=directory,
        file_format="array_record",
        config=tfds.core.BuilderConfig(name=f"{source.name}-{contents}", version=VERSION),
    )
    with contextlib.redirect_stdout(io.StringIO()):  # TFDS announces a download that is none
        builder.download_and_prepare()
    return pathlib.Path(builder.data_path)


def load(path: pathlib.Path) -> Corpus:
    """Reads a prepared data set back, split by leaving one out.

    Raises:
        UserError: if its records are not those that were written.
    """
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
        text_template=metadata["text_template"],
        user_ids=[user["id"].decode() for user in users],
        items=np.concatenate([user["items"] for user in users]),
        offsets=offsets,
        times=times if len(times) else None,
        splits=splits.leave_one_out(offsets),
        facts=metadata["facts"],
    )


def _read(builder, split: str) -> list[dict]:
    source = builder.as_data_source(split)
    examples = source.__getitems__(range(len(source)))  # at once: single reads are slow
    digest = hashlib.sha256()
    for example in examples:
        _update(digest, example)
    if digest.hexdigest() != builder.info.metadata[f"{split}_sha256"]:
        path = builder.data_path
        raise UserError(f"{path}: the records of {split} are damaged: delete the folder, run again")
    return examples


def _item_example(item: dict) -> dict:
    sentence = text.sentence(item)
    return _example(item["item_id"], title=item.get("title") or sentence, text=sentence)


def _user_example(user: dict) -> dict:
    return _example(user["user_id"], items=user["items"], times=user["times"])


def _example(name, title="", text="", items=(), times=()) -> dict:
    return {
        "id": name.encode(),
        "title": title.encode(),
        "text": text.encode(),
        "items": np.array(items, np.int32),
        "times": np.array(times, np.int64),
    }


def _update(digest, example: dict) -> None:
    for field in ("id", "title", "text"):
        digest.update(len(example[field]).to_bytes(8, "little") + example[field])
    for field in ("items", "times"):
        digest.update(len(example[field]).to_bytes(8, "little") + example[field].tobytes())
