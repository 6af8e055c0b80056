"""A Hugging Face hub on this machine: the few addresses that its client asks to push and pull."""

import base64
import contextlib
import hashlib
import http.server
import json
import re
import threading
import urllib.parse


class Hub:
    """Model repositories, each a list of commits, oldest first, each a dict of files by path."""

    def __init__(self):
        self.repos, self.private = {}, set()

    def create(self, body):
        name = f"{body['organization']}/{body['name']}"
        if name in self.repos:
            return 409, {"error": "You already created this model repo", "url": self.url(name)}
        self.repos[name] = [{}]
        if body.get("private") or body.get("visibility") == "private":  # releases 1 and 2
            self.private.add(name)
        return 200, {"url": self.url(name)}

    def url(self, name):
        return f"{self.address}/{name}"

    def commit(self, repo, lines):
        stored = dict(self.repos[repo][-1])
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                stored[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "deletedFile":
                del stored[value["path"]]
        self.repos[repo].append(stored)
        name = self.names(repo)[-1]
        return {"commitOid": name, "commitUrl": f"{self.url(repo)}/commit/{name}"}

    def names(self, repo):
        """Returns the names of the commits."""
        return [_sha(f"{repo} {number}".encode()) for number in range(len(self.repos[repo]))]

    def answer(self, path, body, is_known):
        """Returns the status and the body, JSON or a file, of a response, and more headers."""
        if path == "/api/repos/create":
            if not is_known:
                return 401, {"error": "Invalid username or password."}, {}
            return *self.create(json.loads(body)), {}
        if path == "/api/validate-yaml":
            return 200, {"errors": [], "warnings": []}, {}
        match = re.fullmatch(
            r"(?:/api/models)?/(\w+/\w+)/(revision|tree|preupload|commit|resolve)/(\w+)/?(.*)", path
        )
        if path.removeprefix("/api/models/") in self.repos:
            repo = path.removeprefix("/api/models/")
            return 200, {"id": repo, "private": repo in self.private}, {}
        repo, action, revision, file = match.groups() if match else [""] * 4
        if repo not in self.repos:
            return 404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"}
        names = self.names(repo)
        if revision not in ("main", *names):
            return 404, {"error": "Invalid rev id"}, {"X-Error-Code": "RevisionNotFound"}
        number = -1 if revision == "main" else names.index(revision)
        stored, name = self.repos[repo][number], names[number]
        if action == "preupload":
            given = [file["path"] for file in json.loads(body)["files"]]
            modes = {"uploadMode": "regular", "shouldIgnore": False}
            return 200, {"files": [{"path": path, **modes} for path in given]}, {}
        if action == "commit":
            return 200, self.commit(repo, map(json.loads, body.splitlines())), {}
        if action == "resolve":
            headers = {"X-Repo-Commit": name, "ETag": f'"{_sha(stored[file])}"'}
            return 200, stored[file], headers
        if action == "revision":
            siblings = [{"rfilename": path} for path in stored]
            return 200, {"id": repo, "sha": name, "siblings": siblings}, {}
        return 200, [_entry(path, data) for path, data in stored.items()], {}


def _sha(data):
    return hashlib.sha1(data).hexdigest()


def _entry(path, data):
    return {"type": "file", "path": path, "size": len(data), "oid": _sha(data)}


@contextlib.contextmanager
def serving():
    """Gives a hub that answers at its `address`."""
    hub = Hub()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
            given = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, body, headers = hub.answer(path, given, "Authorization" in self.headers)
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            for name, value in (headers | {"Content-Length": str(len(data))}).items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        do_HEAD = do_POST = do_GET

        def log_message(self, *arguments): ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        hub.address = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()
