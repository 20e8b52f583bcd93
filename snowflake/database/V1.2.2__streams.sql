-- Append-only: a repair deletes nothing that SILVER has not read. Initial rows: an adopted landing table, or a stream
-- made again after it went stale, is read from its beginning; the procedures store each event once.
create stream if not exists {{ raw_schema }}.amplitude_events_stream
on table {{ raw_schema }}.amplitude_events_raw_python
append_only = true
show_initial_rows = true
comment = 'New landing rows. Owner: data engineering; read by AMPLITUDE_BASE_UPDATE only';

create stream if not exists silver.amplitude_events_base1_stream
on table silver.amplitude_events_base1
append_only = true
show_initial_rows = true
comment = 'New events. Owner: data engineering; read by AMPLITUDE_NORMALISED_UPDATE only';
