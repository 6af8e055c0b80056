"""The mesh of the four devices that the tests run on."""

import jax
import numpy as np
import pytest

from genrec_jax import sharding
from genrec_jax.errors import UserError


def test_rows_are_spread_and_parameters_are_everywhere():
    mesh = sharding.make_mesh()
    assert mesh.shape == {"data": 4}
    rows = sharding.shard_rows(mesh, np.arange(16).reshape(2, 8), row_axis=1)
    parts = [np.asarray(shard.data).tolist() for shard in rows.addressable_shards]
    assert parts == [[[0, 1], [8, 9]], [[2, 3], [10, 11]], [[4, 5], [12, 13]], [[6, 7], [14, 15]]]
    everywhere = sharding.replicate(mesh, {"a": np.arange(3)})["a"]
    assert [shard.data.tolist() for shard in everywhere.addressable_shards] == [[0, 1, 2]] * 4


def test_a_batch_that_cannot_be_split_is_refused():
    assert jax.device_count() == 4
    sharding.check_batch_size("--config.batch_size", 24, 3)
    with pytest.raises(UserError, match=r"--config.batch_size=20 .* make it a multiple of 12"):
        sharding.check_batch_size("--config.batch_size", 20, 3)
    with pytest.raises(UserError, match=r"batch_size=0 cannot be split over 4 devices"):
        sharding.check_batch_size("batch_size", 0)
    with pytest.raises(UserError, match=r"batch_size=6 cannot be split over 4 devices: make"):
        sharding.check_batch_size("batch_size", 6)
