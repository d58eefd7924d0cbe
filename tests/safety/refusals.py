"""How hundreds of wrong inputs are tried: each must be refused in one message that names the file."""

import json
from collections import Counter

from sepsis_cql.common.errors import SepsisCQLError

from .mutations import DAMAGED_TEXT, damage_document, repeat_key, write_exponents

TRIED: Counter[str] = Counter()
MAY_BE_RIGHT = (
    "without ",
    "NoneType",
)  # a field with a default may be left out, an optional one may be nothing
CELL = "a cell"
LONG = 3000  # characters of settings, from which reading them takes a while


def wrongly_taken(kind, door, file, mutants, *, may_be_right=()):
    """Write each mutant into `file`, open it, and return what was neither refused nor allowed to be right."""
    found = []
    for name, content in mutants.items():
        TRIED[kind] += 1
        file.write_bytes(content)
        try:
            door()
        except SepsisCQLError as error:
            text = str(error)
            if file.name not in text or len(text) > 3000 or CELL in text:
                found.append((name, text[:300]))
        except Exception as error:
            found.append((name, f"{type(error).__name__}: {str(error)[:200]}"))
        else:
            if not any(word in name for word in may_be_right):
                found.append((name, "taken"))
    print(kind, file.name, *found, sep="\n  ")
    return found


def documents_of(text):
    """Mutants of a JSON document: damaged bytes, a repeated key, and wrong fields evenly over the whole of it."""
    fields = {name: json.dumps(value).encode() for name, value in damage_document(json.loads(text)).items()}
    broken = {name: damage(text.encode()) for name, damage in DAMAGED_TEXT.items()}
    huge = {name: value.encode() for name, value in write_exponents(json.loads(text)).items()}
    return fields | broken | huge | {"a key twice": repeat_key(text).encode()}


def assert_large(kinds, *, at_least):
    """Check that so many cases of these kinds were tried, where a whole file of tests ran."""
    if all(TRIED[kind] for kind in kinds.split()):
        print(dict(TRIED))
        assert sum(TRIED[kind] for kind in kinds.split()) >= at_least
