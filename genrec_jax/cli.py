"""The command `genrec-jax`: genrec_jax.main with the configs that are installed beside it."""

import ast
import difflib
import pathlib
import re
import sys
import types

from genrec_jax.errors import UserError, exit_on_error

_USAGE = """\
usage: genrec-jax STAGE[:[DATASET][,smoke]] [--workdir=DIR] [--config.KEY=VALUE ...]
       genrec-jax STAGE --help
       genrec-jax data inspect DATASET|FOLDER [--config.KEY=VALUE ...]
       genrec-jax --config=FILE.py[:ARGUMENT] ...     for a config of your own

DATASET is synthetic, the default, beauty, sports, toys, amazon, movielens or files.
The stages:
"""
_HELP = ("-h", "--help")
_IN_A_CLONE = re.compile(r"python -m genrec_jax\.main --config=configs/(\w+)\.py")


def main() -> None:
    """Runs the command line, or prints help."""
    text = _help(sys.argv[1:])
    if text is not None:
        print(text)
        return
    sys.argv[1:] = exit_on_error(arguments)(sys.argv[1:])
    # Configs import each other by this name, wherever they are; a folder of the user's own may add
    # to it.
    package = types.ModuleType("configs")
    package.__path__ = [str(folder()), str(pathlib.Path("configs").absolute())]
    sys.modules["configs"] = package

    from genrec_jax import main as program  # with JAX, which takes seconds

    program.start()


def folder() -> pathlib.Path:
    """Returns where the configs are: in the package, as wheels have it, or beside it in a clone."""
    package = pathlib.Path(__file__).resolve().parent
    inside = package / "configs"
    return inside if inside.is_dir() else package.parent / "configs"


def stages() -> dict[str, str]:
    """Returns the stages' docstrings, by name."""
    paths = sorted(
        path for path in folder().glob("*.py") if path.stem not in ("common", "__init__")
    )
    return {path.stem: ast.get_docstring(ast.parse(path.read_text("utf-8"))) for path in paths}


def arguments(given: list[str]) -> list[str]:
    """Returns the arguments of genrec_jax.main that those of this command stand for.

    Raises:
        UserError: if there is no such stage, or nothing to inspect.
    """
    if given[:1] == ["data"]:
        given = _of_data(given[1:])
    if not given:
        raise UserError("no stage: genrec-jax --help lists them")
    if given[0].startswith("-"):
        return given
    name, colon, argument = given[0].partition(":")
    _check(name)
    return [f"--config={folder() / name}.py{colon}{argument}", *given[1:]]


def _of_data(given: list[str]) -> list[str]:
    """Returns `data inspect` of a data set or a folder, in its long form."""
    if len(given) < 2 or given[0] != "inspect" or given[1].startswith("-"):
        raise UserError("data has one use: genrec-jax data inspect DATASET|FOLDER")
    from genrec_jax.data.datasets import NAMES  # with JAX

    place, *rest = given[1:]
    if place.partition(",")[0] in NAMES:
        return [f"inspect:{place}", *rest]
    if not pathlib.Path(place).is_dir():
        raise UserError(f"{place} is neither a folder nor a data set ({', '.join(NAMES)})")
    return ["inspect:files", f"--config.data.dir={place}", *rest]


def _help(given: list[str]) -> str | None:
    """Returns the text that is asked for, if any: on all stages, or on the one that is named."""
    if not any(argument in _HELP for argument in given):
        return None
    name = given[0].partition(":")[0]
    if name in stages():
        text = _IN_A_CLONE.sub(r"genrec-jax \1", stages()[name])
        return f"{text}\n\nIts settings, each with a comment: {folder() / name}.py"
    width = max(map(len, stages()))
    lines = [f"  {name:{width}}  {text.splitlines()[0]}" for name, text in stages().items()]
    return _USAGE + "\n".join(lines)


def _check(name: str) -> None:
    if name in stages():
        return
    close = difflib.get_close_matches(name, stages(), n=1)
    nearest = f"the nearest is {close[0]}, and " if close else ""
    raise UserError(f"unknown stage {name!r}: {nearest}genrec-jax --help lists all")


if __name__ == "__main__":
    main()
