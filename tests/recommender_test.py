"""Recommendations for any histories are those of the evaluator."""

import functools
import math

import jax
import numpy as np
import pytest

from genrec_jax import checkpoint, sharding
from genrec_jax.data import corpus as corpus_lib
from genrec_jax.errors import UserError
from genrec_jax.evaluators import retrieval, searchers
from genrec_jax.models import encoder_decoder
from genrec_jax.recommender import Recommender
from tests.data.corpus_test import make

NUM_ITEMS, MAX_HISTORY, NUM_BEAMS, NUM_USERS = 30, 3, 8, 11
LEVEL_SIZES = (3, 4, 5)
ITEM_IDS = [str(100 + item) for item in range(NUM_ITEMS)]
TITLES = [f"Item {item}" for item in range(NUM_ITEMS)]
CONFIG = {
    "task": "retrieval",
    "max_history": MAX_HISTORY,
    "dtype": "auto",
    "model": {
        "embedding_dim": 8,
        "dim": 8,
        "num_heads": 2,
        "head_dim": 4,
        "hidden_dim": 8,
        "num_encoder_layers": 1,
        "num_decoder_layers": 1,
        "activation": "relu",
        "positions": "relative",
        "dropout": 0.5,  # must not matter
        "use_separator": False,
        "num_user_bins": 0,
    },
    "eval": {"num_beams": NUM_BEAMS, "batch_size": 8, "unseen_share": 0.0},
}
IS_UNSEEN = np.arange(NUM_ITEMS) % 5 == 2
WITH_USERS = CONFIG | {"model": CONFIG["model"] | {"num_user_bins": 4}}


class World:
    """A random model, exported as a run does it, and the evaluator of a run with that model."""

    def __init__(self, folder, config, meta={}):  # noqa: B006
        rng = np.random.default_rng(0)
        lengths = rng.integers(3, 9, NUM_USERS)
        self.corpus = make([rng.integers(0, NUM_ITEMS, n).tolist() for n in lengths], NUM_ITEMS)
        self.ids = np.stack(np.unravel_index(rng.permutation(60)[:NUM_ITEMS], LEVEL_SIZES), -1)
        self.ids = self.ids.astype(np.int32)
        self.model = encoder_decoder.from_config(config, LEVEL_SIZES)
        self.params = self.model.init(jax.random.key(0))
        checkpoint.export(
            folder,
            {"state": {"params": self.params, "step": np.int32(7)}, "semantic_ids": self.ids},
            {
                "config": config,
                "corpus": "a hash",
                "interactions": "another hash",
                "item_ids": ITEM_IDS,
                "titles": TITLES,
                "level_sizes": LEVEL_SIZES,
                "unseen_items": np.flatnonzero(IS_UNSEEN).tolist(),
            }
            | meta,
        )
        self.folder, self.recommender = folder, Recommender.load(folder)
        self.samples = corpus_lib.held_out_samples(self.corpus, "test")

    def histories(self):
        places = zip(self.samples.start, self.samples.target, strict=True)
        return [[ITEM_IDS[item] for item in self.corpus.items[a:b]] for a, b in places]

    @functools.cache  # noqa: B019
    def evaluate(self, num_beams, exclude_history, unseen_share=0.0):
        """Returns the item ids and the scores, in which -inf marks places that stay empty."""
        mesh = sharding.make_mesh()
        evaluator = retrieval.Evaluator(
            searchers.of_generator(self.model, mesh, MAX_HISTORY, self.ids, IS_UNSEEN),
            mesh,
            self.corpus.items,
            unseen_share=unseen_share,
            longest_history=8,
            num_beams=num_beams,
            batch_size=4,
        )
        params = sharding.replicate(mesh, self.params)
        items, scores = evaluator.recommend(params, self.samples, exclude_history=exclude_history)
        return [[ITEM_IDS[item] for item in row if item >= 0] for row in items], scores


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return World(tmp_path_factory.mktemp("run"), CONFIG)


@pytest.fixture
def recommender(world):
    return world.recommender


def assert_same(results, item_ids, scores):
    assert [best.item_ids for best in results] == item_ids
    for best, row in zip(results, scores, strict=True):
        np.testing.assert_allclose(best.scores, row[: len(best.scores)], atol=1e-5)


@pytest.mark.parametrize("exclude, k", [(True, NUM_BEAMS), (False, NUM_BEAMS + 5)])
def test_results_are_those_of_the_evaluator_with_as_many_beams(world, exclude, k):
    results = world.recommender.recommend(world.histories(), k, exclude_history=exclude)
    assert len(results) == NUM_USERS
    assert_same(results, *world.evaluate(k, exclude))


def test_fewer_than_all_beams_are_the_best_of_them(world):
    results = world.recommender.recommend(world.histories(), 2, exclude_history=True)
    item_ids, scores = world.evaluate(NUM_BEAMS, True)
    assert_same(results, [row[:2] for row in item_ids], scores)


@pytest.mark.parametrize("exclude", [True, False])
def test_a_share_of_the_places_is_for_unseen_items(world, exclude):
    histories = world.histories()
    results = world.recommender.recommend(
        histories, NUM_BEAMS, exclude_history=exclude, unseen_share=0.4
    )
    assert_same(results, *world.evaluate(NUM_BEAMS, exclude, 0.4))
    unseen = set(np.array(ITEM_IDS)[IS_UNSEEN])
    for best, history in zip(results, histories, strict=True):
        assert len(unseen & set(best.item_ids[:5])) >= 2 and len(set(best.item_ids)) == NUM_BEAMS
        assert not exclude or not set(best.item_ids) & set(history)
    assert results != world.recommender.recommend(histories, NUM_BEAMS, exclude_history=exclude)
    # A shorter list is the beginning of a longer one.
    shorter = world.recommender.recommend(histories, 5, exclude_history=exclude, unseen_share=0.4)
    assert_same(
        shorter,
        [best.item_ids[:5] for best in results],
        [np.array(best.scores) for best in results],
    )


def test_the_share_is_that_of_the_evaluation_unless_said_otherwise(world, tmp_path):
    histories, reserved = world.histories(), {"unseen_share": 0.4}
    other = World(tmp_path, CONFIG | {"eval": CONFIG["eval"] | reserved}).recommender
    expected = world.recommender.recommend(histories, 5, unseen_share=0.4)
    assert other.recommend(histories, 5) == expected
    assert other.recommend(histories, 5, unseen_share=0) == world.recommender.recommend(
        histories, 5
    )


def test_where_all_items_were_trained_on_there_is_nothing_to_reserve(world, tmp_path):
    other = World(tmp_path, CONFIG, {"unseen_items": []}).recommender
    plain = world.recommender.recommend(world.histories(), 5)
    assert other.recommend(world.histories(), 5, unseen_share=0.4) == plain


def test_a_run_of_before_does_not_say_what_it_was_trained_on(world, tmp_path):
    World(tmp_path, CONFIG | {"eval": {"num_beams": NUM_BEAMS, "batch_size": 8}})
    mesh = sharding.make_mesh()
    arrays, meta = checkpoint.load_export(tmp_path, ("state", "semantic_ids"), mesh)
    del meta["unseen_items"]
    before = Recommender(arrays, meta, mesh, None)
    plain = world.recommender.recommend(world.histories(), 5)
    assert before.recommend(world.histories(), 5) == plain
    with pytest.raises(
        UserError, match=r"does not say, as it was made .*: train it again, or leave"
    ):
        before.recommend(world.histories(), 5, unseen_share=0.4)


def test_ten_new_items_are_what_is_asked_for_unless_said_otherwise(recommender):
    (best,) = recommender.recommend([["100", "101"]])
    assert len(best.item_ids) == 10 and not {"100", "101"} & set(best.item_ids)
    assert best.titles == [TITLES[ITEM_IDS.index(item_id)] for item_id in best.item_ids]
    assert best.scores == sorted(best.scores, reverse=True)
    assert [type(value) for value in (best.item_ids[0], best.scores[0])] == [str, float]


def test_all_items_that_are_allowed_and_no_others(recommender):
    everything, rest = (
        recommender.recommend([["105", "105", "107"]], 1000, exclude_history=exclude)[0]
        for exclude in (False, True)
    )
    assert sorted(everything.item_ids) == ITEM_IDS
    assert sorted(rest.item_ids) == sorted(set(ITEM_IDS) - {"105", "107"})
    # The probabilities of IDs that no item has are lost.
    assert sum(map(math.exp, rest.scores)) < sum(map(math.exp, everything.scores)) < 1
    scores = dict(zip(everything.item_ids, everything.scores, strict=True))
    np.testing.assert_allclose(rest.scores, [scores[item] for item in rest.item_ids], atol=1e-5)


def test_a_history_of_everything_leaves_nothing(recommender):
    nothing, something = recommender.recommend([ITEM_IDS, ITEM_IDS[1:]])
    assert nothing == ([], [], [])
    assert something.item_ids == ["100"] and something.titles == ["Item 0"]


@pytest.mark.parametrize("exclude", [True, False])
def test_any_number_of_histories_in_any_company(world, exclude):
    histories = [*world.histories(), [], *world.histories()[::-1]]  # 23, in batches of 8
    together = world.recommender.recommend(histories, 5, exclude_history=exclude)
    assert len(together) == len(histories)
    assert together[:NUM_USERS] == together[: -NUM_USERS - 1 : -1]
    for history, best in zip(histories[: NUM_USERS + 1], together, strict=False):
        (alone,) = world.recommender.recommend([history], 5, exclude_history=exclude)
        assert_same([alone], [best.item_ids], [np.array(best.scores)])
    assert world.recommender.recommend([], exclude_history=exclude) == []


def test_the_model_reads_the_last_items_and_all_are_left_out(recommender):
    last = ["111", "112", "113"]
    long = [*ITEM_IDS[:6] * 30, *last]  # longer than what all histories are filled up to
    short, same = recommender.recommend([last, long], NUM_ITEMS, exclude_history=False)
    assert_same([same], [short.item_ids], [np.array(short.scores)])
    (best,) = recommender.recommend([long], NUM_ITEMS)
    left = [item_id for item_id in short.item_ids if item_id not in long]
    assert best.item_ids == left and len(left) == NUM_ITEMS - 9


def test_ids_may_be_integers(recommender):
    text = recommender.recommend([["104", "117"]])
    assert recommender.recommend([[104, 117]]) == text
    assert recommender.recommend(np.array([[104, 117]])) == text


def test_unknown_items(recommender):
    history = ["104", "a", "b", 7, "c", "117", "a"]
    with pytest.raises(UserError) as error:
        recommender.recommend([["104"], history])
    assert str(error.value) == (
        "histories[1]: the catalogue lacks 5 of its items ('a', 'b', '7', ...): correct the "
        "history, or pass unknown='skip'"
    )
    with pytest.raises(UserError, match=r"histories\[0\]: the catalogue lacks 1 .* \('x'\): corr"):
        recommender.recommend([["x"]])
    assert recommender.recommend([history], unknown="skip") == recommender.recommend(
        [["104", "117"]]
    )


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"histories": [[]], "k": 0}, "k=0 must be at least 1"),
        ({"histories": [[]], "unknown": "ignore"}, "unknown='ignore': choose one of error, skip"),
        ({"histories": [[]], "unseen_share": 1}, "unseen_share=1 must be at least 0 and below 1"),
        ({"histories": ["104"]}, r"histories\[0\] is '104', not a list of item ids"),
        ({"histories": [[], []], "users": [1]}, "1 users for 2 histories: give one for each"),
    ],
)
def test_mistakes(recommender, arguments, message):
    with pytest.raises(UserError, match=message):
        recommender.recommend(**arguments)


def test_calls_of_like_sizes_are_compiled_once(world):
    recommender = Recommender.load(world.folder)
    compiled = recommender._searcher.search._cache_size
    for number in (8, 5, 7, NUM_USERS):
        recommender.recommend(world.histories()[:number], number % 7 + 1)
        recommender.recommend([[item_id] * number for item_id in ITEM_IDS], NUM_BEAMS)
    assert compiled() == 1
    recommender.recommend([["100"] * 65] * 8, 5)
    recommender.recommend([["100"] * 128] * 8, 5)
    assert compiled() == 2


def test_another_batch_size(world):
    small = Recommender.load(world.folder, batch_size=3)  # which four devices do not share evenly
    results = small.recommend(world.histories(), NUM_BEAMS, exclude_history=False)
    assert_same(results, *world.evaluate(NUM_BEAMS, False))
    with pytest.raises(UserError, match="batch_size=0 must be at least 1"):
        Recommender.load(world.folder, batch_size=0)


def test_a_model_that_is_split_recommends_the_same(world):
    expected = Recommender.load(world.folder, mesh=sharding.one_device())
    expected = expected.recommend(world.histories(), NUM_BEAMS)
    split = Recommender.load(world.folder, mesh=sharding.make_mesh(2, 2))
    tokens = split._params["tokens"]
    assert {shard.data.shape for shard in tokens.addressable_shards} == {(6, 8)}
    assert_same(
        split.recommend(world.histories(), NUM_BEAMS),
        [best.item_ids for best in expected],
        [np.array(best.scores) for best in expected],
    )


def test_user_tokens_need_the_users(tmp_path):
    world = World(tmp_path, WITH_USERS)
    with pytest.raises(UserError, match=r"reads user tokens .*: leave out --config.histories"):
        world.recommender.recommend(world.histories())
    users = world.samples.user
    results = world.recommender.recommend(
        world.histories(), NUM_BEAMS, exclude_history=True, users=users
    )
    assert_same(results, *world.evaluate(NUM_BEAMS, True))
    others = world.recommender.recommend(world.histories(), NUM_BEAMS, users=list(users + 1))
    assert others != results


def test_what_is_no_retrieval_run(tmp_path):
    with pytest.raises(UserError, match=r"no finished run in .*nowhere: .*run that stage first"):
        Recommender.load(tmp_path / "nowhere")
    checkpoint.export(
        tmp_path / "tokenizer",
        {"state": {"params": np.ones(2)}, "codebooks": np.ones(2), "semantic_ids": np.ones(2)},
        {"config": {"task": "tokenizer"}},
    )
    with pytest.raises(UserError, match=r"tokenizer is a run of tokenizer, which recommends noth"):
        Recommender.load(tmp_path / "tokenizer")
    meta = {"config": {"task": "retrieval"}}
    checkpoint.export(tmp_path / "codes", {"semantic_ids": np.ones(2)}, meta)
    with pytest.raises(UserError, match=r"codes is the run of another stage: it exports no state"):
        Recommender.load(tmp_path / "codes")
