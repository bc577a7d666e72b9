"""A hub in miniature, on the loopback interface, that keeps the files of models in memory."""

import base64
import hashlib
import http.server
import json
import re
import threading
import urllib.parse


class Hub:
    """Commits of models by name, newest last: {file: content}.

    Args:
      models: name -> commits.
    """

    def __init__(self):
        self.models: dict[str, list[dict[str, bytes]]] = {}
        self.asked: list[str] = []
        hub = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *arguments):
                pass

            def do_HEAD(self):
                self._answer(*hub.get(self.path))

            do_GET = do_HEAD  # noqa: N815

            def do_POST(self):
                length = int(self.headers.get("Content-Length") or 0)
                self._answer(*hub.post(self.path, self.rfile.read(length)))

            def _answer(self, status, body, headers=None):
                self.send_response(status)
                content = body if isinstance(body, bytes) else json.dumps(body).encode()
                for name, value in {"Content-Length": len(content), **(headers or {})}.items():
                    self.send_header(name, str(value))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(content)

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def commit(self, name, files):
        """Adds a commit of a model; returns its hash."""
        self.models.setdefault(name, []).append(files)
        return self.hash(name, len(self.models[name]) - 1)

    @staticmethod
    def hash(name, number):
        return hashlib.sha1(f"{name} {number}".encode()).hexdigest()

    def _files(self, name, revision):
        """The hash and the files of a commit; None if there is none."""
        commits = self.models.get(name, [])
        if revision == "main" and commits:
            revision = self.hash(name, len(commits) - 1)
        for number, files in enumerate(commits):
            if self.hash(name, number) == revision:
                return revision, files
        return None

    def get(self, path):
        self.asked.append(path)
        path = urllib.parse.unquote(path.split("?")[0])
        missing = 404, {"error": "not found"}, {"X-Error-Code": "RepoNotFound", "X-Error-Message": "no model"}
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/(revision|tree)/([^/]+))?(/.*)?", path):
            held = self._files(found[1], found[3] or "main")
            if held is None:
                return missing
            revision, files = held
            if found[2] == "tree":
                return 200, [
                    {
                        "type": "file",
                        "path": name,
                        "size": len(content),
                        "oid": hashlib.sha1(content).hexdigest(),
                    }
                    for name, content in files.items()
                ]
            about = {"id": found[1], "modelId": found[1], "sha": revision, "private": False, "tags": []}
            return 200, {**about, "siblings": [{"rfilename": name} for name in files]}
        if found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            held = self._files(found[1], found[2])
            if held is None or found[3] not in held[1]:
                return missing
            content = held[1][found[3]]
            headers = {"X-Repo-Commit": held[0], "ETag": f'"{hashlib.sha1(content).hexdigest()}"'}
            return 200, content, headers
        return missing

    def post(self, path, body):
        self.asked.append(path)
        path = urllib.parse.unquote(path.split("?")[0])
        if path == "/api/repos/create":
            asked = json.loads(body)
            name = "/".join(filter(None, (asked.get("organization"), asked["name"])))
            if name in self.models:
                return 409, {"error": "it is there", "url": f"{self.address}/{name}"}
            self.models[name] = []
            return 200, {"url": f"{self.address}/{name}", "name": name}
        if path == "/api/validate-yaml":
            return 200, {"errors": [], "warnings": []}
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/preupload/main", path):
            files = json.loads(body)["files"]
            return 200, {
                "files": [
                    {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False, "oid": None}
                    for file in files
                ]
            }
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/commit/main", path):
            lines = [json.loads(line) for line in body.splitlines()]
            files = {
                line["value"]["path"]: base64.b64decode(line["value"]["content"])
                for line in lines
                if line["key"] == "file"
            }
            revision = self.commit(found[1], files)
            address = f"{self.address}/{found[1]}/commit/{revision}"
            return 200, {"success": True, "commitOid": revision, "commitUrl": address}
        return 404, {"error": f"no {path}"}
