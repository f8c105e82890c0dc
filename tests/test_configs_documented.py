"""Every file in conf/ and every key in it has a comment."""

import re
from dataclasses import dataclass, field

import pytest
import yaml

from tests.conftest import CONF

FILES = {path.relative_to(CONF).as_posix(): path for path in sorted(CONF.rglob("*.yaml"))}
UNDOCUMENTED = {"_target_", "_partial_", "_convert_", "defaults"}  # Hydra's
KEYS_PER_COMMENT = 8  # maximum number of keys in a block that may share the block's comment
COLUMNS = 120


@dataclass
class Key:
    """A key of a block mapping with its line, and whether a comment follows it or directly precedes it."""

    name: str
    line: int
    has_comment: bool
    parent: "Key | None"
    children: list["Key"] = field(default_factory=list)

    @property
    def path(self) -> str:
        return self.name if self.parent is None else f"{self.parent.path}.{self.name}"


def read_keys(text: str) -> list[Key]:
    """Return all keys of a YAML text."""
    lines = text.splitlines()
    comments = comment_lines(text)
    found: list[Key] = []

    def walk(node: yaml.Node, parent: Key | None) -> None:
        if isinstance(node, yaml.SequenceNode):
            for item in node.value:
                walk(item, parent)
        if not isinstance(node, yaml.MappingNode):
            return
        for name, value in node.value:
            line = name.start_mark.line
            column = name.start_mark.column
            above = line > 0 and lines[line - 1].strip().startswith("#") and indent(lines[line - 1]) == column
            # the first comment describes the file, not the key below it
            above = above and any(not text.strip().startswith("#") for text in lines[:line])
            behind = not isinstance(value, yaml.ScalarNode) and value.flow_style and value.end_mark.line in comments
            key = Key(name.value, line + 1, line in comments or above or behind, parent)
            found.append(key)
            if parent is not None:
                parent.children.append(key)
            if key.name != "defaults":  # its entries choose other files
                walk(value, key)

    root = yaml.compose(text)
    if root is not None:
        walk(root, None)
    return found


def comment_lines(text: str) -> set[int]:
    """Return the lines, from 0, on which a comment follows a token."""
    ends: dict[int, int] = {}
    for token in yaml.scan(text):
        if token.end_mark.line == token.start_mark.line and not isinstance(token, yaml.BlockEndToken):
            ends[token.end_mark.line] = max(ends.get(token.end_mark.line, 0), token.end_mark.column)
    lines = text.splitlines()
    comment = re.compile(r"(\s+[|>][+-]?)?\s+# ?\S")  # also after the indicator of a block text
    return {line for line, end in ends.items() if line < len(lines) and comment.match(lines[line][end:])}


def indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def find_documented(key: Key) -> Key | None:
    """Return the key with the comment that applies to `key`: itself, or the nearest one around it."""
    while not key.has_comment:
        if key.parent is None:
            return None
        key = key.parent
    return key


def find_undocumented(text: str) -> list[str]:
    keys = read_keys(text)
    leaves = [key for key in keys if not key.children and key.name not in UNDOCUMENTED]
    missing = [f"line {key.line}: {key.path} has no comment" for key in leaves if find_documented(key) is None]
    shared: dict[int, list[Key]] = {}
    for key in leaves:
        documented = find_documented(key)
        if documented is not None and documented is not key:
            shared.setdefault(documented.line, []).append(key)
    crowded = [
        f"line {line}: {len(keys)} keys share one comment, such as {keys[0].path}"
        for line, keys in shared.items()
        if len(keys) > KEYS_PER_COMMENT
    ]
    return missing + crowded


@pytest.mark.parametrize("name", FILES)
def test_every_key_has_a_comment(name):
    assert find_undocumented(FILES[name].read_text("utf-8")) == []


@pytest.mark.parametrize("name", FILES)
def test_every_file_starts_with_a_description_and_has_short_lines(name):
    lines = FILES[name].read_text("utf-8").splitlines()
    first = next(line for line in lines if not line.startswith("# @package"))
    assert re.match(r"# \S.{15,}", first), f"{name} starts with: {first}"
    texts = [token for token in yaml.scan("\n".join(lines)) if getattr(token, "style", None) in ("|", ">")]
    printed = {line for text in texts for line in range(text.start_mark.line, text.end_mark.line)}
    assert [i for i, line in enumerate(lines) if len(line) > COLUMNS and i not in printed] == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("# file\na: 1 # px\n", []),
        ("# file\na: 1\n", ["a"]),
        ("# file\nb: 1 # px\n# above\na: 1\n", []),
        ("# file\nb: 1 # px\n  # elsewhere\na: 1\n", ["a"]),
        ("# file\na: '# no comment'\n", ["a"]),
        ("# file\na: # both\n  b: 1\n  c: {d: 1, e: 2}\n", []),
        ("# file\na:\n  _target_: b\n  b: 1\n  c: 2 # px\n", ["a.b"]),
        ("# file\na: [\n  1,\n] # px\n", []),
        ("# file\na: >-\n  text # of it\nb: 1 # px\n", ["a"]),
        ("# file\na: # too many\n" + "".join(f"  k{i}: 1\n" for i in range(9)), ["a.k0"]),
    ],
)
def test_finds_undocumented_keys(text, expected):
    found = find_undocumented(text)
    assert len(found) == len(expected)
    assert all(name in line for name, line in zip(expected, found, strict=True))
