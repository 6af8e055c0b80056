"""configs/retrieval.py with large batches, for many devices: as many samples in fewer updates.

    python -m genrec_jax.main --config=configs/large_batch.py:beauty,4096 --config.data.dir=FOLDER

The number is the samples of an update, over all devices; without it 4,096, and 512 for `smoke`.
What configs/retrieval.py counts in updates (their number, the warm-up, how often it evaluates)
keeps its number of samples. The learning rate grows with the square root of the batch, the rule for
Adam (Malladi et al., 2022, https://arxiv.org/abs/2205.10287), and is three times as high for LAMB,
see genrec_jax/optimizer.py: AdamW learns much less from such batches (docs/results.md). A few
updates in a row may be left out if they are not finite. The tokenizer is that of
configs/retrieval.py: its batches are small, and it takes seconds.
"""

import math

from ml_collections import ConfigDict

from configs import retrieval
from genrec_jax.errors import UserError

_BATCH_SIZE, _SMOKE_BATCH_SIZE = 4_096, 512
_FEWEST_STEPS = 100
_LAMB_RATE = 3  # times that of AdamW


def get_config(arg: str = "") -> ConfigDict:
    """`arg` is [DATASET][,smoke][,SAMPLES]."""
    words = arg.split(",")
    numbers = [int(word) for word in words if word.isdecimal()]
    if len(numbers) > 1:
        raise UserError(f"config argument {arg!r} has {len(numbers)} numbers: give one batch size")
    config = retrieval.get_config(",".join(word for word in words if not word.isdecimal()))
    config.name = "large_batch"
    default = _SMOKE_BATCH_SIZE if "smoke" in words else _BATCH_SIZE
    batch_size = numbers[0] if numbers else default
    num_samples = config.num_steps * config.batch_size
    if not 0 < batch_size <= num_samples // _FEWEST_STEPS:
        raise UserError(
            f"batches of {batch_size} make less than {_FEWEST_STEPS} updates of the run's "
            f"{num_samples} samples: give from 1 to {num_samples // _FEWEST_STEPS}"
        )
    scale(config, batch_size)
    config.optimizer.name = "lamb"
    config.optimizer.learning_rate *= _LAMB_RATE
    config.skip_nonfinite = 3
    return config


def scale(config: ConfigDict, batch_size: int) -> None:
    """Gives a config batches of so many samples, and changes with them what depends on them."""
    factor = batch_size / config.batch_size
    config.batch_size = batch_size
    for name in ("num_steps", "eval_every", "steps_per_call"):
        config[name] = max(round(config[name] / factor), 1)
    config.optimizer.warmup_steps = round(config.optimizer.warmup_steps / factor)
    config.optimizer.learning_rate *= math.sqrt(factor)
