"""A hub on loopback: enough of the Hugging Face hub's HTTP API for the real client library.

Paths and headers as https://huggingface.co/docs/hub/api and the library's own errors know them:
model info, tree listing, files with ETag and Range, gated and missing repositories. It remembers
every request, and can break a file off in the middle or be shut.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit


@dataclass
class Repo:
    """One model repository: a commit is what ``folder`` holds now."""

    folder: Path
    gated: bool = False
    tags: tuple[str, ...] = ("license:apache-2.0",)
    accepted: tuple[str, ...] = ()
    """Tokens of accounts that accepted the licence."""
    branches: dict[str, str] = field(default_factory=dict)
    renamed: str = ""
    """What it is called now; the old name still leads to it."""

    @property
    def files(self) -> dict[str, Path]:
        every = sorted(self.folder.rglob("*"))
        return {str(path.relative_to(self.folder)): path for path in every if path.is_file()}

    @property
    def commit(self) -> str:
        """A hash of all that is in it."""
        digest = hashlib.sha1(usedforsecurity=False)
        for name, path in self.files.items():
            digest.update(name.encode() + path.read_bytes())
        return digest.hexdigest()


class Asked(NamedTuple):
    """A request that came."""

    method: str
    path: str
    token: str
    range: str
    agent: str

    @property
    def file(self) -> str:
        """The file that was asked for, or nothing."""
        return self.path.partition("/resolve/")[2].partition("/")[2]


class Hub:
    """The server's state, for tests to change and to read."""

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.asked: list[Asked] = []
        self.cut: dict[str, int] = {}
        """File name -> how many more times it breaks off in the middle."""
        self.failing = False
        """Answer everything with 503."""
        self.bad_tokens: tuple[str, ...] = ()
        self.url = ""

    def fetched(self) -> set[str]:
        """Files whose bytes were sent."""
        return {asked.file for asked in self.asked if asked.method == "GET" and asked.file}


def _handler(hub: Hub) -> type[BaseHTTPRequestHandler]:  # noqa: C901  its methods are counted in
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            pass

        def do_GET(self) -> None:
            self._serve()

        def do_HEAD(self) -> None:
            self._serve()

        def _serve(self) -> None:
            token = self.headers.get("authorization", "").removeprefix("Bearer ")
            path = unquote(urlsplit(self.path).path)
            agent = self.headers.get("user-agent", "")
            ranged = self.headers.get("range", "")
            hub.asked.append(Asked(self.command, path, token, ranged, agent))
            if hub.failing:
                return self._refuse(503, "", "at the moment")
            if token and token in hub.bad_tokens:
                return self._refuse(401, "", "Invalid credentials in Authorization header")
            if path.startswith("/api/models/"):
                return self._api(path.removeprefix("/api/models/"), token)
            repo_id, found, rest = path[1:].partition("/resolve/")
            repo = hub.repos.get(repo_id)
            if not found or repo is None:
                return self._missing(token)
            revision, _, name = rest.partition("/")
            if not self._known(repo, revision):
                return self._refuse(404, "RevisionNotFound", "Invalid rev id")
            if repo.gated and token not in repo.accepted:
                return self._refuse(403 if token else 401, "GatedRepo", "Access is restricted")
            if name not in repo.files:
                return self._refuse(404, "EntryNotFound", "Entry not found")
            return self._file(repo, name)

        def _api(self, path: str, token: str) -> None:
            repo_id = next((one for one in hub.repos if path.split("/")[:2] == one.split("/")), "")
            if not repo_id:
                return self._missing(token)
            repo, rest = hub.repos[repo_id], path.removeprefix(repo_id).strip("/")
            kind, _, revision = rest.partition("/")
            if revision and not self._known(repo, revision):
                return self._refuse(404, "RevisionNotFound", "Invalid rev id")
            if kind == "tree":
                return self._json(
                    [
                        {"type": "file", "path": name, **self._entry(path)}
                        for name, path in repo.files.items()
                    ]
                )
            return self._json(
                {
                    "id": repo.renamed or repo_id,
                    "modelId": repo_id,
                    "sha": repo.commit,
                    "gated": "manual" if repo.gated else False,
                    "private": False,
                    "tags": list(repo.tags),
                    "siblings": [
                        {"rfilename": name, "blobId": self._entry(path)["oid"], "size": size}
                        for name, path in repo.files.items()
                        for size in [path.stat().st_size]
                    ],
                    "safetensors": {"parameters": {"F32": 1234}, "total": 1234},
                }
            )

        def _known(self, repo: Repo, revision: str) -> bool:
            return revision in {"main", repo.commit, *repo.branches}

        def _entry(self, path: Path) -> dict[str, Any]:
            digest = hashlib.sha1(path.read_bytes(), usedforsecurity=False).hexdigest()
            return {"oid": digest, "size": path.stat().st_size}

        def _missing(self, token: str) -> None:
            self._refuse(404 if token else 401, "RepoNotFound", "Repository not found")

        def _refuse(self, status: int, code: str, message: str) -> None:
            self._send(status, b"", {"X-Error-Code": code, "X-Error-Message": message})

        def _json(self, body: Any) -> None:
            self._send(200, json.dumps(body).encode(), {"Content-Type": "application/json"})

        def _file(self, repo: Repo, name: str) -> None:
            path = repo.files[name]
            content = path.read_bytes()
            headers = {"X-Repo-Commit": repo.commit, "ETag": f'"{self._entry(path)["oid"]}"'}
            start = 0
            if ranged := self.headers.get("range"):
                start = int(ranged.removeprefix("bytes=").partition("-")[0])
                headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            body = content[start:]
            cut = self.command == "GET" and hub.cut.get(name, 0) > 0
            if cut:
                hub.cut[name] -= 1
            self._send(206 if start else 200, body, headers, cut=cut)

        def _send(
            self, status: int, body: bytes, headers: dict[str, str], *, cut: bool = False
        ) -> None:
            self.send_response(status)
            for key, value in {**headers, "Content-Length": str(len(body))}.items():
                if value:
                    self.send_header(key, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body[: len(body) // 2] if cut else body)
                self.close_connection = self.close_connection or cut

    return Handler


@contextmanager
def serve() -> Iterator[Hub]:
    """A running hub."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub))
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
