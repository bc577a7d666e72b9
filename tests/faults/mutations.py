"""Mutations of the bytes of files: blind ones, and ones that know how a file is built.

All of them draw from a ``random.Random`` alone, so that a seed gives the same input again.
"""

import csv
import io
import json
import random
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterable

LONGEST = 4 * 2**20  # of a mutated file: mutations that insert stop there
INTERESTING = (0, 1, 2, 7, 127, 128, 255, 256, 32767, 65535, 2**31 - 1, 2**31, 2**32 - 1, 2**53, 2**63 - 1)
# What a file of names, or a cell of a table, must not be taken for a path, a number or a program by.
HOSTILE_TEXTS = (
    *("", " ", ".", "..", "../secret.jpg", "../../secret.jpg", "./../secret.jpg", "..\\secret.jpg"),
    *(
        "link.jpg",
        "link/secret.jpg",
        "/etc/passwd",
        "/dev/zero",
        "/proc/self/mem",
        "file:///etc/passwd",
        "~/x",
    ),
    *(
        "a\0b",
        "\0",
        "\ufeff",
        "\ud7ff",
        "\u202e",
        "\u2028",
        "é",
        "e\u0301",
        "名",
        "😀",
        "a" * 300,
        "a" * 5000,
    ),
    *("-1", "0", "1e999", "-1e-999", "nan", "inf", "1_000", "٣", "9" * 30, "0x10", "1.5", "True", "null"),
    *("=1+1", "{}", "{0.__class__}", "%s%n", "$(touch x)", "`id`", "__import__('os')", "|ls", "a/" * 200),
    *('"', '""', "'", ",", ";", "\t", "\n", "\r", "\r\n", "#", "a\nb", "(", "[]", "\\", "*", "?"),
)
HOSTILE_VALUES = (
    *(None, True, False, 0, -1, 1.5, 1e308, -0.0, 2**31, 2**63, 2**64, 10**40, float("nan"), float("inf")),
    *([], {}, [[]], [None], {"": None}, [0] * 1000),
)

Mutation = Callable[[bytes, bytes, random.Random], bytes]


def mutate(content: bytes, other: bytes, rng: random.Random) -> bytes:
    """Returns a mutated copy of a file's content.

    Args:
      content: the content.
      other: the content of a file of the same kind, to splice in.
      rng: the source of all choices.
    """
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        aware = STRUCTURED if rng.random() < 0.5 else ()
        mutations = [change for fits, change in aware if fits(content)] or BLIND
        try:
            content = rng.choice(mutations)(content, other, rng)[:LONGEST]
        except Exception:  # a file that was mutated before is no longer built as it seems
            content = flip_bits(content, other, rng)
    return content


def flip_bits(content: bytes, other: bytes, rng: random.Random) -> bytes:
    """Flips a few bits."""
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        if changed:
            changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def set_bytes(content: bytes, other: bytes, rng: random.Random) -> bytes:
    """Overwrites a few bytes by random ones."""
    start = _position(content, rng)
    count = rng.choice((1, 2, 4, 16, 64))
    return content[:start] + rng.randbytes(min(count, len(content) - start)) + content[start + count :]


def truncate(content: bytes, other: bytes, rng: random.Random) -> bytes:
    """Cuts the end off."""
    return content[: _position(content, rng)]


def delete(content: bytes, other: bytes, rng: random.Random) -> bytes:
    """Leaves a part out."""
    start = _position(content, rng)
    return content[:start] + content[start + rng.choice((1, 1, 2, 4, 16, 256)) :]


def insert(content: bytes, other: bytes, rng: random.Random) -> bytes:
    """Inserts random bytes, zeros, or a text of those that are often mistaken for something."""
    start = _position(content, rng)
    random_bytes = rng.randbytes(rng.choice((1, 2, 8, 64)))
    text = rng.choice(HOSTILE_TEXTS).encode("utf-8", "surrogatepass")
    chunk = rng.choice((random_bytes, bytes(rng.choice((1, 8, 4096))), text))
    return content[:start] + chunk + content[start:]


def repeat(content: bytes, other: bytes, rng: random.Random) -> bytes:
    """Repeats a part, up to a few thousand times."""
    start = _position(content, rng)
    chunk = content[start : start + rng.choice((1, 2, 8, 64, 1024))]
    return content[:start] + chunk * rng.choice((2, 3, 16, 256, 4096)) + content[start:]


def splice(content: bytes, other: bytes, rng: random.Random) -> bytes:
    """Goes on, from some place, with the other file."""
    return content[: _position(content, rng)] + other[_position(other, rng) :]


def set_integer(content: bytes, other: bytes, rng: random.Random) -> bytes:
    """Overwrites a field of 1, 2, 4 or 8 bytes by an integer at the edge of its range."""
    start, width = _position(content, rng), rng.choice((1, 2, 4, 8))
    number = rng.choice((*INTERESTING, -1, -2)) % 256**width
    order = "little" if rng.random() < 0.5 else "big"
    return content[:start] + number.to_bytes(width, order) + content[start + width :]


def swap_lines(content: bytes, other: bytes, rng: random.Random) -> bytes:
    """Moves, repeats or drops a line."""
    lines = content.splitlines(keepends=True)
    if not lines:
        return content
    line = lines.pop(rng.randrange(len(lines)))
    for _ in range(rng.choice((0, 1, 2, 50))):
        lines.insert(rng.randrange(len(lines) + 1), line)
    return b"".join(lines)


def change_json(content: bytes, other: bytes, rng: random.Random) -> bytes:
    """Replaces, drops, adds or nests one value of a JSON document."""
    return json.dumps(_change_value(json.loads(content), rng)).encode()


def change_cells(content: bytes, other: bytes, rng: random.Random) -> bytes:
    """Replaces cells of a table, lengthens or shortens a row, or writes it in another encoding."""
    text = content.decode("utf-8", "replace")
    delimiter = max(",;\t", key=text.count)
    rows = list(csv.reader(io.StringIO(text), delimiter=delimiter))
    for _ in range(rng.choice((1, 1, 3))):
        row = rng.choice(rows)
        if row and rng.random() < 0.7:
            row[rng.randrange(len(row))] = rng.choice(HOSTILE_TEXTS)
        elif row and rng.random() < 0.5:
            row.pop()
        else:
            row.extend([rng.choice(HOSTILE_TEXTS)] * rng.choice((1, 2, 300)))
    written = io.StringIO()
    csv.writer(written, delimiter=rng.choice((delimiter, delimiter, ",", ";", "\t"))).writerows(rows)
    encoding = rng.choice((*["utf-8"] * 5, "utf-8-sig", "utf-16", "utf-16-le", "latin-1", "utf-32"))
    return written.getvalue().encode(encoding, "replace")


def change_members(content: bytes, other: bytes, rng: random.Random) -> bytes:
    """Mutates, renames, compresses, drops or repeats one member of a zip archive."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = [(info.filename, archive.read(info)) for info in archive.infolist()]
    if not members:
        return content
    position = rng.randrange(len(members))
    name, inner = members[position]
    change = rng.randrange(5)
    if change <= 1:
        inner = mutate(inner, rng.choice(members)[1], rng)
    elif change == 2:
        name = rng.choice((*HOSTILE_TEXTS, "../" + name, "/" + name, name + ".npy", rng.choice(members)[0]))
    members[position] = name, inner
    if change == 3:
        members.insert(rng.randrange(len(members) + 1), (name, inner))
    if change == 4:
        members.pop(position)
    written = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(written, "w") as archive:
        warnings.simplefilter("ignore")  # of repeated names
        for name, inner in members:
            kind = rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
            info = zipfile.ZipInfo(name.replace("\ud7ff", "_") or "empty")
            info.compress_type = kind
            archive.writestr(info, inner)
    return written.getvalue()


def change_array_header(content: bytes, other: bytes, rng: random.Random) -> bytes:
    """Replaces the type, the order or the shape in the header of a NumPy array."""
    length = struct.unpack("<H", content[8:10])[0]
    body = content[10 + length :]
    shapes = (
        "(-1, 4)",
        "(3,)",
        "(1000000000, 1000000000)",
        "(2, 2, 2)",
        "()",
        "(0, 0)",
        "(True, 2)",
        "(9" * 99,
    )
    kinds = (
        "|O",
        "<U99999999",
        "<f4",
        ">f8",
        "<c16",
        "|V0",
        "<M8[ns]",
        "[('a', '<f4')]",
        "<i0",
        "|S0",
        "|b1",
    )
    header = {
        "descr": repr(rng.choice(kinds)),
        "fortran_order": rng.choice(("True", "False", "2", "None")),
        "shape": rng.choice(shapes),
    }
    text = content[10 : 10 + length].decode("latin-1")
    key = rng.choice(list(header))
    start = text.find(f"'{key}': ") + len(key) + 4
    end = text.find(")," if key == "shape" else ",", start) + (key == "shape")
    changed = (text[:start] + header[key] + text[end:]).rstrip().encode("latin-1", "replace") + b"\n"
    return content[:8] + struct.pack("<H", min(len(changed), 65535)) + changed + body


def change_safetensors_header(content: bytes, other: bytes, rng: random.Random) -> bytes:
    """Replaces one value in the header of a safetensors file."""
    length = int.from_bytes(content[:8], "little")
    header = change_json(content[8 : 8 + length], other, rng)
    size = len(header) if rng.random() < 0.8 else rng.choice(INTERESTING)
    return size.to_bytes(8, "little") + header + content[8 + length :]


def change_png(content: bytes, other: bytes, rng: random.Random) -> bytes:
    """Mutates one chunk of a PNG and gives it the checksum that it then must have."""
    chunks, start = [], 8
    while start + 12 <= len(content):
        size = int.from_bytes(content[start : start + 4], "big")
        chunks.append((content[start + 4 : start + 8], content[start + 8 : start + 8 + size]))
        start += 12 + size
    if not chunks:
        return content
    position = rng.randrange(len(chunks))
    kind, body = chunks[position]
    chunks[position] = (
        kind,
        rng.choice((flip_bits, set_integer, truncate, set_bytes, repeat))(body, other, rng),
    )
    parts = (
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )
    return content[:8] + b"".join(parts)


def _position(content: bytes, rng: random.Random) -> int:
    """Returns a place in a file; half of them near its start or its end, where headers and indexes are."""
    size = len(content)
    near = min(size, 128)
    return rng.choice(
        (rng.randint(0, size), rng.randint(0, near), rng.randint(0, size), size - rng.randint(0, near))
    )


def _change_value(value: object, rng: random.Random) -> object:
    """Returns a JSON value with one value in it replaced."""
    if isinstance(value, dict) and value and rng.random() < 0.85:
        key = rng.choice(list(value))
        changed = dict(value)
        change = rng.random()
        if change < 0.8:
            changed[key] = _change_value(value[key], rng)
        elif change < 0.9:
            del changed[key]
        else:
            changed[rng.choice(HOSTILE_TEXTS)] = changed.pop(key)
        return changed
    if isinstance(value, list) and value and rng.random() < 0.85:
        items = list(value)
        position = rng.randrange(len(items))
        change = rng.random()
        if change < 0.8:
            items[position] = _change_value(items[position], rng)
        elif change < 0.9:
            del items[position]
        else:
            items.insert(position, items[position])
        return items
    if rng.random() < 0.05:
        for _ in range(rng.choice((10, 900))):
            value = [value]
        return value
    return rng.choice((*HOSTILE_VALUES, *HOSTILE_TEXTS))


def _is_zip(content: bytes) -> bool:
    if not content.startswith(b"PK"):
        return False
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return sum(info.file_size for info in archive.infolist()) < LONGEST and archive.testzip() is None
    except Exception:
        return False


def _is_json(content: bytes) -> bool:
    try:
        return content[:1] in b"{[" and len(content) < 2**20 and json.loads(content) is not None
    except (ValueError, RecursionError):
        return False


def _is_safetensors(content: bytes) -> bool:
    length = int.from_bytes(content[:8], "little")
    return content[8:9] == b"{" and 8 < length < len(content) and _is_json(content[8 : 8 + length])


def _is_table(content: bytes) -> bool:
    lines = content[:4096].split(b"\n")
    if b"\0" in content or len(lines) < 3 or len(content) > 2**20:
        return False
    try:
        content.decode()
        list(csv.reader(io.StringIO(content.decode())))
    except (UnicodeDecodeError, csv.Error):
        return False
    return any(lines[0].count(mark) and lines[1].count(mark) for mark in (b",", b";", b"\t", b" "))


def _starts_with(start: bytes) -> Callable[[bytes], bool]:
    return lambda content: content.startswith(start)


BLIND: list[Mutation] = [
    *(flip_bits, set_bytes, truncate, delete, insert, repeat, splice, set_integer, swap_lines),
]
STRUCTURED: Iterable[tuple[Callable[[bytes], bool], Mutation]] = (
    (_is_json, change_json),
    (_is_table, change_cells),
    (_is_zip, change_members),
    (_starts_with(b"\x93NUMPY\x01"), change_array_header),
    (_is_safetensors, change_safetensors_header),
    (_starts_with(b"\x89PNG\r\n\x1a\n"), change_png),
)
