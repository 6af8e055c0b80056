"""Checks of settings, before anything is computed with them."""

from collections.abc import Sequence

from ml_collections import ConfigDict

from genrec_jax.errors import UserError


def at_least(config: ConfigDict, minima: dict[str, float]) -> None:
    """Raises UserError for the first of the settings, by dotted key, that is below its minimum."""
    for key, minimum in minima.items():
        value = _get(config, key)
        if value < minimum:
            raise UserError(f"--config.{key}={value} must be at least {minimum}")


def fraction(config: ConfigDict, *keys: str) -> None:
    """Raises UserError for the first of the settings that is not from 0 to below 1."""
    for key in keys:
        value = _get(config, key)
        if not 0 <= value < 1:
            raise UserError(f"--config.{key}={value} must be at least 0 and below 1")


def choice(config: ConfigDict, key: str, choices: Sequence[str]) -> None:
    """Raises UserError unless the setting is one of the choices."""
    value = _get(config, key)
    if value not in choices:
        raise UserError(f"--config.{key}={value!r} is unknown: choose one of {', '.join(choices)}")


def needs(config: ConfigDict, key: str, wanted: dict[str, object], instead: object) -> None:
    """Raises UserError for the first setting that is not as wanted by what `key` turns on."""
    for other, value in wanted.items():
        found = _get(config, other)
        if _get(config, key) and found != value:
            raise UserError(
                f"--config.{key}={_get(config, key)} needs --config.{other}={value}, not {found}: "
                f"give it, or --config.{key}={instead}"
            )


def stack(config: ConfigDict, key: str) -> None:
    """Raises UserError for the first setting of a stack of layers that is out of range."""
    sizes = ("dim", "num_heads", "hidden_dim", "num_layers")
    at_least(config, {f"{key}.{name}": 1 for name in sizes})
    fraction(config, f"{key}.dropout")
    settings = _get(config, key)
    if settings.dim % settings.num_heads:
        raise UserError(
            f"--config.{key}.dim={settings.dim} cannot be split into {settings.num_heads} heads: "
            f"make it a multiple of --config.{key}.num_heads"
        )


def _get(config: ConfigDict, key: str):
    for name in key.split("."):
        config = config[name]
    return config
