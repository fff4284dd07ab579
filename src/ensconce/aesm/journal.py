# SPDX-License-Identifier: Apache-2.0
"""What the service logs: events with their facts, and no more than a few for one cause.

Clients can't fill a disk: of one user's events of one kind ten a minute are written, and then how
many were not.
"""

import logging
import time
from collections.abc import Callable

from ensconce.aesm.codes import code_name, explain
from ensconce.aesm.endpoint import Peer
from ensconce.aesm.metrics import Metrics

__all__ = ["Journal"]

_logger = logging.getLogger(__name__)

_PER_MINUTE = 10
_WINDOW = 60.0
_MOST_KINDS = 1024
_FACTS = "facts"


class Journal:
    """Logs and counts what happens to connections."""

    def __init__(
        self, metrics: Metrics | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.metrics = metrics or Metrics()
        self._clock = clock
        self._seen: dict[tuple[object, ...], tuple[float, int]] = {}

    def event(self, event: str, **facts: object) -> None:
        """Log something that the service itself does."""
        _logger.info(event, extra={_FACTS: facts})

    def failed(self, event: str, **facts: object) -> None:
        """Log an exception that nobody foresaw."""
        _logger.exception(event, extra={_FACTS: facts})

    def answered(self, peer: Peer, request: str, code: int, reason: str, seconds: float) -> None:
        """Count an answer; log an error with its cause and mend."""
        self.metrics.answered(request, code, seconds)
        if not code:
            return
        cause, mend = explain(code)
        self._warn(
            "request_refused",
            peer,
            (request, code),
            request=request,
            code=code_name(code),
            reason=reason or cause,
            mend=mend,
        )

    def dropped(self, peer: Peer, reason: str, sentence: str) -> None:
        """Count and log a connection that gets no answer."""
        self.metrics.dropped(reason)
        self._warn("connection_dropped", peer, (reason,), cause=reason, reason=sentence)

    def _warn(self, event: str, peer: Peer, kind: tuple[object, ...], **facts: object) -> None:
        """Log a warning, unless there were many of its kind from its user."""
        key, now = (peer.uid, event, *kind), self._clock()
        if len(self._seen) >= _MOST_KINDS:
            self._seen.clear()
        since, count = self._seen.get(key, (now, 0))
        if now - since >= _WINDOW:
            if count > _PER_MINUTE:
                facts["not_logged"] = count - _PER_MINUTE
            since, count = now, 0
        self._seen[key] = (since, count + 1)
        if count < _PER_MINUTE:
            who = {"uid": peer.uid, "pid": peer.pid}
            _logger.warning(event, extra={_FACTS: facts | who})
