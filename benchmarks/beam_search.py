"""Speed of exact beam searches: users whose best items are found.

    python -m benchmarks.beam_search [--smoke] [--output=FILE.json]

The models are those of configs/retrieval.py:beauty, also as wide as RQ-VAE-Recommender's, and of
configs/hybrid.py:beauty, untrained. Histories are those of benchmarks/retrieval_training.py, IDs
are random and distinct, of 3 codes. What stands in benchmarks/common.py about counting holds here;
of histories all places are counted, those that hold nothing too. A case names W and how many items
there are.

B batch   P past items   Q levels   W beams   D model width
"""

from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np

from benchmarks import common, retrieval_training
from configs import hybrid as hybrid_config
from configs import retrieval as retrieval_config
from genrec_jax import sharding
from genrec_jax.data.corpus import Samples
from genrec_jax.evaluators import searchers
from genrec_jax.models import encoder_decoder, hybrid, layers

LEVEL_SIZES = (256,) * 3
_CONTENT_DIM = 224
_WIDE = 384  # the model width of RQ-VAE-Recommender


def cases(smoke: bool) -> Iterator[common.Case]:
    """Yields the cases; each is measured before the next one is made."""
    arg = "beauty,smoke" if smoke else "beauty"
    config = retrieval_config.get_config(arg)
    if smoke:
        yield generator_case(config, 300, 10, 16)
        yield _hybrid_case(hybrid_config.get_config(arg), 300, 10, 16)
        return
    users = 1_024
    yield generator_case(config, 12_101, 30, users)
    config.model.dim = _WIDE
    yield generator_case(config, 12_101, 10, users)
    yield generator_case(config, 12_101, 50, users)
    yield generator_case(config, 10_000_000, 50, users)
    yield _hybrid_case(hybrid_config.get_config(arg), 12_101, 50, users)


def distinct_ids(num_items: int) -> np.ndarray:
    """Returns random semantic IDs [num_items, 3], no two alike."""
    rng = np.random.default_rng(0)
    keys = rng.permutation(np.prod(LEVEL_SIZES))[:num_items]
    return np.stack(np.unravel_index(keys, LEVEL_SIZES), axis=1).astype(np.int32)


def generator_case(config, num_items: int, num_beams: int, batch_size: int) -> common.Case:
    model = encoder_decoder.from_config(config.to_dict(), LEVEL_SIZES)
    searcher = searchers.of_generator(
        model,
        sharding.one_device(),
        config.max_history,
        distinct_ids(num_items),
        np.zeros(num_items, bool),
    )
    flops = retrieval_training.forward_flops(
        config.model,
        LEVEL_SIZES,
        batch_size,
        config.max_history,
        search_steps(num_beams),
        layers.dtype(config.dtype),
    )
    name = f"retrieval d{config.model.dim}"
    return _case(name, model, searcher, num_items, num_beams, batch_size, flops)


def _hybrid_case(config, num_items: int, num_beams: int, batch_size: int) -> common.Case:
    model = hybrid.from_config(config.to_dict(), num_items, _CONTENT_DIM, LEVEL_SIZES)
    content = np.random.default_rng(1).normal(size=(num_items, _CONTENT_DIM)).astype(np.float32)
    searcher = searchers.of_hybrid(
        model,
        sharding.one_device(),
        config.max_history,
        distinct_ids(num_items),
        LEVEL_SIZES,
        content,
        np.zeros(num_items, bool),
        config.eval.score_weight,
    )
    flops = hybrid_flops(
        config.model,
        batch_size,
        config.max_history,
        num_items,
        num_beams,
        layers.dtype(config.dtype),
    )
    return _case("hybrid", model, searcher, num_items, num_beams, batch_size, flops)


def _case(
    name: str,
    model: layers.Model,
    searcher: searchers.Searcher,
    num_items: int,
    num_beams: int,
    batch_size: int,
    flops: dict[str, int],
) -> common.Case:
    """Returns the case of one call of a searcher, whose parameters are random."""
    mesh = sharding.one_device()
    params = sharding.replicate(mesh, model.init(jax.random.key(0)))
    num_parameters = sum(leaf.size for leaf in jax.tree.leaves(params))
    histories = retrieval_training.synthetic_data(batch_size, num_items)
    data = searcher.data | sharding.replicate(mesh, {"items": histories["items"]})
    samples = jax.device_put(whole_histories(histories["samples"]), sharding.over_rows(mesh))

    def call():
        return searcher.search(
            params,
            data,
            searcher.index,
            samples,
            num_beams=num_beams,
            num_excluded=0,
            renormalize=False,
        )

    return common.Case(
        f"{name}, {num_beams} of {common.short(num_items)}",
        call,
        "users",
        batch_size,
        flops,
        4 * num_parameters + 8 * batch_size * num_beams,
        {"num_parameters": num_parameters, "num_items": num_items, "num_beams": num_beams},
    )


def whole_histories(samples: Samples) -> Samples:
    """Returns each user's last sample, of every prefix's."""
    last = np.flatnonzero(np.append(np.diff(samples.user) != 0, True))
    return samples.take(last)


def hybrid_flops(
    model: Mapping[str, Any],
    batch_size: int,
    past: int,
    num_items: int,
    num_beams: int,
    dtype: str,
) -> dict[str, int]:
    """Returns those of a search by both heads; the codes of all candidates are judged again."""
    encoder, decoder = model["encoder"], model["decoder"]
    dim, code_dim = encoder["dim"], decoder["dim"]
    pairs = past * (past + 1) // 2  # of a place and one not after it
    layer = past * (4 * dim * dim + 2 * dim * encoder["hidden_dim"]) + 2 * pairs * dim
    memory = 2 * past * dim * code_dim
    steps = search_steps(num_beams)
    judged = [2 * num_beams] * len(LEVEL_SIZES)
    per_layer = memory + sum(
        retrieval_training.decoder_pairs(code_dim, code_dim, decoder["hidden_dim"], past, places)
        for places in (steps, judged)
    )
    body = encoder["num_layers"] * layer + decoder["num_layers"] * per_layer
    body += dim * code_dim + num_items * dim  # from the state, and the scores
    both = [step + again for step, again in zip(steps, judged, strict=True)]
    return retrieval_training.with_heads(batch_size, dtype, body, code_dim, both, LEVEL_SIZES)


def search_steps(num_beams: int) -> list[int]:
    """Returns how many prefixes each level of a search decodes: the root, then the beams."""
    return [1] + [num_beams] * (len(LEVEL_SIZES) - 1)


if __name__ == "__main__":
    common.main("beam_search", cases)
