"""What the configs promise."""

import importlib
import pathlib

import pytest

from genrec_jax.data.datasets import NAMES
from genrec_jax.errors import UserError

CONFIGS = sorted(
    path.stem
    for path in (pathlib.Path(__file__).parents[1] / "configs").glob("*.py")
    if path.stem != "common"
)
# Which take its data set.
OF_A_RUN = ["export", "push_to_hub", "recommend", "report", "summary", "tokenizer_report"]
WITH_DATA = [name for name in CONFIGS if name not in (*OF_A_RUN, "profile_quantize")]


def get(name, arg=""):
    return importlib.import_module(f"configs.{name}").get_config(arg)


@pytest.mark.parametrize("name", WITH_DATA)
def test_every_config_takes_every_data_set_and_smoke(name):
    assert get(name).data.dataset == "synthetic"
    for dataset in NAMES:
        for arg in (dataset, f"{dataset},smoke", f"smoke,{dataset}"):
            config = get(name, arg)
            assert config.data.dataset == dataset
            assert config.name == name
            importlib.import_module(f"genrec_jax.tasks.{config.task}")
    assert get(name, "smoke").data.dataset == "synthetic"


@pytest.mark.parametrize("name", WITH_DATA)
def test_mistakes_in_the_argument(name):
    with pytest.raises(UserError, match=r"unknown data set 'beaty': choose one of synthetic, bea"):
        get(name, "beaty")
    with pytest.raises(UserError, match=r"unknown data set 'smokee'"):
        get(name, "beauty,smokee")
    with pytest.raises(UserError, match=r"names 2 data sets"):
        get(name, "beauty,toys")


def test_large_batches_keep_the_number_of_samples():
    small, large = get("retrieval", "beauty"), get("large_batch", "beauty,1024")
    assert (small.batch_size, large.batch_size) == (256, 1024)
    for of_steps in ("num_steps", "eval_every", "steps_per_call"):
        assert large[of_steps] * 4 == small[of_steps]
    assert large.optimizer.warmup_steps * 4 == small.optimizer.warmup_steps
    assert large.optimizer.learning_rate == pytest.approx(6 * small.optimizer.learning_rate)
    assert get("large_batch", "beauty").batch_size == 4096
    for arg, message in (
        ("beauty,115201", "batches of 115201 make less than 100 updates of .* 11520000 samples: "),
        ("0", "give from 1 to 5120"),
        ("8,9", "has 2 numbers: give one"),
    ):
        with pytest.raises(UserError, match=message):
            get("large_batch", arg)


@pytest.mark.parametrize("name", OF_A_RUN)
def test_what_reads_a_run_takes_no_data_set(name):
    config = get(name)
    assert config.name == name and "data" not in config
    importlib.import_module(f"genrec_jax.tasks.{config.task}")
    message = rf"{name}.py takes no argument such as 'beauty': give --config.run"
    with pytest.raises(UserError, match=message):
        get(name, "beauty")


def test_the_profile_of_quantising_takes_smoke_alone():
    model = get("rqvae", "beauty").model.to_dict()
    sizes = {name: model.pop(name) for name in ("codebook_size", "num_levels", "level_sizes")}
    config = get("profile_quantize")
    assert config.model.to_dict() == model
    assert sizes["codebook_size"] in config.codebook_sizes
    assert sizes["num_levels"] in config.num_levels
    assert get("profile_quantize", "smoke").small_ceilings
    with pytest.raises(UserError, match=r"takes smoke or no argument, not 'beauty'"):
        get("profile_quantize", "beauty")


@pytest.mark.parametrize("name", ["rqvae", "fsq", "retrieval", "hybrid", "sasrec"])
def test_training_is_traced_on_request_alone(name):
    assert get(name).profile.to_dict() == {"first_step": 0, "num_steps": 0}


@pytest.mark.parametrize("name", ["rqvae", "fsq", "retrieval", "hybrid", "sasrec"])
def test_training_saves_by_the_clock_and_leaves_out_no_update(name):
    policy = {"every_minutes": 10, "keep_last": 2, "keep_best": 2, "keep_every_hours": 0}
    assert get(name).checkpoint.to_dict() == policy
    assert get(name).skip_nonfinite == 0


@pytest.mark.parametrize("dataset", NAMES)
@pytest.mark.parametrize("smoke", ["", ",smoke"])
def test_batches_can_be_split_over_eight_devices(dataset, smoke):
    config = get("retrieval", dataset + smoke)
    sizes = [config.batch_size, config.eval.batch_size, config.tokenizer_config.batch_size]
    assert all(size % 8 == 0 for size in sizes)
    assert config.eval.num_beams >= 20
    assert config.steps_per_call <= config.eval_every <= config.num_steps


def test_the_tokenizers_seed_and_data_are_those_of_the_run():
    config = get("retrieval", "files")
    config.seed = 5
    config.data.dir = "here"
    config.trackers = "mlflow"
    assert config.tokenizer_config.seed == 5
    assert config.tokenizer_config.data.dir == "here"
    assert config.tokenizer_config.trackers == "mlflow"
    assert get("rqvae", "files").model == config.tokenizer_config.model


def test_the_original_decoder_has_its_shape_and_shrinks_to_a_smoke_run():
    config = get("retrieval_original", "beauty")
    shape = {
        "embedding_dim": 128,
        "dim": 512,
        "num_heads": 8,
        "head_dim": 64,
        "hidden_dim": 1024,
        "num_encoder_layers": 4,
        "num_decoder_layers": 4,
        "positions": "learned",
        "dropout": 0.3,
    }
    assert shape.items() <= config.model.to_dict().items()
    for arg in ("", "beauty,smoke"):
        small, like = get("retrieval_original", arg), get("retrieval", arg)
        assert small.model.dim == like.model.dim < 128
        assert small.optimizer.warmup_steps * 2 <= small.num_steps == like.num_steps
        assert small.model.positions == "learned" and small.samples == "subsequences"
