"""A generated shop, so that everything runs on a machine that has no data.

The catalogue is a tree of departments, sections and kinds of product, each kind sold by a few
brands in several styles, named as a shop would name it. Each user starts somewhere and drifts:
every item of the history, the recent ones most, pulls towards its own kind, towards the kind that
usually follows it, and towards its brand and style. Nobody buys an item twice.

The next item depends on the history alone, by probabilities known here, so the best Recall@10
that any recommender can expect is known as well: the mass of the ten likeliest items. The source
states it as the fact `reachable/test/recall@10` (and `.../valid/...`).
"""

import hashlib

import numpy as np

from genrec_jax.data.records import Records, Source
from genrec_jax.data.splits import MIN_ITEMS_TO_LEAVE_ONE_OUT
from genrec_jax.errors import UserError

_VERSION = "2"
_TREE = {
    "Kitchen": {
        "Cookware": ["Skillet", "Saucepan", "Stockpot", "Wok"],
        "Baking": ["Loaf Tin", "Mixing Bowl", "Rolling Pin", "Muffin Tray"],
        "Coffee & Tea": ["Kettle", "Coffee Grinder", "Teapot", "French Press"],
    },
    "Garden": {
        "Hand Tools": ["Trowel", "Pruning Shears", "Hand Rake", "Bulb Planter"],
        "Watering": ["Watering Can", "Hose Nozzle", "Drip Kit", "Rain Gauge"],
        "Growing": ["Seed Tray", "Plant Pot", "Trellis", "Cold Frame"],
    },
    "Outdoors": {
        "Camping": ["Tent", "Sleeping Bag", "Camp Stove", "Lantern"],
        "Hiking": ["Backpack", "Trekking Poles", "Water Bottle", "Compass"],
        "Cycling": ["Bike Light", "Pannier", "Tyre Pump", "Helmet"],
    },
    "Music": {
        "Strings": ["Ukulele", "Guitar Strings", "Violin Bow", "Capo"],
        "Percussion": ["Cajon", "Drumsticks", "Tambourine", "Practice Pad"],
        "Studio": ["Microphone", "Headphones", "Audio Interface", "Pop Filter"],
    },
    "Art": {
        "Painting": ["Watercolours", "Brush Set", "Easel", "Canvas Panel"],
        "Drawing": ["Sketchbook", "Charcoal", "Fineliner Set", "Drawing Board"],
        "Paper Craft": ["Cutting Mat", "Origami Paper", "Bone Folder", "Paper Trimmer"],
    },
    "Home Office": {
        "Desk": ["Desk Lamp", "Monitor Stand", "Desk Organiser", "Footrest"],
        "Writing": ["Fountain Pen", "Notebook", "Ink Bottle", "Pencil Case"],
        "Devices": ["Keyboard", "Webcam", "Trackball", "Label Printer"],
    },
}
_BRANDS = [
    ["Alder & Finch", "Copperline", "Hearthway", "Brisa"],
    ["Fernhollow", "Loam & Co", "Rainmark", "Tilth"],
    ["Northbound", "Cairnstone", "Velora", "Drift"],
    ["Halcyon", "Timbre Works", "Quaver", "Ostinato"],
    ["Pigmenta", "Linden Press", "Grainfield", "Ochre"],
    ["Quillmark", "Plainwood", "Keystroke", "Lumen"],
]
_STYLES = ["Classic", "Compact", "Professional", "Travel", "Recycled", "Limited Edition"]

_LENGTH_MEAN, _LENGTH_RANGE = 14, (2, 30)  # histories: Poisson, cut to the range
_FIRST_DAYS, _LEAVING = (0, 700), 1 / 30  # when users come, and return after 30 days on average
_MIN_ITEMS = 100  # more than a history is long, and at least one of each kind
_FORGETTING = 0.5  # how much less each older item pulls than the next younger one
_KIND_WEIGHTS = {"same": 6.0, "next": 10.0, "section": 1.5, "department": 0.15, "any": 0.004}
_SAME_BRAND, _SAME_STYLE = 4.0, 3.0  # how many times likelier than another brand or style
_POPULARITY_SLOPE = 0.5  # popularity falls as rank ** -slope


def source(seed: int, num_users: int, num_items: int) -> Source:
    """Returns the generated data set; equal arguments give equal records.

    Raises:
        UserError: if there are too few items for histories without repeats, or no users.
    """
    settings = {
        "seed": (seed, 0),
        "num_users": (num_users, 1),
        "num_items": (num_items, _MIN_ITEMS),
    }
    for name, (value, minimum) in settings.items():
        if value < minimum:
            raise UserError(
                f"--config.data.synthetic_shop.{name}={value} must be at least {minimum}"
            )
    parameters = f"{_VERSION} {seed} {num_users} {num_items}"
    content_hash = hashlib.sha256(parameters.encode()).hexdigest()[:16]
    return Source("synthetic", content_hash, lambda: _generate(seed, num_users, num_items))


def _generate(seed: int, num_users: int, num_items: int) -> Records:
    catalogue_rng, user_rng, time_rng = np.random.default_rng(seed).spawn(3)
    items, kernel, popularity = _catalogue(catalogue_rng, num_items)
    histories, facts = _histories(user_rng, kernel, popularity, num_users)
    first_days = time_rng.integers(*_FIRST_DAYS, size=num_users)
    users = (
        {
            "user_id": f"user-{number}",
            "items": history,
            "times": (day + time_rng.geometric(_LEAVING, len(history)).cumsum()).tolist(),
        }
        for number, (day, history) in enumerate(zip(first_days, histories, strict=True))
    )
    return Records(items, users, facts)


def _catalogue(rng: np.random.Generator, num_items: int):
    """Returns the item records, the pull of each item on each other, and their popularity.

    `kernel` is [I, I]; row i holds the chances of the next item after item i alone.
    `popularity` is [I] and sums to 1.
    """
    kinds = [
        (department, section, kind)
        for department, sections in enumerate(_TREE.values())
        for section, kind_names in enumerate(sections.values())
        for kind in range(len(kind_names))
    ]
    departments, sections, _ = np.array(kinds).T
    kind = rng.permutation(np.arange(num_items) % len(kinds))  # [I]
    brand = rng.integers(len(_BRANDS[0]), size=num_items)
    style = rng.integers(len(_STYLES), size=num_items)
    popularity = np.arange(1, num_items + 1) ** -_POPULARITY_SLOPE
    popularity = rng.permutation(popularity) / popularity.sum()

    same_department = departments[:, None] == departments
    same_section = same_department & (sections[:, None] == sections)
    pull = np.where(same_department, _KIND_WEIGHTS["department"], _KIND_WEIGHTS["any"])
    pull = np.where(same_section, _KIND_WEIGHTS["section"], pull)
    np.fill_diagonal(pull, _KIND_WEIGHTS["same"])
    follower = rng.permutation(len(kinds))  # what usually follows a kind may be far from it
    pull[np.arange(len(kinds)), follower] = _KIND_WEIGHTS["next"]

    same_brand = (departments[kind][:, None] == departments[kind]) & (brand[:, None] == brand)
    kernel = pull[kind][:, kind] * popularity
    kernel *= np.where(same_brand, _SAME_BRAND, 1.0)
    kernel *= np.where(style[:, None] == style, _SAME_STYLE, 1.0)
    kernel /= kernel.sum(axis=1, keepdims=True)

    names = [
        (department, section, name)
        for department, section_names in _TREE.items()
        for section, kind_names in section_names.items()
        for name in kind_names
    ]
    items = []
    for number in range(num_items):
        department, section, name = names[kind[number]]
        brand_name = _BRANDS[departments[kind[number]]][brand[number]]
        title = f"{brand_name} {_STYLES[style[number]]} {name}, Model {number}"
        item = {"item_id": f"item-{number}", "title": title, "brand": brand_name}
        items.append(item | {"categories": [[department, section, name]]})
    return items, kernel, popularity


def _histories(rng: np.random.Generator, kernel, popularity, num_users: int):
    """Returns the users' histories and the best recall that can be expected on them."""
    shortest, longest = _LENGTH_RANGE
    lengths = np.clip(rng.poisson(_LENGTH_MEAN, size=num_users), shortest, longest)
    history = np.zeros((num_users, longest), np.int64)
    from_end = {"test": 1, "valid": 2}
    reachable = {split: [] for split in from_end}  # mass of the ten likeliest items, by user
    users = np.arange(num_users)
    pull = np.tile(popularity, (num_users, 1))  # [U, I]
    owned = np.zeros(pull.shape, bool)
    for place in range(longest):
        chances = np.where(owned, 0.0, pull)
        chances /= chances.sum(axis=1, keepdims=True)
        for split, distance in from_end.items():
            is_target = (lengths - distance == place) & (lengths >= MIN_ITEMS_TO_LEAVE_ONE_OUT)
            likeliest = np.partition(chances[is_target], -10, axis=1)[:, -10:]
            reachable[split].append(likeliest.sum(axis=1))
        draw = rng.random((num_users, 1))
        history[:, place] = np.minimum(
            (chances.cumsum(axis=1) < draw).sum(axis=1), len(popularity) - 1
        )
        owned[users, history[:, place]] = True
        latest = kernel[history[:, place]]
        pull = latest if place == 0 else _FORGETTING * pull + (1 - _FORGETTING) * latest
    facts = {
        f"reachable/{split}/recall@10": float(np.concatenate(masses).mean())
        for split, masses in reachable.items()
    }
    return [row[:length].tolist() for row, length in zip(history, lengths, strict=True)], facts
