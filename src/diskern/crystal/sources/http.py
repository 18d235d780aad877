"""JSON over HTTP for the sources: patient, resumable, and wary of what comes back."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from diskern._version import __version__
from diskern.errors import DiskernError

LARGEST = 200_000_000
"""Bytes of one answer."""
TEMPORARY = frozenset({408, 425, 429, 500, 502, 503, 504})
"""HTTP states that may pass."""


@dataclass(frozen=True)
class Client:
    """Fetches JSON.

    Attributes
    ----------
    cache : folder in which every answer is kept, so that a fetch that was cut off goes on where
        it was and a repeated one asks nothing; None keeps nothing.
    headers : sent with each request; never stored.
    retries : further attempts after a failure that may pass.
    pause : s before the first of them, doubled each time.
    timeout : s without an answer.
    """

    cache: Path | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    retries: int = 4
    pause: float = 1.0
    timeout: float = 60.0

    def get(self, url: str) -> dict[str, Any]:
        """The JSON object at an address.

        Raises
        ------
        DiskernError
            For an address that is not http(s), a refusal, no answer after all attempts, or an
            answer that is no JSON object.
        """
        if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).netloc:
            raise DiskernError(f"{url[:200]!r} is no http(s) address")
        kept = None if self.cache is None else self.cache / f"{_digest(url)}.json"
        if kept is not None and kept.exists():
            return _object(kept.read_bytes(), url)
        body = self._fetch(url)
        found = _object(body, url)
        if kept is not None:
            kept.parent.mkdir(parents=True, exist_ok=True)
            draft = kept.with_suffix(".part")
            draft.write_bytes(body)
            draft.replace(kept)
        return found

    def _fetch(self, url: str) -> bytes:
        words = {"User-Agent": f"diskern/{__version__}", "Accept": "application/json"}
        request = Request(url, headers={**words, **self.headers})
        problem = ""
        for attempt in range(self.retries + 1):
            wait = self.pause * 2**attempt
            try:
                with urlopen(request, timeout=self.timeout) as answer:
                    body = answer.read(LARGEST + 1)
                if len(body) > LARGEST:
                    raise DiskernError(f"{url[:200]} answers with over {LARGEST / 1e6:.0f} MB")
                return bytes(body)
            except HTTPError as error:
                problem = f"HTTP {error.code} {error.reason}"
                if error.code not in TEMPORARY:
                    raise DiskernError(
                        f"{_site(url)} refuses: {problem}{_detail(error)}"
                    ) from error
                wait = _stated_wait(error, wait)
            except (URLError, HTTPException, TimeoutError, ConnectionError) as error:
                problem = str(getattr(error, "reason", error)) or type(error).__name__
            if attempt < self.retries:
                time.sleep(min(wait, 60.0))
        raise DiskernError(f"{_site(url)} does not answer ({problem}); try again later")


def _object(body: bytes, url: str) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except ValueError as error:
        raise DiskernError(f"{_site(url)} answers with something that is no JSON") from error
    if not isinstance(found, dict):
        raise DiskernError(f"{_site(url)} answers with a JSON {type(found).__name__}, no object")
    return found


def _stated_wait(error: HTTPError, default: float) -> float:
    stated = error.headers.get("Retry-After", "") if error.headers else ""
    return float(stated) if stated.isdigit() else default


def _detail(error: HTTPError) -> str:
    """What the server says about a refusal, in a few words."""
    try:
        found = json.loads(error.read(4096))
    except (ValueError, OSError):
        return ""
    words = found.get("errors") or found.get("detail") if isinstance(found, dict) else None
    if isinstance(words, list) and words and isinstance(words[0], dict):
        words = words[0].get("detail") or words[0].get("title")
    return f" ({' '.join(words.split())[:200]})" if isinstance(words, str) else ""


def _site(url: str) -> str:
    return urlsplit(url).netloc


def _digest(url: str) -> str:
    return hashlib.sha256(url.encode()).hexdigest()[:32]
