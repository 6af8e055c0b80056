"""Each file imports only from files above it, and only models import flax."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[1]

# From top to bottom; `data.sources` stands for all files in that folder.
ORDER = """
serving errors checks files lookup xla preemption loss_watch lifeline clusters distributed
interop.torch_pickle interop.pytorch
data.records data.splits data.corpus data.cold_start data.text data.histories
data.k_core data.events data.text_files data.event_files data.review_files data.table_files
data.product_fields
data.sources
data.builder data.downloads data.datasets data.inspection data.history_files data.embedding_files
data.sentence_encoders
data.embedders data.packing data.batches
quantizers.sinkhorn quantizers.vector quantizers.hopper quantizers.tpu quantizers.kernels
quantizers.residual quantizers.ema quantizers.fsq
quantizers.kmeans quantizers.product
quantizers.nearest_ids quantizers.collisions quantizers.health
losses metrics
decoding.prefix_index decoding.catalogue_tree decoding.beam_search decoding.item_scores
decoding.reserve
models.layers models.rqvae models.fsq models.transformer models.encoder_decoder models.sasrec
models.hybrid
tokenizers.codecs
sharding optimizer hub checkpoint trackers telemetry roofline hlo profiling
evaluators.tokenizer evaluators.searchers evaluators.retrieval evaluators.baselines
evaluators.semantic_ids evaluators.beams
train_step train plan tokenizers.neural tokenizers.clustering workdir tables pictures
recommender ranking
report.charts report.quality report.training report.explorer report.page
tasks.prepare tasks.inspect tasks.embed tasks.tokenizer tasks.add_items tasks.tokenizer_report
tasks.retrieval tasks.sasrec tasks.hybrid tasks.from_pytorch tasks.recommend tasks.summary
tasks.export tasks.report tasks.push_to_hub
tasks.profile_quantize
main cli
""".split()
FILES = sorted(path for path in (ROOT / "genrec_jax").rglob("*.py") if path.name != "__init__.py")


def module(path):
    name = ".".join(path.relative_to(ROOT / "genrec_jax").with_suffix("").parts)
    return "data.sources" if name.startswith("data.sources.") else name


def imports(path):
    """Returns the full names of all that a file imports."""
    names = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


def ours(path):
    """Returns which of the files in ORDER a file imports."""
    used = set()
    for name in imports(path):
        name = name.removeprefix("genrec_jax.")
        used |= {known for known in ORDER if name == known or name.startswith(f"{known}.")}
    return used


def test_the_order_names_every_file_once():
    assert len(ORDER) == len(set(ORDER))
    assert {module(path) for path in FILES} == set(ORDER)


@pytest.mark.parametrize("path", FILES, ids=module)
def test_imports_come_from_above(path):
    above = ORDER[: ORDER.index(module(path))]
    assert ours(path) <= set(above)


@pytest.mark.parametrize("path", FILES, ids=module)
def test_who_may_import_what(path):
    packages = {name.partition(".")[0] for name in imports(path)}
    assert not packages & {"tensorflow", "torch", "benchmarks"}
    assert ("flax" in packages) <= module(path).startswith("models.")
    if module(path).startswith("decoding."):
        assert not any(name.startswith("models.") for name in ours(path))
