"""A small Hub on 127.0.0.1: what the real client asks of one, kept in memory; its xet store is a folder."""

import base64
import hashlib
import json
import re
import socket
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

TOKEN = "hf_" + "localtesttoken" * 2
READ_ONLY_TOKEN = "hf_" + "readonlytoken" * 2
LFS_SUFFIXES = (".safetensors", ".pt", ".png", ".parquet")


@dataclass
class Repository:
    private: bool
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    history: list[str] = field(default_factory=list)

    def commit(self, ref: str, files: dict[str, bytes]) -> str:
        text = f"{len(self.commits)}{ref}{sorted((path, sha256(data)) for path, data in files.items())}"
        oid = hashlib.sha1(text.encode()).hexdigest()
        self.commits[oid] = files
        self.refs[ref] = oid
        self.history.append(oid)
        return oid

    def resolve(self, revision: str) -> str | None:
        oid = self.refs.get(revision) or self.tags.get(revision)
        return oid or (revision if revision in self.commits else None)


@dataclass
class Fault:
    """Answer the next `times` matching requests with `status`, or hang up where it is None.

    With `applied`, what the request asks for is done before the server hangs up.
    """

    method: str
    path: str
    status: int | None = None
    times: int = 1
    applied: bool = False


class Answer(Exception):
    def __init__(self, status: int, code: str = "", message: str = "") -> None:
        self.status, self.code, self.message = status, code, message


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def blob_oid(path: str, data: bytes) -> str:
    """Object id the Hub compares an upload with: sha256 for LFS files, the git blob hash otherwise."""
    if path.endswith(LFS_SUFFIXES):
        return sha256(data)
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class HubServer(ThreadingHTTPServer):
    """Repositories, uploaded LFS objects, the requests seen and the faults still to be answered."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.repositories: dict[str, Repository] = {}
        self.objects: dict[str, bytes] = {}
        self.xet_store = ""  # an address as the xet client takes it, such as local:///folder
        self.requests: list[tuple[str, str]] = []
        self.faults: list[Fault] = []
        self.before_commit: list = []
        self.corrupted: set[str] = set()
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def seen(self, method: str, pattern: str) -> int:
        return sum(m == method and re.search(pattern, path) is not None for m, path in self.requests)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up in the middle of an upload is part of the tests."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: HubServer

    def do_GET(self) -> None:
        self._serve("GET")

    do_HEAD = do_POST = do_PUT = None  # replaced below: one handler for every method

    def log_message(self, *args: object) -> None:
        pass

    def _serve(self, method: str) -> None:
        split = urlsplit(self.path)
        path, self.query = unquote(split.path), parse_qs(split.query)
        self.server.requests.append((method, path))
        fault = next(
            (f for f in self.server.faults if f.times and f.method == method and re.search(f.path, path)),
            None,
        )
        if fault is not None:
            fault.times -= 1
            if fault.status is None and not fault.applied:
                self.rfile.read(min(1000, int(self.headers.get("Content-Length", 0))))
                self._hang_up()
                return
        self.silent = fault is not None and fault.applied
        length = int(self.headers.get("Content-Length", 0))
        if self.headers.get("Transfer-Encoding") == "chunked":
            self.body = self._read_chunks()
        else:
            self.body = self.rfile.read(length)
        try:
            if fault is not None and not fault.applied:
                raise Answer(fault.status, message="injected")
            for verb, pattern, action in ROUTES:
                match = re.fullmatch(pattern, path)
                if verb == method and match:
                    action(self, *match.groups())
                    return
            raise Answer(404, message=f"no route for {method} {path}")
        except Answer as answer:
            headers = {"X-Error-Message": answer.message} | (
                {"X-Error-Code": answer.code} if answer.code else {}
            )
            self._send(answer.status, json.dumps({"error": answer.message}).encode(), headers)

    def _read_chunks(self) -> bytes:
        parts = []
        while size := int(self.rfile.readline().strip(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _hang_up(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        if self.silent:
            self._hang_up()
            return
        self.send_response(status)
        headers = {"Content-Length": str(len(body)), "Content-Type": "application/json"} | (headers or {})
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _json(self, value: object, status: int = 200) -> None:
        self._send(status, json.dumps(value).encode())

    def _token(self) -> str:
        return self.headers.get("Authorization", "").removeprefix("Bearer ")

    def _may_write(self) -> None:
        if self._token() not in (TOKEN, READ_ONLY_TOKEN):
            raise Answer(401, message="Invalid username or password.")
        if self._token() == READ_ONLY_TOKEN:
            raise Answer(403, message="You don't have the rights to write to this repository.")

    def _repository(self, name: str) -> Repository:
        repository = self.server.repositories.get(name)
        if repository is None or (repository.private and self._token() not in (TOKEN, READ_ONLY_TOKEN)):
            raise Answer(404, "RepoNotFound", "Repository not found")
        return repository

    def _revision(self, name: str, revision: str) -> tuple[Repository, str, dict[str, bytes]]:
        repository = self._repository(name)
        oid = repository.resolve(revision)
        if oid is None:
            raise Answer(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return repository, oid, repository.commits[oid]


def create_repository(handler: Handler) -> None:
    handler._may_write()
    request = json.loads(handler.body)
    name = f"{request.get('organization') or 'someone'}/{request['name']}"
    name = f"datasets/{name}" if request.get("type") == "dataset" else name
    url = f"{handler.server.url}/{name}"
    if name in handler.server.repositories:
        handler._json({"error": "You already created this model repo", "url": url}, 409)
        return
    private = bool(request.get("private")) or request.get("visibility") == "private"
    repository = Repository(private)
    repository.commit("main", {".gitattributes": b"*.pt filter=lfs diff=lfs merge=lfs -text\n"})
    handler.server.repositories[name] = repository
    handler._json({"url": url, "name": name, "id": name})


def validate_yaml(handler: Handler) -> None:
    content = json.loads(handler.body)["content"]
    valid = content.startswith("---\n") and "license:" in content and "\x00" not in content
    errors = [] if valid else [{"message": "metadata missing"}]
    handler._json({"errors": errors, "warnings": []}, 200 if valid else 400)


def model_info(handler: Handler, name: str, revision: str = "main") -> None:
    repository, oid, files = handler._revision(name, revision)
    siblings = [{"rfilename": path} for path in sorted(files)]
    handler._json({"id": name, "sha": oid, "private": repository.private, "siblings": siblings, "tags": []})


def tree(handler: Handler, name: str, revision: str, folder: str = "") -> None:
    _, _, files = handler._revision(name, revision)
    entries = []
    for path, data in sorted(files.items()):
        if folder and not path.startswith(folder.strip("/") + "/"):
            continue
        entry = {"type": "file", "path": path, "size": len(data), "oid": blob_oid("", data)}
        if path.endswith(LFS_SUFFIXES):
            entry["lfs"] = {"oid": sha256(data), "size": len(data), "pointerSize": 134}
        entries.append(entry)
    if folder and not entries:
        raise Answer(404, "EntryNotFound", f"{folder} does not exist")
    handler._json(entries)


def refs(handler: Handler, name: str) -> None:
    repository = handler._repository(name)

    def listing(kind: str, refs: dict[str, str]) -> list[dict[str, str]]:
        return [
            {"name": ref, "ref": f"refs/{kind}/{ref}", "targetCommit": oid}
            for ref, oid in sorted(refs.items())
        ]

    branches = {ref: oid for ref, oid in repository.refs.items() if not ref.startswith("refs/pr/")}
    handler._json(
        {"branches": listing("heads", branches), "tags": listing("tags", repository.tags), "converts": []}
    )


def preupload(handler: Handler, name: str, revision: str) -> None:
    handler._may_write()
    _, _, files = handler._revision(name, revision)
    answers = []
    for item in json.loads(handler.body)["files"]:
        path = item["path"]
        answer = {
            "path": path,
            "uploadMode": "lfs" if path.endswith(LFS_SUFFIXES) else "regular",
            "shouldIgnore": False,
        }
        if path in files:
            answer["oid"] = blob_oid(path, files[path])
        answers.append(answer)
    handler._json({"files": answers, "commitOid": handler._repository(name).refs["main"]})


def xet_token(handler: Handler, name: str, revision: str) -> None:
    """Say where the xet store is; the real Hub then reads there what a commit names, this one has it in `objects`."""
    handler._may_write()
    place = {"casUrl": handler.server.xet_store, "accessToken": "short-lived", "exp": int(time.time()) + 3600}
    headers = {"X-Xet-Cas-Url": place["casUrl"], "X-Xet-Access-Token": place["accessToken"]}
    headers["X-Xet-Token-Expiration"] = str(place["exp"])
    handler._send(200, json.dumps(place).encode(), headers)


def lfs_batch(handler: Handler, name: str) -> None:
    handler._may_write()
    objects = []
    for item in json.loads(handler.body)["objects"]:
        answer = {"oid": item["oid"], "size": item["size"]}
        if item["oid"] not in handler.server.objects:
            base = f"{handler.server.url}/lfs-objects/{item['oid']}"
            answer["actions"] = {"upload": {"href": base}, "verify": {"href": base + "/verify"}}
        objects.append(answer)
    handler._json({"transfer": "basic", "objects": objects})


def lfs_upload(handler: Handler, oid: str) -> None:
    if sha256(handler.body) != oid:
        raise Answer(400, message="hash mismatch")
    handler.server.objects[oid] = handler.body
    handler._send(200, b"")


def lfs_verify(handler: Handler, oid: str) -> None:
    request = json.loads(handler.body)
    if len(handler.server.objects.get(oid, b"")) != request["size"]:
        raise Answer(404, message="object not uploaded")
    handler._json({})


def commit(handler: Handler, name: str, revision: str) -> None:
    handler._may_write()
    repository = handler._repository(name)
    while handler.server.before_commit:
        handler.server.before_commit.pop()(repository)
    lines = [json.loads(line) for line in handler.body.splitlines() if line]
    header = next(line["value"] for line in lines if line["key"] == "header")
    opens_request = "create_pr" in handler.query
    parent = header.get("parentCommit")
    if parent and parent != repository.refs["main"] and not opens_request:
        raise Answer(412, message="A commit has happened since. Please refresh and try again.")
    files = dict(repository.commits[parent or repository.refs["main"]])
    for line in lines:
        value = line["value"]
        if line["key"] == "file":
            files[value["path"]] = base64.b64decode(value["content"])
        elif line["key"] == "lfsFile":
            files[value["path"]] = handler.server.objects[value["oid"]]
        elif line["key"] == "deletedFile":
            del files[value["path"]]
    number = sum(ref.startswith("refs/pr/") for ref in repository.refs) + 1
    oid = repository.commit(f"refs/pr/{number}" if opens_request else revision, files)
    answer = {"commitOid": oid, "commitUrl": f"{handler.server.url}/{name}/commit/{oid}", "success": True}
    if opens_request:
        answer["pullRequestUrl"] = f"{handler.server.url}/{name}/discussions/{number}"
    handler._json(answer)


def tag(handler: Handler, name: str, revision: str) -> None:
    handler._may_write()
    repository, oid, _ = handler._revision(name, revision)
    wanted = json.loads(handler.body)["tag"]
    if wanted in repository.tags:
        raise Answer(409, message="Tag reference exists already")
    repository.tags[wanted] = oid
    handler._json({})


def resolve(handler: Handler, name: str, revision: str, path: str) -> None:
    _, oid, files = handler._revision(name, revision)
    if path not in files:
        raise Answer(404, "EntryNotFound", f"{path} does not exist")
    data = files[path]
    headers = {
        "X-Repo-Commit": oid,
        "ETag": f'"{blob_oid("", data)}"',
        "Content-Type": "application/octet-stream",
    }
    if path.endswith(LFS_SUFFIXES):
        headers |= {"X-Linked-Etag": f'"{sha256(data)}"', "X-Linked-Size": str(len(data))}
    if path in handler.server.corrupted:
        data = data[:-1] + bytes([data[-1] ^ 1])
    handler._send(200, data, headers)


for _method in ("HEAD", "POST", "PUT"):
    setattr(Handler, f"do_{_method}", lambda self, method=_method: self._serve(method))

# a dataset is kept under datasets/NAME, as its pages are called
MODEL = r"/api/(?:models/)?((?:datasets/)?[^/]+/[^/]+)"
ROUTES = [
    ("POST", r"/api/repos/create", create_repository),
    ("POST", r"/api/validate-yaml", validate_yaml),
    ("GET", MODEL, model_info),
    ("GET", MODEL + r"/revision/(.+)", model_info),
    ("GET", MODEL + r"/tree/(refs/pr/\d+|[^/]+)(/.+)?", lambda h, n, r, f: tree(h, n, r, f or "")),
    ("GET", MODEL + r"/refs", refs),
    ("POST", MODEL + r"/preupload/(.+)", preupload),
    ("GET", MODEL + r"/xet-write-token/(.+)", xet_token),
    ("POST", MODEL + r"/commit/(.+)", commit),
    ("POST", MODEL + r"/tag/(.+)", tag),
    ("POST", r"/((?:datasets/)?[^/]+/[^/]+)\.git/info/lfs/objects/batch", lfs_batch),
    ("PUT", r"/lfs-objects/([0-9a-f]{64})", lfs_upload),
    ("POST", r"/lfs-objects/([0-9a-f]{64})/verify", lfs_verify),
    ("GET", r"/((?:datasets/)?[^/]+/[^/]+)/resolve/(refs/pr/\d+|[^/]+)/(.+)", resolve),
    ("HEAD", r"/((?:datasets/)?[^/]+/[^/]+)/resolve/(refs/pr/\d+|[^/]+)/(.+)", resolve),
]
