"""The JSON API and the page, as an ASGI application over a retriever."""

import contextlib
import logging
import pathlib
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gradrev_jax.errors import ConfigError, DataError, EngineError, UserError
from gradrev_jax.serving.language.reader import Words
from gradrev_jax.serving.web.answers import Answers, to_json
from gradrev_jax.serving.web.bodies import FORM_OVERHEAD, check_form, form_file, read_body, read_json
from gradrev_jax.serving.web.fields import Fields, Query
from gradrev_jax.serving.web.guard import Guard
from gradrev_jax.serving.web.limits import Limits
from gradrev_jax.serving.web.names import Names
from gradrev_jax.serving.web.photos import Photos
from gradrev_jax.serving.web.pictures import Pictures
from gradrev_jax.serving.web.refusals import Refused, quote
from gradrev_jax.serving.web.searches import Searcher, check_row, read_search
from gradrev_jax.serving.web.shop import Shop
from gradrev_jax.serving.web.static_files import FIRST_PAGE, OPENAPI, PAGE, StaticFile, etag_of, read_files
from gradrev_jax.serving.web.workers import Workers, overloaded

logger = logging.getLogger(__name__)
JSON = "application/json"
ASK_AGAIN = "no-cache"  # a browser asks whether its copy is still good
KEEP = "private, max-age=31536000, immutable"  # for addresses that name a version


class Api:
    """Holds what the answers to requests are made of, and the functions that answer them.

    Args:
      shop: the retriever.
      words: the function that finds changes in a request in words.
      gallery: the name of the gallery, for people.
      limits: how much clients may ask.
      page: the folder of the page's files.
    """

    def __init__(
        self,
        shop: Shop,
        words: Callable[[str], Any],
        *,
        gallery: str,
        limits: Limits,
        page: pathlib.Path,
    ) -> None:
        self._shop, self._words, self._gallery, self._limits = shop, words, gallery, limits
        self._version = secrets.token_hex(4)  # of the pictures: those of the last run may have been others
        self._answers = Answers(shop, limits)
        self._photos = Photos(shop, limits)
        self._searcher = Searcher(shop, self._photos, self._answers)
        self._pictures = Pictures(shop, limits)
        self._names = Names(shop.names)
        self._files = read_files(page)
        document = OPENAPI.read_bytes()
        self._openapi = StaticFile(document, JSON, etag_of(document))
        self._searches = Workers("searches", limits.threads, limits.waiting)
        self._readers = Workers("pictures", limits.threads, limits.pictures_waiting)
        self._encoders = Workers("photographs", 1, limits.uploads)
        self._uploads = 0

    def routes(self) -> list[Route]:
        """Returns the addresses of the API."""
        return [
            Route("/", self.first_page),
            Route("/static/{name}", self.static_file),
            Route("/openapi.json", self.openapi),
            Route("/api/attributes", self.attributes),
            Route("/api/items", self.items),
            Route("/api/items/{row}", self.item),
            Route("/api/photos", self.photo, methods=["POST"]),
            Route("/api/words", self.words, methods=["POST"]),
            Route("/api/search", self.search, methods=["POST"]),
            Route("/images/{row}", self.picture),
        ]

    def close(self) -> None:
        """Ends the threads."""
        for workers in (self._searches, self._readers, self._encoders):
            workers.close()

    async def first_page(self, request: Request) -> Response:
        """Returns the page."""
        return self._file(request, FIRST_PAGE)

    async def static_file(self, request: Request) -> Response:
        """Returns one of the page's files."""
        return self._file(request, request.path_params["name"])

    def _file(self, request: Request, name: str) -> Response:
        file = self._files.get(name)  # whatever the query says: the page keeps its state there
        if file is None:
            raise Refused("there is no such file", 404)
        return _cached(request, file.content, file.kind, file.etag)

    async def openapi(self, request: Request) -> Response:
        """Returns the description of the API."""
        _query(request).check_all_read()
        return _cached(request, *self._openapi)

    async def attributes(self, request: Request) -> Response:
        """Returns the attributes and their values."""
        _query(request).check_all_read()
        body = self._answers.attributes(self._gallery, self._version)
        return _cached(request, body, JSON, etag_of(body))

    async def items(self, request: Request) -> Response:
        """Returns a part of the gallery, or of what has a name in it."""
        query = _query(request, "offset", "limit")
        offset = query.whole("offset", 0, 10**12, default=0)
        limit = query.whole("limit", 1, self._limits.page, default=60)
        name = query.text("name", self._limits.name_characters, default="")
        query.check_all_read()

        def answer() -> bytes:
            rows = self._names.find(name)
            return self._answers.items(rows[offset : offset + limit].tolist(), len(rows), offset)

        return Response(await self._searches.run(answer, request.receive), media_type=JSON)

    async def item(self, request: Request) -> Response:
        """Returns an item of the gallery."""
        _query(request).check_all_read()
        row = self._row(request)
        return Response(
            await self._searches.run(lambda: self._answers.item(row), request.receive), media_type=JSON
        )

    async def photo(self, request: Request) -> Response:
        """Takes a photograph; returns its id and what is predicted of it."""
        _query(request).check_all_read()
        headers, limits = request.scope["headers"], self._limits
        boundary = check_form(headers)
        if self._uploads >= limits.uploads:
            raise overloaded("photographs")
        self._uploads += 1
        try:
            most = limits.photo_bytes + FORM_OVERHEAD
            body = await read_body(headers, request.receive, most, limits.photo_seconds)

            def answer() -> bytes:
                name, item = self._photos.add(form_file(body, boundary, "photo"))
                return self._answers.photo(name, item)

            return Response(await self._encoders.run(answer, request.receive), media_type=JSON)
        finally:
            self._uploads -= 1

    async def words(self, request: Request) -> Response:
        """Returns the changes that a request in words asks for."""
        _query(request).check_all_read()
        fields = Fields(await read_json(request.scope["headers"], request.receive, self._limits))
        text = fields.text("text", self._limits.text_characters)
        fields.check_all_read()

        def answer() -> bytes:
            found = self._words(text)
            return to_json(
                {
                    "changes": [change._asdict() for change in found.changes],
                    "questions": [
                        {
                            "words": question.words,
                            "options": [change._asdict() for change in question.options],
                        }
                        for question in found.questions
                    ],
                    "unknown": list(found.unknown),
                }
            )

        return Response(await self._searches.run(answer, request.receive), media_type=JSON)

    async def search(self, request: Request) -> Response:
        """Returns the gallery items that are nearest to an edited one."""
        _query(request).check_all_read()
        body = await read_json(request.scope["headers"], request.receive, self._limits)
        search = read_search(body, self._shop.schema, self._shop.num_items, self._limits)
        answer = await self._searches.run(lambda: self._searcher.answer(search), request.receive)
        return Response(answer, media_type=JSON)

    async def picture(self, request: Request) -> Response:
        """Returns the picture of a gallery item."""
        row, limits = self._row(request), self._limits
        query = _query(request, "size")
        size = query.whole("size", limits.smallest_picture, limits.largest_picture, default=256)
        version = query.text("v", limits.name_characters, default=None)
        query.check_all_read()
        picture = self._pictures.kept(row, size)
        if picture is None:
            picture = await self._readers.run(lambda: self._pictures.make(row, size), request.receive)
        keep = KEEP if version == self._version else ASK_AGAIN
        return _cached(request, picture.content, "image/jpeg", picture.etag, keep)

    def _row(self, request: Request) -> int:
        text = request.path_params["row"]
        if not (text.isascii() and text.isdigit() and len(text) <= 18):
            raise Refused("an item is named by its row, a whole number", 404)
        return check_row(int(text), self._shop.num_items)


def _query(request: Request, *whole_numbers: str) -> Query:
    return Query(request.query_params.multi_items(), whole_numbers)


def _cached(request: Request, content: bytes, kind: str, etag: str, keep: str = ASK_AGAIN) -> Response:
    """Returns content, or that the client's copy of it is still good."""
    headers = {"etag": etag, "cache-control": keep}
    asked = request.headers.get("if-none-match", "")
    if etag in (each.strip().removeprefix("W/") for each in asked.split(",")):
        return Response(status_code=304, headers=headers)
    return Response(content, media_type=kind, headers=headers)


def create_app(
    shop: Any,
    *,
    words: Callable[[str], Any] | None = None,
    gallery: str | None = None,
    hosts: Sequence[str] | None = None,
    limits: Limits | None = None,
    page: pathlib.Path = PAGE,
) -> Guard:
    """Returns the ASGI application that serves a retriever.

    Args:
      shop: the retriever, an open ``Retriever`` or what has its methods.
      words: a function that finds changes in a request in words; None: ``Words``, without a text model.
      gallery: the name of the gallery, for people; None: that of the retriever.
      hosts: the hosts that are answered, without ports; None: all.
      limits: how much clients may ask; None: the defaults.
      page: the folder of the page's files.

    Example:
      ::

        app = create_app(Retriever.open("runs/mine"), hosts=("localhost",))
    """
    words = Words(shop.schema) if words is None else words
    gallery = shop.name if gallery is None else gallery
    api = Api(shop, words, gallery=gallery, limits=limits or Limits(), page=page)
    handlers: dict[Any, Any] = {UserError: _refuse, HTTPException: _refuse_route, Exception: _fail}

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        api.close()

    app = Starlette(routes=api.routes(), exception_handlers=handlers, lifespan=lifespan)
    app.router.redirect_slashes = False  # an address that a client makes up is no reason to send it elsewhere
    return Guard(app, tuple(map(str.lower, hosts)) if hosts is not None else None)


async def _refuse(request: Request, error: Exception) -> Response:
    """Returns the message of a ``UserError``: the client's mistake, or something missing here."""
    if isinstance(error, Refused):
        return _error(str(error), error.status, error.headers)
    if isinstance(error, DataError | ConfigError) and not isinstance(error, EngineError):
        return _error(str(error), 400)
    logger.error("%s %s: %s", request.method, request.url.path, error)
    # Where the engine is and what it said are for the log, not for whoever asks.
    message = "the search engine does not answer; try again" if isinstance(error, EngineError) else str(error)
    return _error(message, 503, {"retry-after": "5"})


async def _refuse_route(request: Request, error: Exception) -> Response:
    """Returns why an address or a method is not answered."""
    assert isinstance(error, HTTPException)
    headers, method = dict(error.headers or {}), quote(request.method)
    if error.status_code == 405:
        message = f"this address takes {headers.get('Allow', 'others')}, not {method}"
    else:
        message = "there is nothing at this address; openapi.json has all there are"
    return _error(message, error.status_code, headers)


async def _fail(request: Request, error: Exception) -> Response:
    """Returns that the server is at fault; Starlette raises the error again, so that the log has it."""
    return _error("the server failed at this; its log says why", 500)


def _error(message: str, status: int, headers: dict[str, str] | None = None) -> Response:
    return Response(to_json({"error": message}), status, headers, media_type=JSON)
