"""Credentials inside URLs: found, refused where they would be stored, and masked wherever text is shown or written."""

import re

MASK = "***"

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/{1,3}[^\s'\"<>`]+")
"""A URL, also one that went through a path, which leaves one slash of two."""
_USER = re.compile(r"(?<=:)(/{1,3})(?:[^/?#\s:]*:(?!\d+(?:/|$))[^?#\s]*|[^/?#\s]*)@")
"""User and password; a slash in the password should have been escaped, and often is not."""
_PARAMETER = re.compile(r"(?<=[?&;])([^=&#;\s]+)=[^&#;\s]*?(?=[:,.)]*(?:[&#;\s]|$))")
_TOKEN = re.compile(
    r"\b(hf_[A-Za-z0-9]{16,}|gh[opsu]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|AKIA[A-Z0-9]{16}|ya29\.[\w-]{20,}"
    r"|eyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]+)"
)
"""Tokens that are recognised by their form: Hugging Face, GitHub, AWS and Google keys, JSON web tokens."""


def mask(text: str) -> str:
    """The text with the credentials of its URLs replaced: user and password, the values of a query, known tokens."""
    if ":/" in text:
        text = _URL.sub(lambda url: _masked_url(url[0]), text)
    return _TOKEN.sub(MASK, text)


def has_secret(url: str) -> bool:
    """Whether a URL contains what `mask` would hide."""
    return mask(url) != url


def _masked_url(url: str) -> str:
    url = _USER.sub(rf"\1{MASK}@", url, count=1)
    return _PARAMETER.sub(rf"\1={MASK}", url)
