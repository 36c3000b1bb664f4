"""Reads the secrets shared with the gateway, by the rules that the gateway has for them."""

import hashlib
import logging
import re
from pathlib import Path

log = logging.getLogger(__name__)


def accepted_digests(environment):
    """SHA-256 of each secret that is accepted now; raises ValueError when one is set and unusable."""
    current, previous = (_secret(environment, name) for name in ("SHARED_SECRET", "SHARED_SECRET_PREVIOUS"))
    if current is None:  # the previous one is about to be retired: it is not accepted alone
        log.error("SHARED_SECRET is not set: every guarded request will be answered with 500")
        return []
    return [hashlib.sha256(secret.encode()).digest() for secret in (current, previous) if secret is not None]


def _secret(environment, name):
    text, file = environment.get(name), environment.get(f"{name}_FILE")
    if text and file:
        raise ValueError(f"{name} and {name}_FILE are both set: unset one of them")
    if file:
        try:
            text = Path(file).read_bytes().decode()
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"{name}_FILE names {file!r}, which cannot be read: {type(error).__name__}") from None
        text = re.sub(r"\r?\n\Z", "", text)
        if not text:
            raise ValueError(f"{name}_FILE names {file!r}, which is empty")
    if not text:
        return None
    letters = "".join(re.findall("[a-z0-9]", text.lower()))
    rest = letters
    for word in ("changeme", "changethis", "replaceme", "replacethis", "yoursecrethere", "yoursharedsecret", "yoursecret",
                 "sharedsecret", "mysecret", "supersecret", "secret", "password", "example", "placeholder", "default",
                 "testing", "todo"):  # fmt: skip
        rest = rest.replace(word, "")
    if len(set(text)) == 1 or (rest != letters and len(rest) < 8):
        raise ValueError(f"{name} is a placeholder that anyone would guess")
    if not re.fullmatch("[!-~]{16,512}", text):
        raise ValueError(f"{name} is not usable: 16 to 512 visible ASCII characters are, without white space")
    return text
