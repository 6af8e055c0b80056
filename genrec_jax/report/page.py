"""One HTML file from the parts of a run's page, which needs no net."""

import base64
import functools
import json
import pathlib
from typing import Any

import jinja2

_FOLDER = pathlib.Path(__file__).parent


def render(**parts: Any) -> str:
    """Returns the page.

    Args:
        parts: what page.html names. Of these `data` is for page.js; pictures are SVG text or the
            bytes of a PNG file.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"address": _address, "script_json": _script_json}
    read = functools.partial(pathlib.Path.read_text, encoding="utf-8")
    return environment.get_template("page.html").render(
        css=read(_FOLDER / "page.css"), script=read(_FOLDER / "page.js"), **parts
    )


def _address(picture: str | bytes) -> str:
    """Returns a picture as the address of an `img`."""
    kind, content = ("svg+xml", picture.encode()) if isinstance(picture, str) else ("png", picture)
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _script_json(value: Any) -> str:
    """Returns JSON that cannot end the element `script` that it stands in."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c")
