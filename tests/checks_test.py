"""Settings that are refused before anything is computed."""

import pytest
from ml_collections import ConfigDict

from genrec_jax import checks
from genrec_jax.errors import UserError

CONFIG = ConfigDict({"seed": 0, "model": {"dim": 3, "dropout": 0.1, "dtype": "float32"}})


def test_a_number_below_its_minimum_is_named():
    checks.at_least(CONFIG, {"seed": 0, "model.dim": 3})
    with pytest.raises(UserError, match=r"^--config.model.dim=3 must be at least 4$"):
        checks.at_least(CONFIG, {"seed": 0, "model.dim": 4})


@pytest.mark.parametrize("value, is_fine", [(0.0, True), (0.99, True), (1.0, False), (-0.1, False)])
def test_a_fraction_is_below_one(value, is_fine):
    config = ConfigDict({"dropout": value})
    if is_fine:
        checks.fraction(config, "dropout")
    else:
        with pytest.raises(UserError, match=rf"--config.dropout={value} must be at least 0 and be"):
            checks.fraction(config, "dropout")


def test_a_choice_names_the_choices():
    checks.choice(CONFIG, "model.dtype", ("auto", "float32"))
    with pytest.raises(UserError, match=r"model.dtype='float32' is unknown: choose one of auto, b"):
        checks.choice(CONFIG, "model.dtype", ("auto", "bfloat16"))


def test_what_a_setting_needs():
    config = ConfigDict({"packed": True, "model": {"positions": "learned"}})
    wanted = {"model.positions": "relative"}
    message = (
        "--config.packed=True needs --config.model.positions=relative, not learned: give it, or "
        "--config.packed=False"
    )
    with pytest.raises(UserError, match=message):
        checks.needs(config, "packed", wanted, instead=False)
    config.packed = False
    checks.needs(config, "packed", wanted, instead=False)
