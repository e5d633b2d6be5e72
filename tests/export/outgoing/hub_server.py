"""A server on this machine that plays the Hugging Face hub: it takes files as commits and LFS, and gives them back."""

import base64
import hashlib
import json
import re
from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.local_server import LocalServer, QuietHandler, answering

TOKEN = "hf_that_may_write"
_COMMIT = "c0ffee" * 6 + "c0de"
_LFS = (".onnx", ".safetensors")

Files = dict[str, bytes]


class WritableHub(LocalServer):
    """repositories: files by ORG/REPO and branch. refusals: the status of every request to a path that has the key."""

    def __init__(self) -> None:
        super().__init__(_Handler)
        self.repositories: dict[str, dict[str, Files]] = {}
        self.private: dict[str, str | None] = {}
        self.messages: list[str] = []
        self.objects: Files = {}  # large files by their SHA-256
        self.refusals: dict[str, int] = {}
        self.paths: list[str] = []


class _Handler(QuietHandler, BaseHTTPRequestHandler):
    server: WritableHub

    def do_POST(self) -> None:
        hub, body = self.server, self._body()
        if self._is_refused():
            return
        if self.path == "/api/repos/create":
            self._create(json.loads(body))
        elif self.path == "/api/validate-yaml":
            is_card = json.loads(body)["content"].startswith("---\n")
            self._answer(200, {"errors": [], "warnings": [] if is_card else [{"message": "empty metadata"}]})
        elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/(branch|preupload|commit)/([^/?]+)", self.path):
            repository, what, branch = found.groups()
            self._repository = repository
            getattr(self, f"_{what}")(hub.repositories[repository], branch, body)
        elif self.path.endswith(".git/info/lfs/objects/batch"):
            objects = [self._place(one) for one in json.loads(body)["objects"]]
            self._answer(200, {"transfer": "basic", "objects": objects})
        else:
            self._answer(404, {"error": f"no {self.path}"})

    def do_PUT(self) -> None:
        body = self._body()
        if self._is_refused(needs_token=False):  # the place of a large file has its secret in its address
            return
        digest = hashlib.sha256(body).hexdigest()
        if self.path != f"/storage/{digest}":
            self._answer(400, {"error": "other bytes than were said"})
            return
        self.server.objects[digest] = body
        self._answer(200, {})

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        """A file by its address, with what huggingface_hub asks to know of it."""
        if self._is_refused():
            return
        found = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", self.path)
        content = self._file(*found.groups()) if found else None
        if content is None:
            self._answer(404, {"error": "Repository not found"})
            return
        named = {"ETag": f'"{hashlib.sha256(content).hexdigest()}"', "X-Repo-Commit": _COMMIT}
        self.send_head(200, {**named, "Content-Length": str(len(content))})
        if self.command == "GET":
            self.wfile.write(content)

    def _file(self, repository: str, branch: str, name: str) -> bytes | None:
        """Every branch has the same commit: by that it is the file of the first branch that has it."""
        branches = self.server.repositories.get(repository, {})
        found = branches.values() if branch == _COMMIT else [branches.get(branch, {})]
        return next((files[name] for files in found if name in files), None)

    def _create(self, asked: dict[str, Any]) -> None:
        name = f"{asked['organization']}/{asked['name']}"
        if name in self.server.repositories:
            self._answer(409, {"error": "You already created this model repo", "url": f"{self.server.url}/{name}"})
            return
        self.server.repositories[name] = {"main": {}}
        self.server.private[name] = asked.get("visibility")
        self._answer(200, {"url": f"{self.server.url}/{name}", "name": name, "id": "1"})

    def _branch(self, branches: dict[str, Files], branch: str, body: bytes) -> None:
        if branch in branches:
            self._answer(409, {"error": "Reference already exists"})
            return
        branches[branch] = dict(branches["main"])
        self._answer(200, {})

    def _preupload(self, branches: dict[str, Files], branch: str, body: bytes) -> None:
        if branch not in branches:
            self._answer(404, {"error": "Revision not found"})
            return
        files = [
            {
                "path": file["path"],
                "uploadMode": "lfs" if file["path"].endswith(_LFS) else "regular",
                "shouldIgnore": False,
            }
            for file in json.loads(body)["files"]
        ]
        self._answer(200, {"files": files})

    def _place(self, asked: dict[str, Any]) -> dict[str, Any]:
        found = {"oid": asked["oid"], "size": asked["size"]}
        if asked["oid"] in self.server.objects:
            return found
        return {**found, "actions": {"upload": {"href": f"{self.server.url}/storage/{asked['oid']}"}}}

    def _commit(self, branches: dict[str, Files], branch: str, body: bytes) -> None:
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "header":
                self.server.messages.append(value["summary"])
            elif line["key"] == "file":
                branches[branch][value["path"]] = base64.b64decode(value["content"])
            else:
                branches[branch][value["path"]] = self.server.objects[value["oid"]]
        address = f"{self.server.url}/{self._repository}/commit/{_COMMIT}"
        self._answer(200, {"success": True, "commitOid": _COMMIT, "commitUrl": address})

    def _is_refused(self, *, needs_token: bool = True) -> bool:
        self.server.paths.append(self.path)
        refused = next((status for part, status in self.server.refusals.items() if part in self.path), None)
        if refused is None and needs_token and self.headers.get("Authorization") != f"Bearer {TOKEN}":
            refused = 401
        if refused is not None:
            self._answer(refused, {"error": "refused\nin several lines"})
        return refused is not None

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        chunks = []
        while size := int(self.rfile.readline(), 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def _answer(self, status: int, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_head(status, {"Content-Type": "application/json", "Content-Length": str(len(body))})
        self.wfile.write(body)


def taking() -> AbstractContextManager[WritableHub]:
    """While inside, the hub answers."""
    return answering(WritableHub())
