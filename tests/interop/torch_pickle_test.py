"""Files of torch.save, read without torch and without running any of them."""

import os
import pickle
import zipfile

import numpy as np
import pytest

from genrec_jax.errors import UserError
from genrec_jax.interop import torch_pickle
from tests.interop import torch_files
from tests.interop.torch_files import Tensor


@pytest.mark.parametrize("parameters", [False, True])
def test_tensors_and_containers(tmp_path, parameters):
    array = np.arange(12, dtype=np.float32).reshape(3, 4)
    value = {
        "iter": 5,
        "nested": [(array, None, True), {"half": array.astype(np.float16)}],
        "transposed": Tensor(array, strides=(1, 3)) if not parameters else array,
        "codes": np.array([[1, -2]]),
        "number": np.array(2.5, np.float64),
        "empty": np.zeros((0, 3), np.float32),
        "names": {"a"},
    }
    read = torch_pickle.load(torch_files.save(tmp_path / "a.pt", value, parameters))
    assert read["iter"] == 5 and read["names"] == {"a"}
    (same, nothing, flag), half = read["nested"]
    assert (nothing, flag) == (None, True)
    np.testing.assert_array_equal(same, array)
    np.testing.assert_array_equal(half["half"], array.astype(np.float16))
    by_columns = np.arange(12).reshape(4, 3).T
    np.testing.assert_array_equal(read["transposed"], array if parameters else by_columns)
    assert read["codes"].dtype == np.int64 and read["codes"].tolist() == [[1, -2]]
    assert read["number"].shape == () and read["number"] == 2.5
    assert read["empty"].shape == (0, 3)


def test_other_objects_stay_what_they_are_named(tmp_path):
    value = torch_files.checkpoint({}, model_config=torch_files.model_config(embed_dim=4))
    config = torch_pickle.load(torch_files.save(tmp_path / "a.pt", value))["model_config"]
    assert config["embed_dim"] == 4
    mode, module = config["codebook_mode"], config["self"]
    assert (mode.name, mode.args) == ("modules.quantize.Mode", (2,))
    assert module.name == "modules.quantize.Module" and module.state["_config"] is not None
    assert issubclass(config["__class__"], torch_pickle.Placeholder)


class Evil:
    """Runs a command when it is unpickled."""

    def __init__(self, place):
        self.place = place

    def __reduce__(self):
        return os.system, (f"touch {self.place}",)


def test_nothing_is_called_or_imported(tmp_path):
    place = tmp_path / "was-here"
    path = torch_files.save(tmp_path / "a.pt", {"model": {}, "evil": Evil(place)})
    evil = torch_pickle.load(path)["evil"]
    assert evil.args == (f"touch {place}",) and evil.name.endswith("system")
    assert not place.exists()
    pickle.loads(pickle.dumps(Evil(place)))  # it would have
    assert place.exists()


def test_containers_in_themselves_and_in_many_places(tmp_path):
    array = np.arange(3, dtype=np.float32)
    itself, many = [], (array,)
    itself.append((itself,))
    for _ in range(60):  # 2 ** 60 places
        many = (many, many)
    path = torch_files.save(tmp_path / "a.pt", {"itself": itself, "many": many})
    read = torch_pickle.load(path)
    assert read["itself"][0][0] is read["itself"]
    many = read["many"]
    for _ in range(60):
        assert many[0] is many[1]
        many = many[0]
    np.testing.assert_array_equal(many[0], array)


@pytest.mark.parametrize(
    "tensor, message",
    [
        (Tensor(np.zeros(4, np.float32), strides=(2,)), "needs 7 of 4 values"),
        (Tensor(np.zeros(4, np.float32), offset=1), "needs 5 of 4 values"),
        (Tensor(np.zeros(4, np.float32), strides=(-1,)), r"strides \(-1,\)"),
    ],
)
def test_tensors_beyond_their_bytes(tmp_path, tensor, message):
    path = torch_files.save(tmp_path / "a.pt", {"x": tensor})
    with pytest.raises(UserError, match=rf"cannot read .*a.pt .*{message}"):
        torch_pickle.load(path)


def test_files_that_are_none(tmp_path):
    with pytest.raises(UserError, match=r"no file .*nowhere.pt"):
        torch_pickle.load(tmp_path / "nowhere.pt")
    old = tmp_path / "old.pt"
    old.write_bytes(pickle.dumps({}))
    with pytest.raises(UserError, match=r"old.pt is no zip file, as torch.save .* since torch 1.6"):
        torch_pickle.load(old)
    other = tmp_path / "other.pt"
    with zipfile.ZipFile(other, "w") as file:
        file.writestr("text", "hello")
    with pytest.raises(UserError, match=r"cannot read .*other.pt as a checkpoint of torch.save"):
        torch_pickle.load(other)
    cut = tmp_path / "cut.pt"
    with zipfile.ZipFile(cut, "w") as file:
        file.writestr("a/data.pkl", pickle.dumps({"model": [1, 2]})[:-3])
    with pytest.raises(UserError, match=r"cannot read .*cut.pt as a checkpoint of torch.save"):
        torch_pickle.load(cut)
