"""Whether a web address answers, decided within seconds, before a download that might hang."""

import threading
import urllib.error
import urllib.request

TIMEOUT = 5.0
"""Seconds to wait for a connection, and for the first answer."""


def unreachable(url: str, *, timeout: float = TIMEOUT) -> str | None:
    """Why the server of `url` gives no answer, found within 2 `timeout` seconds; None if it does.

    Any answer counts, an HTTP error too: the download itself will say what is wrong with the file.
    Proxies of the environment are used.
    """
    reasons: list[str] = ["no answer"]
    # A thread of its own, since looking up a name may block longer than any timeout of ours.
    probe = threading.Thread(target=_probe, args=(url, timeout, reasons), daemon=True)
    probe.start()
    probe.join(2 * timeout)
    return reasons[-1] if reasons else None


def _probe(url: str, timeout: float, reasons: list[str]) -> None:
    """Empties `reasons` when the server answers, else adds why not."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=timeout):
            reasons.clear()
    except urllib.error.HTTPError as answer:
        answer.close()
        reasons.clear()
    except (OSError, ValueError) as error:
        reasons.append(str(getattr(error, "reason", error)))
