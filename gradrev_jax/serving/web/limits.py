"""How much one client, and all clients together, may ask of the server."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Limits:
    """Represents the limits of a server; the defaults are for a page that a few people use.

    Attributes:
      json_bytes: the longest body of a JSON request.
      photo_bytes: the largest photograph, as it is sent.
      photo_pixels: the most pixels of a photograph.
      photos: the number of photographs that are kept; the one that was not used for longest goes first.
      k: the most results of one search.
      changes: the most changes of one search.
      exclude: the most items that one search leaves out.
      page: the most items of one list.
      name_characters: the longest name that is searched for.
      text_characters: the longest request in words.
      smallest_picture, largest_picture: the height and width of a picture, in pixels.
      picture_bytes: the memory of encoded pictures.
      row_bytes: the memory of what answers say of gallery items.
      threads: the number of threads that search, and of those that read pictures.
      waiting: the number of searches that may wait for a thread.
      pictures_waiting: the number of pictures that may wait for a thread.
      uploads: the number of photographs that may be sent or encoded at once.
      connections: the number of open connections.
      header_seconds: the time for the head of a request, from its first byte or from the connection.
      body_seconds: the time for a JSON body.
      photo_seconds: the time for a photograph.
      write_seconds: the time that a client may take to read what was sent, without any progress.
      idle_seconds: the time that a connection stays open without a request.
    """

    json_bytes: int = 64 * 1024
    photo_bytes: int = 10_000_000
    photo_pixels: int = 40_000_000
    photos: int = 64
    k: int = 200
    changes: int = 50
    exclude: int = 2000
    page: int = 200
    name_characters: int = 200
    text_characters: int = 500
    smallest_picture: int = 16
    largest_picture: int = 1024
    picture_bytes: int = 64 * 1024 * 1024
    row_bytes: int = 16 * 1024 * 1024
    threads: int = 2
    waiting: int = 16
    pictures_waiting: int = 128
    uploads: int = 4
    connections: int = 256
    header_seconds: float = 5.0
    body_seconds: float = 10.0
    photo_seconds: float = 60.0
    write_seconds: float = 20.0
    idle_seconds: float = 15.0
