"""Compares answers with the description of the API."""

import json
import re

import jsonschema

from gradrev_jax.serving.web.static_files import OPENAPI


class Described:
    def __init__(self):
        self.document = json.loads(OPENAPI.read_text(encoding="utf-8"))
        self.paths = {
            re.compile(re.sub(r"\{\w+\}", "[^/]*", path)): operations
            for path, operations in self.document["paths"].items()
        }

    def resolved(self, node):
        if "$ref" not in node:
            return node
        found = self.document
        for name in node["$ref"].removeprefix("#/").split("/"):
            found = found[name]
        return found

    def check(self, method, path, answer):
        """Raises an error if an answer is not one that the description has."""
        found = [each for pattern, each in self.paths.items() if pattern.fullmatch(path)]
        operation = found[0].get(method.lower()) if found else None
        if operation is None:  # the page, its files, an unknown address, another method
            assert answer.status < 500
            if answer.status >= 400:
                assert answer.error
            return
        assert str(answer.status) in operation["responses"], (method, path, answer.status, answer.body)
        response = self.resolved(operation["responses"][str(answer.status)])
        for name in response.get("headers", {}):
            assert name.lower() in answer.headers
        if "content" not in response:
            assert not answer.body
            return
        ((kind, content),) = response["content"].items()
        assert answer.headers["content-type"] == kind
        if kind == "application/json":
            self.check_value(content["schema"], answer.json)

    def check_value(self, schema, value):
        whole = {**schema, "components": self.document["components"]}
        jsonschema.Draft202012Validator(whole).validate(value)
