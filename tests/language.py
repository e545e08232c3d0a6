"""How plain the language of the comments is: ``python -m tests.language`` prints two rates for each language.

- *Person words*: pronouns that a server or a thread cannot be, for each 1,000 words of comment.
- *Fragments*: comments whose first word makes no sentence ("Not", "Nor", "Of"), for each 1,000 words of comment.

The rates are a thermometer and no gate: a low rate does not make a text clear, but a high one shows where to read.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

REPOSITORY = Path(__file__).resolve().parents[1]
#: The aims, for each 1,000 words of comment.
MOST_PERSON_WORDS, MOST_FRAGMENTS = 1.5, 1.0

_PERSON = re.compile(
    r"\b(?:who|whom|whose|whoever|whomever|(?:no|some|any|every)body|no one|(?:some|any|every)one|he|she|him|her)\b",
    re.IGNORECASE,
)
_FRAGMENT = re.compile(r"(?:Not|Nor|Or|Of|What|Also|But|And|Than|Unless|Until)\b")
_WORD = re.compile(r"[A-Za-z][A-Za-z'-]*")
_CODE = re.compile(r"``[^`]*``|`[^`]*`|\[`[^`]*`\]")
_RUST_COMMENT = re.compile(r"^\s*(//[/!]?)\s?(.*)$")


class Rates(NamedTuple):
    """What was counted in some files."""

    words: int
    person_words: int
    fragments: int

    def per_thousand(self, count: int) -> float:
        return 1000 * count / self.words if self.words else 0.0


def python_comments(source: str) -> Iterator[str]:
    """The comments and docstrings of a Python file; consecutive lines of comment are one text."""
    block: list[str] = []
    last = None
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type != tokenize.COMMENT:
            continue
        text = token.string.lstrip("#:").strip()
        if last == token.start[0] - 1:
            block.append(text)
        else:
            yield " ".join(block)
            block = [text]
        last = token.start[0]
    yield " ".join(block)
    for node in ast.walk(ast.parse(source)):
        # Docstrings, and the texts that stand below attributes.
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield from paragraphs(node.value.value)


def rust_comments(source: str) -> Iterator[str]:
    """The comments of a Rust file; consecutive lines of one kind are one text, and an empty line ends it."""
    block: list[str] = []
    kind = None
    for line in source.splitlines():
        found = _RUST_COMMENT.match(line)
        if found and found[1] == kind and found[2].strip():
            block.append(found[2].strip())
            continue
        yield " ".join(block)
        kind, block = (found[1], [found[2].strip()]) if found else (None, [])
    yield " ".join(block)


def paragraphs(text: str) -> list[str]:
    return [" ".join(part.split()) for part in re.split(r"\n\s*\n", text)]


def rates_of(texts: Iterable[str]) -> Rates:
    words = person_words = fragments = 0
    for text in texts:
        plain = _CODE.sub("", text).strip()
        words += len(_WORD.findall(plain))
        person_words += len(_PERSON.findall(plain))
        fragments += bool(_FRAGMENT.match(plain))
    return Rates(words, person_words, fragments)


def measured() -> dict[str, Rates]:
    """The rates of the package and of its core."""
    python = sorted((REPOSITORY / "python").rglob("*.py*"))
    rust = sorted((REPOSITORY / "src").rglob("*.rs"))
    return {
        "Python": rates_of(
            text for path in python if path.suffix in {".py", ".pyi"} for text in python_comments(path.read_text())
        ),
        "Rust": rates_of(text for path in rust for text in rust_comments(path.read_text())),
    }


def main() -> None:
    for language, rates in measured().items():
        person_words, fragments = rates.per_thousand(rates.person_words), rates.per_thousand(rates.fragments)
        print(
            f"{language}: {person_words:.1f} person words (aim: below {MOST_PERSON_WORDS}) and {fragments:.1f} "
            f"fragments (aim: below {MOST_FRAGMENTS}) in 1,000 words of comment"
        )


if __name__ == "__main__":
    main()
