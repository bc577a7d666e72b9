"""Names the format of a file that Pillow cannot open, and says what to do."""

from PIL import features

from gradrev_jax.files import LFS_ADVICE, is_lfs_pointer

CONVERT = "convert it to JPEG or PNG"
FETCH = "fetch the image again"
AVIF = (b"avif", b"avis")
# Formats that Pillow passes on to other programs or packages: EPS, itself a program, is run by Ghostscript.
OF_OTHER_PROGRAMS = ("EPS", "PDF", "WMF", "FPX", "MIC", "BUFR", "GRIB", "HDF5", "MPEG")
# First bytes -> the format, and what to do.
STARTS = {
    b"\xff\x0a": f"is JPEG XL, which Pillow does not read; {CONVERT}",
    b"\0\0\0\x0cJXL ": f"is JPEG XL, which Pillow does not read; {CONVERT}",
    b"%PDF": f"is a PDF, not an image; {CONVERT}",
    b"%!PS": f"is PostScript, a program, which is never run; {CONVERT}",
    b"\xc5\xd0\xd3\xc6": f"is PostScript, a program, which is never run; {CONVERT}",
    b"\xd7\xcd\xc6\x9a": f"is a Windows metafile, which is not read; {CONVERT}",
    b"\xd0\xcf\x11\xe0": f"is a document of Microsoft's, which is not read; {CONVERT}",
    b"PK\x03\x04": "is a zip archive, not an image; unpack it",
    b"\x1f\x8b": "is compressed by gzip, not an image; unpack it",
    b"\x93NUMPY": f"is a NumPy array, not an image file; {CONVERT}",
    b"v/1\x01": f"is OpenEXR, which Pillow does not read; {CONVERT}",
    b"#?RADIANCE": f"is Radiance HDR, which Pillow does not read; {CONVERT}",
    b"\x1aE\xdf\xa3": f"is a Matroska or WebM video, not an image; {CONVERT}",
    b"FUJIFILMCCD-RAW": f"is a camera's raw file, which Pillow does not read; {CONVERT}",
}
# Brand of an ISO base media file (bytes 8 to 12) -> the same.
BRANDS = {
    **dict.fromkeys(
        (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"),
        "is HEIC, which Pillow does not read; convert it to JPEG or PNG (the package pillow-heif reads it)",
    ),
    **dict.fromkeys(
        AVIF,
        f"is AVIF, which this Pillow does not read; install Pillow 11.3 or newer with AVIF, or {CONVERT}",
    ),
    b"crx ": f"is a camera's raw file, which Pillow does not read; {CONVERT}",
}
# Start of a text, in lower case -> the same.
TEXTS = {
    b"<!doctype html": f"is an HTML page, not an image; {FETCH}",
    b"<html": f"is an HTML page, not an image; {FETCH}",
    b"<svg": f"is an SVG drawing, which Pillow does not read; {CONVERT}",
    b"<?xml": f"is XML, an SVG drawing or a server's error message; {CONVERT}, or {FETCH}",
    b"{": f"is JSON, perhaps a server's error message, not an image; {FETCH}",
}


def unreadable_format(start: bytes) -> str:
    """Describes a file that Pillow cannot identify.

    Args:
      start: the first 64 bytes of the file or more, or all of a shorter file.

    Returns:
      A message without the name of the file: its format and what to do, or its first bytes if the format is
      unknown.

    Example:
      >>> unreadable_format(b"<!DOCTYPE html><title>404</title>")
      'is an HTML page, not an image; fetch the image again'
      >>> unreadable_format(b"no image")
      "cannot identify image file: it begins with b'no image'"
    """
    if is_lfs_pointer(start):
        return LFS_ADVICE
    if start[4:8] == b"ftyp":
        if start[8:12] in AVIF and features.check("avif"):
            return f"is AVIF, damaged or cut short; {FETCH}, or {CONVERT}"
        return BRANDS.get(start[8:12], f"is a video, or an image that Pillow does not read; {CONVERT}")
    for known, found in ((STARTS, start), (TEXTS, start.removeprefix(b"\xef\xbb\xbf").lstrip().lower())):
        for beginning, message in known.items():
            if found.startswith(beginning):
                return message
    if start and not any(start):
        return f"holds only zero bytes where an image begins; {FETCH}"
    return f"cannot identify image file: it begins with {start[:16]!r}"
