"""Mutations of files: of arbitrary bytes, and of the parts of a format, so that parsers get past its checksums."""

import struct
import zlib
from collections.abc import Callable
from random import Random
from typing import Any

Mutation = Callable[[bytes, Random], bytes]

EXTREMES = (0, 1, 2, 7, 8, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
_PACKED_ZEROS = zlib.compress(bytes(64 << 20), 9)  # 64 MiB in 64 KiB
_LONGEST = 1 << 20
_PNG_START = b"\x89PNG\r\n\x1a\n"


def bytes_changed(data: bytes, rng: Random) -> bytes:
    """Make one to four changes independent of any format: to bits, numbers and blocks, or by truncation."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        if not changed:
            break
        at, length = rng.randrange(len(changed)), rng.choice((1, 2, 4, 16, 200))
        kind = rng.randrange(7)
        if kind == 0:
            changed[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            changed[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        elif kind == 2:
            size, order = rng.choice((2, 4)), rng.choice(("little", "big"))
            changed[at : at + size] = (rng.choice(EXTREMES) % 256**size).to_bytes(size, order)  # type: ignore[arg-type]
        elif kind == 3:
            del changed[at:]
        elif kind == 4:
            del changed[at : at + length]
        elif kind == 5:
            changed[at:at] = changed[at : at + length] * rng.choice((1, 2, 50))
        else:
            other = rng.randrange(len(changed))
            changed[at : at + length] = changed[other : other + length]
    return bytes(changed[:_LONGEST])


def _spliced(parts: list[Any], rng: Random) -> list[Any]:
    """Drop, duplicate or swap parts."""
    parts = list(parts)
    for _ in range(rng.randint(1, 2)):
        if len(parts) < 2:
            break
        i, j = rng.randrange(len(parts)), rng.randrange(len(parts))
        kind = rng.randrange(3)
        if kind == 0:
            del parts[i]
        elif kind == 1:
            parts.insert(j, parts[i])
        else:
            parts[i], parts[j] = parts[j], parts[i]
    return parts


def png_changed(data: bytes, rng: Random) -> bytes:
    """Change, splice or add chunks with valid checksums, or set a number of the header to an extreme."""
    chunks, at = [], len(_PNG_START)
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    kind = rng.randrange(5)
    i = rng.randrange(len(chunks))
    name, content = chunks[i]
    if kind == 0:
        chunks[i] = name, bytes_changed(content, rng)
    elif kind == 1:
        chunks = _spliced(chunks, rng)
    elif kind == 2:
        header = list(struct.unpack(">IIBBBBB", chunks[0][1]))
        field = rng.randrange(7)
        header[field] = rng.choice(EXTREMES) if field < 2 else rng.choice((0, 1, 2, 3, 4, 6, 8, 16, 255))
        chunks[0] = b"IHDR", struct.pack(">IIBBBBB", *header)
    elif kind == 3 and rng.random() < 0.2:  # rarely, as they take long to unpack
        bomb = rng.choice((b"zTXt", b"iCCP", b"iTXt"))
        head = b"a\0\1\0\0\0" if bomb == b"iTXt" else b"a\0\0"
        chunks.insert(1, (bomb, head + _PACKED_ZEROS))
    else:
        added = rng.choice((b"PLTE", b"tRNS", b"gAMA", b"eXIf", b"acTL", b"fcTL", b"pHYs", b"tEXt", b"iCCP", b"cHRM"))
        chunks.insert(rng.randrange(1, len(chunks) + 1), (added, rng.randbytes(rng.choice((0, 1, 4, 26, 300)))))
    return _PNG_START + b"".join(
        struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        for name, content in chunks
    )


def jpeg_changed(data: bytes, rng: Random) -> bytes:
    """Change, splice or add segments, or set a number of the frame header to an extreme."""
    segments, at = [], 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != 0xDA:
        (length,) = struct.unpack_from(">H", data, at + 2)
        segments.append((data[at + 1], data[at + 4 : at + 2 + length]))
        at += 2 + length
    scan = data[at:]
    kind, i = rng.randrange(5), rng.randrange(len(segments))
    marker, content = segments[i]
    if kind == 0:
        segments[i] = marker, bytes_changed(content, rng)[:65533]
    elif kind == 1:
        segments = _spliced(segments, rng)
    elif kind == 2:
        for k, (frame, numbers) in enumerate(segments):
            if frame in (0xC0, 0xC1, 0xC2):
                precision, height, width, parts = struct.unpack_from(">BHHB", numbers)
                given = [precision, height, width, parts]
                field = rng.randrange(4)
                given[field] = rng.choice(EXTREMES) % (65536 if field in (1, 2) else 256)
                segments[k] = frame, struct.pack(">BHHB", *given) + numbers[6:]
    elif kind == 3:
        app, head = rng.choice(
            ((0xE1, b"Exif\0\0II*\0"), (0xE2, b"ICC_PROFILE\0\1\1"), (0xEE, b"Adobe"), (0xE2, b"MPF\0"))
        )
        segments.insert(rng.randrange(len(segments) + 1), (app, head + rng.randbytes(rng.choice((0, 4, 60, 3000)))))
    else:
        scan = bytes_changed(scan, rng)
    return (
        data[:2]
        + b"".join(struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content for marker, content in segments)
        + scan
    )


def tiff_changed(data: bytes, rng: Random) -> bytes:
    """Change tag, type, count or value of entries of the first directory."""
    order = "<" if data[:2] == b"II" else ">"
    (start,) = struct.unpack_from(f"{order}I", data, 4)
    if start + 2 > len(data):
        return bytes_changed(data, rng)
    (count,) = struct.unpack_from(f"{order}H", data, start)
    changed = bytearray(data)
    for _ in range(rng.randint(1, 3)):
        at = start + 2 + 12 * rng.randrange(max(count, 1))
        if at + 12 > len(data):
            break
        field = rng.randrange(4)
        if field < 2:
            number = rng.choice(
                (1, 2, 3, 4, 5, 12, 16, 256, 257, 258, 259, 262, 273, 274, 277, 278, 279, 284, 317, 338, 339)
            )
            struct.pack_into(f"{order}H", changed, at + 2 * field, number)
        elif field == 2:
            struct.pack_into(f"{order}I", changed, at + 4, rng.choice(EXTREMES))
        elif rng.random() < 0.5:  # values of one short, as most are
            struct.pack_into(
                f"{order}H", changed, at + 8, rng.choice((0, 1, 2, 3, 4, 5, 6, 7, 8, 16, 32, 64, 32773, 34712))
            )
        else:
            struct.pack_into(f"{order}I", changed, at + 8, rng.choice((*EXTREMES, len(data), start)))
    return bytes(changed)


def riff_changed(data: bytes, rng: Random) -> bytes:
    """Change, splice or add chunks of a WebP file, or prepend a header of the extended format."""
    chunks, at = [], 12
    while at + 8 <= len(data):
        (length,) = struct.unpack_from("<I", data, at + 4)
        chunks.append((data[at : at + 4], data[at + 8 : at + 8 + length]))
        at += 8 + length + length % 2
    kind, i = rng.randrange(4), rng.randrange(len(chunks))
    name, content = chunks[i]
    if kind == 0:
        chunks[i] = name, bytes_changed(content, rng)
    elif kind == 1:
        chunks = _spliced(chunks, rng)
    elif kind == 2:
        sides = [rng.choice(EXTREMES) % (1 << 24) for _ in range(2)]
        flags = bytes([rng.randrange(64), 0, 0, 0])
        chunks.insert(0, (b"VP8X", flags + b"".join(side.to_bytes(3, "little") for side in sides)))
    else:
        added = rng.choice((b"EXIF", b"ICCP", b"ALPH", b"ANIM", b"ANMF", b"XMP "))
        chunks.insert(rng.randrange(len(chunks) + 1), (added, rng.randbytes(rng.choice((0, 6, 16, 500)))))
    body = b"".join(
        name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2) for name, content in chunks
    )
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def bmp_changed(data: bytes, rng: Random) -> bytes:
    """Set one or two numbers of the header to extremes."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, 2)):
        at, size = rng.choice(((10, 4), (14, 4), (18, 4), (22, 4), (26, 2), (28, 2), (30, 4), (34, 4), (46, 4)))
        if at + size <= len(changed):
            number = rng.choice((*EXTREMES, 1, 4, 8, 16, 24, 32, 40, 108, 124)) % 256**size
            changed[at : at + size] = number.to_bytes(size, "little")
    return bytes(changed)


def either(*mutations: Mutation) -> Mutation:
    """Return a mutation that applies one or two of the given ones."""

    def changed(data: bytes, rng: Random) -> bytes:
        for _ in range(rng.choice((1, 1, 2))):
            try:
                data = rng.choice(mutations)(data, rng)
            except (struct.error, IndexError, ValueError):  # the first change left too little of the format
                data = bytes_changed(data, rng)
        return data

    return changed
