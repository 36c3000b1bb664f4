"""Every way to write a header that only the gateway may set, from the table in shared/src/headers.rs."""

import re
from pathlib import Path

TABLE = (Path(__file__).resolve().parent.parent.parent / "shared/src/headers.rs").read_text()
CONSTANTS = dict(re.findall(r'pub const (\w+): &str = "([^"]+)";', TABLE))
# What a field name may have besides letters, digits and "-" (RFC 9110, section 5.6.2).
MARKS = "!#$%&'*+.^_`|~"


def listed(name):
    """The members of an array of the table, each a constant or a text."""
    members = re.search(rf"pub const {name}: \[&str; \d+\] = \[(.*?)\];", TABLE, re.S)[1]
    return [CONSTANTS.get(member, member.strip('"')) for member in re.findall(r'"[^"]+"|\w+', members)]


PRIVILEGED = listed("PRIVILEGED")
PREFIXES = listed("PRIVILEGED_PREFIXES")
IDENTITY = [name for name in PRIVILEGED if name != CONSTANTS["SHARED_SECRET"]]
# The families are the gateway's whole: also names that it does not set.
FAMILIES = [f"{prefix}{rest}" for prefix in PREFIXES for rest in ["admin", "id-2"] if f"{prefix}{rest}" not in PRIVILEGED]
assert len(PRIVILEGED) > 7 and len(PREFIXES) > 1, "the header table does not read as this script expects"


def fold(name):
    """The name as CGI, WSGI and PHP know it."""
    return re.sub(r"[^0-9a-z]", "-", name.lower())


def is_privileged(name):
    return fold(name) in PRIVILEGED or any(fold(name).startswith(prefix) for prefix in PREFIXES)


def cased(name):
    """The canonical name in every case."""
    return [name, name.title(), name.upper(), name.swapcase().replace("X", "x")]


def marked(name, marks=MARKS):
    """The name with every mark in the place of all of its hyphens, and of the first or the last only."""
    for mark in marks:
        yield from {name.replace("-", mark), name.replace("-", mark, 1), mark.join(name.rsplit("-", 1)), name.replace("-", mark).title()}
