"""A trained recommender to the Hugging Face hub, for others to load: docs/export.md.

    python -m genrec_jax.main --config=configs/push_to_hub.py --config.run=RUN \\
        --config.repo=USER/NAME

It needs the extra `hub`, and to be logged in: `hf auth login`, or HF_TOKEN.
"""

from ml_collections import ConfigDict

from configs import export
from genrec_jax.errors import UserError


def get_config(arg: str = "") -> ConfigDict:
    """Takes no argument: the data set is that of the run."""
    if arg:
        raise UserError(
            f"configs/push_to_hub.py takes no argument such as {arg!r}: give --config.run"
        )
    config = ConfigDict()
    config.task = "push_to_hub"
    config.name = "push_to_hub"
    config.run = ""  # the folder of a finished run of a recommender
    config.repo = ""  # USER/NAME, which is made if there is none
    config.private = False  # make it so; one that is there and public is refused
    config.exported = False  # push too what configs/export.py writes, by the following
    config.export_config = export.get_config()
    del config.export_config.run  # which is the above
    return config
