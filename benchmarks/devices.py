"""Speed of training on all devices of this process, beside one device with its share of the batch.

    python -m benchmarks.devices [--smoke] [--output=FILE.json]

A batch has 16,384 items a device for the tokenizer, of configs/rqvae.py:beauty with 768-d
embeddings, and 1,024 samples a device for the retrieval model, of configs/retrieval.py:beauty and
as wide as RQ-VAE-Recommender's. TFLOP/s, GB/s and the floor are those of each device. On one device
nothing is exchanged, so the ratio of the rates below the table falls short of the number of devices
by what the exchange costs. What stands in benchmarks/common.py about counting holds for all
benchmarks.
"""

from collections.abc import Iterator

import jax

from benchmarks import common, quantization, retrieval_training, tokenizer_training
from configs import retrieval as retrieval_config
from genrec_jax import sharding
from genrec_jax.errors import UserError

_ITEMS, _SAMPLES = 16_384, 1_024  # a device
_WIDTHS = 128, 384  # of the retrieval model
_STEPS = 20  # a dispatch


def cases(smoke: bool) -> Iterator[common.Case]:
    """Yields each case on one device and on all; each is measured before the next one is made."""
    if jax.device_count() == 1:
        raise UserError(
            "there is one device alone, and nothing to compare it with: on a CPU "
            "XLA_FLAGS=--xla_force_host_platform_device_count=2 makes two of it"
        )
    meshes = sharding.one_device(), sharding.make_mesh()
    config = quantization.tokenizer_config(smoke)
    config.steps_per_call = 2 if smoke else _STEPS
    embeddings = tokenizer_training.random_embeddings(
        1_000 if smoke else 100_000, quantization.SENTENCE_DIM
    )
    alone = None
    for mesh in meshes:
        config.batch_size = (64 if smoke else _ITEMS) * mesh.size
        case = tokenizer_training.step_case(config, embeddings, mesh)
        alone = alone or case
        yield _shared("tokenizer", case, alone, mesh, config)

    config = retrieval_config.get_config("beauty,smoke" if smoke else "beauty")
    config.steps_per_call = 2 if smoke else _STEPS
    data = retrieval_training.synthetic_data(*((300, 200) if smoke else (22_363, 12_101)))
    for width in [config.model.dim] if smoke else _WIDTHS:
        config.model.dim, config.model.dropout = width, 0.0
        alone = None
        for mesh in meshes:
            config.batch_size = (16 if smoke else _SAMPLES) * mesh.size
            case = retrieval_training.step_case(config, data, packed=True, mesh=mesh)
            alone = alone or case
            yield _shared(f"retrieval d{width}", case, alone, mesh, config)


def _shared(
    name: str, case: common.Case, alone: common.Case, mesh: jax.sharding.Mesh, config
) -> common.Case:
    """Returns the case by its samples, with the work of a device, which is that of `alone`."""
    return case._replace(
        name=_name(name, mesh.size),
        unit="samples",
        count=config.steps_per_call * config.batch_size,
        flops=alone.flops,
        bytes=alone.bytes,
    )


def _name(what: str, num_devices: int) -> str:
    return f"{what}, {num_devices} device{'s' if num_devices > 1 else ''}"


def compare(rates: dict[str, float]) -> dict[str, float]:
    """Returns how many times one device's rate all devices have."""
    pairs = zip(list(rates)[::2], list(rates)[1::2], strict=True)
    return {f"{all_devices} / 1": rates[all_devices] / rates[one] for one, all_devices in pairs}


if __name__ == "__main__":
    common.main("devices", cases, compare)
