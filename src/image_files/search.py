"""Find image files in directories and by glob patterns."""

import logging
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from fnmatch import fnmatch
from functools import lru_cache
from pathlib import Path

from src.common.errors import InputError
from src.image_files.reading import IMAGE_SUFFIXES

OTHER_SUFFIXES = (
    frozenset({".jxl", ".jp2", ".j2k", ".psd", ".svg", ".exr", ".hdr", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf"})
    | frozenset({".avif", ".heic", ".heif", ".hif"} - IMAGE_SUFFIXES)
    | frozenset({".tga", ".ppm", ".pgm", ".pbm", ".pnm", ".ico", ".apng", ".jpf", ".jxr", ".xcf", ".orf", ".rw2"})
)
"""Lower-case suffixes of images that `read_image` can't read: a search names them instead of ignoring them."""

MAX_NAMED = 10

log = logging.getLogger(__name__)


def find_images(root: Path, patterns: Sequence[str]) -> list[Path]:
    """Return the images that match the first pattern with any match, in natural order: 2.jpg comes before 10.jpg.

    Args:
        patterns: globs relative to `root`, one for each known layout of the dataset. `**` enters subdirectories and
            links to directories, but no link that leads back to a parent. Hidden files and directories and files
            without an image suffix are skipped; a warning names images of other formats (`OTHER_SUFFIXES`).
    Raises:
        InputError: the name of an image is not UTF-8, which tables and messages could not hold. It begins with "has".
    """
    for pattern in patterns:
        names = dict.fromkeys(_walk(root, pattern, strict=True))
        _warn_of_other_formats(root, [name for name in names if not _is_image(name)])
        if undecodable := [name for name in names if not _is_utf8(name)]:
            shown = os.fsencode(undecodable[0]).decode("utf-8", "backslashreplace")
            raise InputError(
                f"has {len(undecodable):,} images whose names are not UTF-8, such as {shown}: rename them, for example "
                "with convmv"
            )
        if found := [root / name for name in names if _is_image(name)]:
            return natural_order(found)
    return []


def images_under(root: Path) -> set[str]:
    """Return all images below a directory, relative to it, skipping subdirectories that can't be read."""
    return {name for name in _walk(root, "**/*", strict=False) if _is_image(name)}


def natural_order(paths: list[Path]) -> list[Path]:
    """Sort paths with the numbers in their names compared by value."""

    def key(path: Path) -> tuple[list[str | int], str]:
        name = path.as_posix()
        return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)], name  # 01 and 1 tie

    return sorted(paths, key=key)


def _is_utf8(name: str) -> bool:
    return not any("\udc80" <= sign <= "\udcff" for sign in name)  # how Python keeps bytes that it can't decode


def _is_image(name: str) -> bool:
    return name.lower().endswith(tuple(IMAGE_SUFFIXES))


def _warn_of_other_formats(root: Path, names: Sequence[str]) -> None:
    if names:
        more = f" and {len(names) - MAX_NAMED:,} more" if len(names) > MAX_NAMED else ""
        listed = ", ".join(sorted(names)[:MAX_NAMED]) + more
        heif = any(name.lower().endswith((".heic", ".heif", ".hif")) for name in names)
        extra = ", or install the extra for HEIC: pip install -c constraints.txt -e '.[heic]'" if heif else ""
        log.warning(
            "%s: skipping images of unsupported formats: %s; convert them to JPEG or PNG%s", root, listed, extra
        )


def _walk(root: Path, pattern: str, *, strict: bool) -> Iterator[str]:
    """Yield the images of any format that match a pattern, relative to `root`; some may be yielded twice.

    Unlike `glob`, this raises InputError for directories that can't be read (if `strict`), stops at circular links, and
    needs no system call per file to tell files from directories.
    """
    endings = tuple(IMAGE_SUFFIXES | OTHER_SUFFIXES)

    @lru_cache(maxsize=1)  # `**` lists each directory twice
    def list_directory(folder: str) -> tuple[list[str], list[str]]:
        """Return the names of the files and of the subdirectories."""
        names: tuple[list[str], list[str]] = [], []
        try:
            with os.scandir(root / folder) as entries:
                for entry in entries:
                    with suppress(OSError):  # a link to itself
                        names[entry.is_dir()].append(entry.name)
        except (FileNotFoundError, NotADirectoryError):
            pass
        except OSError as error:
            if strict:
                raise InputError(f"has a directory {folder or '.'} that can't be read ({error.strerror})") from error
        return names

    def match(folder: str, parts: Sequence[str], parents: Sequence[str]) -> Iterator[str]:
        part, *rest = parts
        if part == "**":
            yield from match(folder, rest or ["*"], parents)
        elif not rest:
            files = list_directory(folder)[0]
            yield from (folder + name for name in files if name.lower().endswith(endings) and _matches(name, part))
            return
        fixed = not any(sign in part for sign in "*?[")
        for name in [part] if fixed else list_directory(folder)[1]:
            if _matches(name, "*" if part == "**" else part):
                real = os.path.realpath(root / folder / name)
                if fixed or real not in parents:
                    yield from match(f"{folder}{name}/", parts if part == "**" else rest, [*parents, real])

    return match("", pattern.split("/"), [os.path.realpath(root)])


def _matches(name: str, part: str) -> bool:
    return fnmatch(name, part) and (part.startswith(".") or not name.startswith("."))
