"""Coverage-guided fuzzing of the prototxt reader and of all that follows from a text alone.

    python tests/fuzz/fuzz_text.py -max_total_time=600 CORPUS_FOLDER [MORE SEEDS ...]

Needs `pip install atheris`; see docs/robustness.md.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).parents[1]))

with atheris.instrument_imports(include=["bnfold"]):
    from fuzz.grammar import TYPES
    from fuzz.harness import limit_memory, limited, text

    from bnfold.caffe.text import NET


def words() -> Iterator[str]:
    """What the schema and the layer types are called, for the fuzzer to splice in."""
    waiting, seen = [NET], set()
    while waiting:
        message = waiting.pop()
        for field in message.fields:
            yield f"{field.name}{' {' if field.message_type else ':'}"
            if field.enum_type is not None:
                yield from field.enum_type.values_by_name
            if field.message_type is not None and field.message_type.name not in seen:
                seen.add(field.message_type.name)
                waiting.append(field.message_type)
    yield from (f'type: \\"{kind}\\"' for kind in TYPES)


if __name__ == "__main__":
    limit_memory()
    with tempfile.NamedTemporaryFile("w", suffix=".dict") as dictionary:
        dictionary.writelines(f'"{word}"\n' for word in sorted(set(words())))
        dictionary.flush()
        atheris.Setup([*sys.argv, f"-dict={dictionary.name}"], limited(text))
        atheris.Fuzz()
