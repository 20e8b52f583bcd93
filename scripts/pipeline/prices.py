"""What Snowflake charges in credits, by its documented prices. What was billed: docs/architecture.md."""

from __future__ import annotations

# A measured day of a website with autocapture: 2,265,781 bytes of JSON, about 960 events.
BYTES_PER_EVENT = 2361
# https://docs.snowflake.com/en/release-notes/2025/other/2025-12-08-snowpipe-simplified-pricing: credits a GB, text by
# its uncompressed size; no charge a file
SNOWPIPE_CREDITS = 0.0037
# https://docs.snowflake.com/en/user-guide/warehouses-overview: credits an hour, by the second, at least 60 s a resume
WAREHOUSE_CREDITS = {"X-Small": 1, "Small": 2, "Medium": 4, "Large": 8, "X-Large": 16}
RESUME = 60  # seconds
SUSPEND = 60  # seconds of rest that are charged before the warehouse sleeps (snowflake/account/R__10)


def snowpipe(rows: int) -> float:
    """Of so many events loaded by the pipe."""
    return rows * BYTES_PER_EVENT / 1e9 * SNOWPIPE_CREDITS


def warehouse(seconds: float) -> float:
    """Of the X-Small warehouse that the DDL makes, at work for so long, without a pause that lets it sleep."""
    return (seconds + SUSPEND) / 3600 * WAREHOUSE_CREDITS["X-Small"] if seconds else 0.0
