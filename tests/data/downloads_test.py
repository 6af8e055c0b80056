"""Downloads, from a server on this machine."""

import concurrent.futures
import contextlib
import functools
import gzip
import hashlib
import http.server
import threading
import time
import zipfile

import pytest

from genrec_jax import files
from genrec_jax.data import datasets, downloads
from genrec_jax.errors import UserError


@contextlib.contextmanager
def serving(folder):
    """Gives the address of a server of the folder, and a list of what is asked for."""
    asked = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self):
            rest = self.headers.get("Range")  # which that of Python does not know
            if rest is None or (folder / "no_range").exists():
                return super().do_GET()
            asked.append(rest)
            data = (folder / self.path[1:]).read_bytes()
            data = data[int(rest.removeprefix("bytes=").removesuffix("-")) :]
            self.send_response(206 if data else 416)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_request(self, *args):
            asked.append(self.path)

        def end_headers(self):
            if self.path.endswith(".gz"):  # as some servers do
                self.send_header("Content-Encoding", "gzip")
            super().end_headers()

        def log_message(self, *args):
            pass

    handler = functools.partial(Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()


@pytest.fixture
def server(tmp_path, monkeypatch):
    """Serves MovieLens 1M and a category of Amazon's, both tiny."""
    folder = tmp_path / "server"
    folder.mkdir()
    with zipfile.ZipFile(folder / "ml-1m.zip", "w") as archive:
        archive.writestr("ml-1m/", "")
        archive.writestr("ml-1m/ratings.dat", "7::20::3::900\n7::1::5::800\n")
        archive.writestr("ml-1m/movies.dat", "1::A (1995)::War\n20::B (1996)::Drama\n")
    with gzip.open(folder / "reviews_Soap_5.json.gz", "w") as file:
        file.write(b'{"reviewerID": "u", "asin": "a", "unixReviewTime": 5}\n')
    with gzip.open(folder / "meta_Soap.json.gz", "w") as file:
        file.write(b"{'asin': 'a', 'title': 'Soap'}\n")
    with serving(folder) as (address, asked):
        monkeypatch.setattr(downloads, "_GROUPLENS", address)
        of_2014 = (f"{address}/reviews_{{}}_5.json.gz", f"{address}/meta_{{}}.json.gz")
        monkeypatch.setattr(downloads, "_AMAZON", {"2014": of_2014})
        monkeypatch.setattr(downloads, "_CHECKSUMS", {})
        yield folder, address, asked


def files_in(folder):
    """Returns the names of the files in a folder and below, but for locks."""
    return [path.name for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"]


def expect(monkeypatch, server, name, flip=False):
    """Makes the size and digest of a served file known, the latter maybe a wrong one."""
    folder, address, _ = server
    data = (folder / name).read_bytes()
    digest = hashlib.sha256(data + b"x" * flip).hexdigest()
    monkeypatch.setattr(downloads, "_CHECKSUMS", {f"{address}/{name}": (len(data), digest)})
    return {"bytes": len(data), "sha256": digest}


def test_an_archive_is_unpacked_once(tmp_path, server, monkeypatch):
    expected = expect(monkeypatch, server, "ml-1m.zip")
    place = downloads.fetch("ml-1m", tmp_path / "cache")
    assert {path.name for path in place.iterdir()} == {"ratings.dat", "movies.dat"}
    assert files.read_json(tmp_path / "cache/ml-1m.json") == {f"{server[1]}/ml-1m.zip": expected}
    num_asked = len(server[2])
    assert downloads.fetch("ml-1m", tmp_path / "cache") == place
    assert len(server[2]) == num_asked
    assert {path.name for path in (tmp_path / "cache").glob("[!.]*")} == {"ml-1m", "ml-1m.json"}
    assert not list((tmp_path / "cache").rglob(".ml-1m.partial"))


def test_files_keep_their_names_and_their_checksums_are_kept(tmp_path, server):
    place = downloads.fetch("2014/Soap", tmp_path / "cache")
    names = {"reviews_Soap_5.json.gz", "meta_Soap.json.gz"}
    assert {path.name for path in place.iterdir()} == names
    recorded = files.read_json(tmp_path / "cache/2014-Soap.json")
    assert recorded == {
        f"{server[1]}/{name}": {
            "bytes": (place / name).stat().st_size,
            "sha256": files.sha256(place / name),
        }
        for name in names
    }


def test_another_file_than_is_known_is_refused(tmp_path, server, monkeypatch):
    expect(monkeypatch, server, "ml-1m.zip", flip=True)
    with pytest.raises(UserError, match=r"ml-1m.zip: its size or SHA-256 is not .*data.dir if"):
        downloads.fetch("ml-1m", tmp_path / "cache")
    assert files_in(tmp_path / "cache") == []


@pytest.mark.parametrize("half", [False, True])
def test_another_page_or_half_a_file_is_refused(tmp_path, server, half):
    path = server[0] / "meta_Soap.json.gz"
    whole = path.read_bytes()
    path.write_bytes(whole[:-5] if half else b"<html>Log in</html>")
    with pytest.raises(UserError, match=r"meta_Soap.json.gz: what came is no whole gzip file \("):
        downloads.fetch("2014/Soap", tmp_path / "cache")
    assert files_in(tmp_path / "cache") == ["reviews_Soap_5.json.gz"]  # which was whole
    path.write_bytes(whole)
    place = downloads.fetch("2014/Soap", tmp_path / "cache")
    assert (place / path.name).read_bytes() == whole
    assert server[2].count("/reviews_Soap_5.json.gz") == 1


def test_what_cannot_be_reached_is_named_with_a_remedy(tmp_path, server, monkeypatch):
    where = "elsewhere, unpack what ends in .zip, and give the folder by --config.data.dir"
    both = rf"check the edition .*, or download .*_Nail_5.json.gz and .*/meta_Nail.json.gz {where}"
    with pytest.raises(UserError, match=rf"cannot download .*_Nail_5.json.gz \(404.*: {both}"):
        downloads.fetch("2014/Nail", tmp_path / "cache")
    monkeypatch.setattr(downloads, "_GROUPLENS", "http://127.0.0.1:9")  # nobody listens there
    with pytest.raises(
        UserError, match=rf"cannot download http://127.0.0.1:9/ml-1m.zip \(.* download it {where}"
    ):
        downloads.fetch("ml-1m", tmp_path / "cache")
    assert files_in(tmp_path / "cache") == []


@pytest.mark.parametrize("silent", [False, True])
@pytest.mark.parametrize("knows_range", [False, True])
def test_a_download_goes_on_where_it_broke_off(tmp_path, server, monkeypatch, knows_range, silent):
    folder, _, asked = server
    expect(monkeypatch, server, "ml-1m.zip")
    over = threading.Event()

    def copy_half(self, source, output):
        output.write(source.read(100))
        if silent:
            over.wait(10)

    with monkeypatch.context() as context:
        context.setattr(http.server.SimpleHTTPRequestHandler, "copyfile", copy_half)
        context.setattr(downloads, "_SECONDS_OF_SILENCE", 0.2)
        context.setattr(downloads, "_BLOCK", 10)  # what is less is lost
        reason = "timed out" if silent else "IncompleteRead"
        with pytest.raises(UserError, match=rf"cannot download .*ml-1m.zip \({reason}"):
            downloads.fetch("ml-1m", tmp_path / "cache")
    over.set()
    if not knows_range:
        (folder / "no_range").touch()
    place = downloads.fetch("ml-1m", tmp_path / "cache")
    assert (place / "movies.dat").read_text().startswith("1::A (1995)")
    assert ("bytes=100-" in asked) == knows_range


def test_what_came_whole_is_not_fetched_again(tmp_path, server):
    partial = tmp_path / "cache/.ml-1m.partial/ml-1m.zip.partial"
    partial.parent.mkdir(parents=True)
    partial.write_bytes((server[0] / "ml-1m.zip").read_bytes())
    assert (downloads.fetch("ml-1m", tmp_path / "cache") / "ratings.dat").exists()


def test_one_fetches_and_the_others_wait(tmp_path, server, caplog):
    asked = server[2]
    with concurrent.futures.ThreadPoolExecutor() as pool:
        with caplog.at_level("INFO", "genrec_jax"), downloads._lock(tmp_path / "ml-1m"):
            waiting = [pool.submit(downloads.fetch, "ml-1m", tmp_path) for _ in range(2)]
            while len(caplog.messages) < 2:
                time.sleep(0.01)
            assert not asked
    assert {future.result() for future in waiting} == {tmp_path / "ml-1m"}
    assert asked == ["/ml-1m.zip"]


def test_where_editions_are():
    snap, ucsd = downloads._SNAP, downloads._UCSD
    assert downloads.addresses("ml-32m") == [f"{downloads._GROUPLENS}/ml-32m.zip"]
    assert downloads.addresses("2014/Beauty") == [
        f"{snap}/reviews_Beauty_5.json.gz",
        f"{snap}/meta_Beauty.json.gz",
    ]
    assert downloads.addresses("2018/Luxury_Beauty") == [
        f"{ucsd}/amazon_v2/categoryFilesSmall/Luxury_Beauty_5.json.gz",
        f"{ucsd}/amazon_v2/metaFiles2/meta_Luxury_Beauty.json.gz",
    ]
    assert downloads.addresses("2023/All_Beauty") == [
        f"{ucsd}/amazon_2023/benchmark/0core/rating_only/All_Beauty.csv.gz",
        f"{ucsd}/amazon_2023/raw/meta_categories/meta_All_Beauty.jsonl.gz",
    ]
    for edition in ("ml-3m", "2015/Beauty", "2014", "2014/../x", "2014/Ä"):
        with pytest.raises(UserError, match=r"edition=.* is unknown: give one of ml-100k"):
            downloads.addresses(edition)


def test_all_checksums_of_movielens_are_known():
    known = downloads._CHECKSUMS | downloads.tfds.download.checksums.get_all_url_infos()
    assert {f"{downloads._GROUPLENS}/{edition}.zip" for edition in downloads.MOVIELENS} <= set(
        known
    )


@pytest.mark.parametrize(
    "dataset, edition, titles",
    [("movielens", "ml-1m", ["A (1995)", "B (1996)"]), ("amazon", "2014/Soap", ["Soap"])],
)
def test_a_data_set_is_downloaded_into_the_cache(tmp_path, server, dataset, edition, titles):
    settings = {"items_file": "", "interactions": "", "text": "", "time": "", "synthetic_shop": {}}
    settings |= {"item_id": "", "user_id": "", "k_core": 0, "max_bad_lines": 0, "dir": ""}
    settings |= {"split": "leave_one_out", "valid_share": 0.1, "test_share": 0.1}
    settings |= {"cold_share": 0.0, "cold_seed": 0, "dataset": dataset, "edition": edition}
    assert datasets.load(tmp_path, **settings).titles == titles
    place = edition.replace("/", "-")
    assert (tmp_path / "downloads" / place).is_dir()
