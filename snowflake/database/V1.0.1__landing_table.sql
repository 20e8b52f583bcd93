-- Permanent, and never replaced: its COPY memory, history and stream hang on it.
create table if not exists {{ raw_schema }}.amplitude_events_raw_python (
    json_data variant
);

-- Apart from CREATE, so that a landing table of the first design (JSON_DATA only) is adopted with its rows.
alter table {{ raw_schema }}.amplitude_events_raw_python add column if not exists source_file varchar;
alter table {{ raw_schema }}.amplitude_events_raw_python add column if not exists source_row number(38, 0);
alter table {{ raw_schema }}.amplitude_events_raw_python add column if not exists loaded_at timestamp_ltz(9);

alter table {{ raw_schema }}.amplitude_events_raw_python set data_retention_time_in_days = 1;

comment on table {{ raw_schema }}.amplitude_events_raw_python
is 'One row per line of a part: a log, so a uuid may repeat. Owner: data engineering; written by COPY and pipe';

alter table {{ raw_schema }}.amplitude_events_raw_python set change_tracking = true;

-- A stream that nobody reads goes stale after 90 days, not 14. (noqa: the linter does not know the option.)
alter table {{ raw_schema }}.amplitude_events_raw_python set
    max_data_extension_time_in_days = 90; -- noqa: PRS

comment on column {{ raw_schema }}.amplitude_events_raw_python.json_data
is 'The event, all 55 keys, as Amplitude exported it';
comment on column {{ raw_schema }}.amplitude_events_raw_python.source_file
is 'Object key from the bucket root (METADATA$FILENAME); null on rows of the first design';
comment on column {{ raw_schema }}.amplitude_events_raw_python.source_row
is 'Line of the part, from 1 (METADATA$FILE_ROW_NUMBER); null on rows of the first design';
comment on column {{ raw_schema }}.amplitude_events_raw_python.loaded_at
is 'When the scan of the part began (METADATA$START_SCAN_TIME); null counts as old';
