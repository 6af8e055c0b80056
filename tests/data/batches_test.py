"""The stream of samples."""

import numpy as np

from genrec_jax.data import batches


def stream(num_samples=10, batch_size=4, steps=(0, 2, 3, 5, 7), seed=0, process=(0, 1)):
    return batches.superbatches(
        num_samples=num_samples,
        batch_size=batch_size,
        boundaries=list(steps),
        seed=seed,
        process_index=process[0],
        process_count=process[1],
    )


def test_superbatches_end_at_evaluations_and_at_the_end():
    assert batches.boundaries(25, 10, (15, 0)) == [0, 10, 15, 25]
    assert batches.boundaries(25, 10, (15, 12)) == [0, 10, 12, 15, 24, 25]
    assert batches.boundaries(7, 10, (15,)) == [0, 7]
    assert batches.boundaries(20, 5, (10, 0)) == [0, 5, 10, 15, 20]


def test_every_epoch_uses_every_sample_once():
    samples = np.concatenate([part.reshape(-1) for part in stream()])
    assert samples.dtype == np.int32 and len(samples) == 28
    first, second, rest = samples[:10], samples[10:20], samples[20:]
    assert sorted(first) == sorted(second) == list(range(10))
    assert len(set(rest)) == 8  # a third epoch, cut off
    assert list(first) != list(second)


def test_shapes_are_steps_by_batch():
    assert [part.shape for part in stream()] == [(2, 4), (1, 4), (2, 4), (2, 4)]


def test_cutting_into_other_superbatches_changes_nothing():
    one = np.concatenate(list(stream(steps=(0, 7))))
    many = np.concatenate(list(stream()))
    np.testing.assert_array_equal(one, many)


def test_the_seed_decides():
    first, again, other = (np.concatenate(list(stream(seed=seed))) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_processes_share_each_batch():
    whole = np.concatenate(list(stream()))
    parts = [np.concatenate(list(stream(process=(n, 2)))) for n in range(2)]
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), whole)


def test_the_state_takes_up_where_it_stood():
    whole = list(stream())
    iterator = stream()
    for _ in range(2):
        next(iterator)
    state = iterator.get_state()
    resumed = stream()
    resumed.set_state(state)
    for expected, actual in zip(whole[2:], resumed, strict=True):
        np.testing.assert_array_equal(actual, expected)


def test_a_batch_may_be_larger_than_an_epoch():
    (part,) = stream(num_samples=3, batch_size=8, steps=(0, 1))
    assert sorted(part[0, :3]) == sorted(part[0, 3:6]) == [0, 1, 2]


LENGTHS = np.random.default_rng(0).integers(1, 7, 500)


def packed_stream(steps=(0, 3, 6), num_shards=2, process=(0, 1)):
    return batches.superbatches(
        num_samples=500,
        batch_size=40,
        boundaries=list(steps),
        seed=0,
        process_index=process[0],
        process_count=process[1],
        packing=batches.Packing(LENGTHS, row_length=6, most=4, num_shards=num_shards),
    )


def test_packed_rows_hold_each_sample_of_an_epoch_once():
    slots = np.concatenate(list(packed_stream(steps=range(0, 641, 10))), axis=0)
    used = slots[slots != batches.NOBODY]
    counts = np.bincount(used, minlength=500)  # of 51 epochs and a part of one
    assert len(used) == 640 * 40 and set(counts) == {51, 52}
    assert ((slots != batches.NOBODY).sum(axis=(2, 3)) == 20).all()  # of each shard


def test_packed_rows_are_not_overfull_and_nearly_full():
    (slots,) = packed_stream(steps=(0, 64), num_shards=1)
    sizes = np.where(slots == batches.NOBODY, 0, LENGTHS[slots]).sum(axis=-1)
    assert sizes.max() <= 6
    assert sizes.sum() / (sizes.size * 6) > 0.9
    totals = sizes.sum(axis=(1, 2))  # items of each batch, which were dealt out by length
    assert totals.max() - totals.min() <= 6


def test_packed_batches_do_not_depend_on_superbatches_or_processes():
    (whole,) = packed_stream(steps=(0, 6))
    np.testing.assert_array_equal(np.concatenate(list(packed_stream())), whole)
    parts = [next(packed_stream(steps=(0, 6), process=(n, 2))) for n in range(2)]
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), whole)


def test_a_process_packs_its_shards_and_few_others(monkeypatch):
    (whole,) = packed_stream(steps=(0, 64), num_shards=20)
    calls, rows_of = [], batches._rows_of
    monkeypatch.setattr(batches, "_rows_of", lambda *args: calls.append(1) or rows_of(*args))
    parts = [next(packed_stream((0, 64), num_shards=20, process=(n, 20))) for n in range(20)]
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), whole)
    # Two samples a shard, of six lengths: one shard of its own, and at most six others a step.
    assert len(calls) <= 20 * 2 * 64 * 7


def test_shapes_of_rows_are_few():
    found = [batches._rounded_up(number) for number in (1, 7, 8, 17, 86, 89, 1000)]
    assert found == [1, 7, 8, 18, 88, 96, 1024]
