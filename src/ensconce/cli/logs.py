# SPDX-License-Identifier: Apache-2.0
"""How services log: on standard error, one JSON object a line."""

import json
import logging
import sys
import time

__all__ = ["JsonFormatter", "log_json"]


class JsonFormatter(logging.Formatter):
    """Formats a record as one JSON object: time, level, event, and its `facts`."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        entry: dict[str, object] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created)),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
        }
        entry |= getattr(record, "facts", {})
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str)


def log_json() -> None:
    """Log what services say from now on, from INFO up."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler])
