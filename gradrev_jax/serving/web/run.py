"""Serves a run: takes the port, opens the run's gallery, and answers."""

import pathlib
import threading
from collections.abc import Callable, Sequence
from typing import Any

from gradrev_jax.distributed import say
from gradrev_jax.errors import UserError
from gradrev_jax.serving.language.reader import Words
from gradrev_jax.serving.retriever import Retriever
from gradrev_jax.serving.web.app import create_app
from gradrev_jax.serving.web.guard import LOCAL_NAMES, check_host_names, local_hosts
from gradrev_jax.serving.web.server import listen, serve
from gradrev_jax.serving.web.shop import Shop


def serve_run(
    where: pathlib.Path,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    proxied: Sequence[str] = (),
    ready: Callable[[str, int], None] = lambda url, items: None,
    **opening: Any,
) -> None:
    """Answers requests for a run's gallery until Ctrl-C or SIGTERM.

    Args:
      where: the run's folder.
      host: the address to listen on.
      port: the port; 0: any that is free.
      proxied: further names that pages and requests may have, where a proxy passes them on; with any, a
        server that others reach answers for no other names.
      ready: a function that is called with the address of the page and the number of items, once it answers.
      **opening: how the run is opened, see ``Retriever.open``.

    Raises:
      UserError: the port or a name cannot be used, or the run cannot be opened.

    Example:
      >>> serve_run(pathlib.Path("no/such/run"), port=0)
      Traceback (most recent call last):
      gradrev_jax.errors.WorkdirError: no/such/run is not a run of train.py: it has no config.json
    """
    check_host_names(proxied)
    with listen(host, port) as taken:  # before the run is opened, which may take a while
        shop = Retriever.open(where, **opening)
        words = Words(shop.schema)
        hosts = local_hosts(taken.getsockname()[0], host)
        if proxied:  # so it is also where other machines reach this one, through a proxy with these names
            hosts = (*(hosts or LOCAL_NAMES), *(name.lower() for name in proxied))
        app = create_app(shop, words=words, gallery=shop.name, hosts=hosts)

        def start(url: str) -> None:
            ready(url, shop.num_items)
            threading.Thread(target=prepare, args=(shop, words), daemon=True).start()

        serve(app, taken, ready=start)
        shop.close()


def prepare(shop: Shop, words: Words) -> None:
    """Warms up the search, the words and the network of photographs, so that no user waits for them.

    Args:
      shop: the retriever.
      words: what reads requests in words.
    """
    for work in (shop.item(0).search, words.load, shop.warm):
        try:
            work()
        except UserError as error:  # the server does without; whoever asks for it is told
            say(str(error))
