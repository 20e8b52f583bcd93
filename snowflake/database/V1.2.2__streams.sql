-- Append-only: a repair deletes nothing that SILVER has not read. No SHOW_INITIAL_ROWS: the first read would return the
-- rows of the moment of creation only, and the offset moves to the start of the reading transaction: no page promises
-- what came between. The procedures read the table beside a new stream instead, and store each event once.
create stream if not exists {{ raw_schema }}.amplitude_events_stream
on table {{ raw_schema }}.amplitude_events_raw_python
append_only = true
comment = 'New landing rows. Owner: data engineering; read by AMPLITUDE_BASE_UPDATE only';

create stream if not exists silver.amplitude_events_base1_stream
on table silver.amplitude_events_base1
append_only = true
comment = 'New events. Owner: data engineering; read by AMPLITUDE_NORMALISED_UPDATE only';
