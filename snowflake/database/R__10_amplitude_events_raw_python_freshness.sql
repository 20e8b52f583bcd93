{% from "macros/utc_time.jinja" import utc_time -%}
-- A VARIANT column cannot be a loaded_at_field of dbt, so freshness is read here.
-- Eight days of load time keep the scan small; a source that is older than that is stale by any measure.
create or replace view {{ raw_schema }}.amplitude_events_raw_python_freshness (
    server_upload_time_ts comment 'When Amplitude received the event, UTC',
    loaded_at_ts comment 'When the part was loaded, UTC'
)
copy grants
comment = 'Recency of the landing table. Owner: data engineering; read by dbt source freshness'
as
select
    {{ utc_time('json_data:"server_upload_time"::varchar') }} as server_upload_time_ts,
    convert_timezone('UTC', loaded_at)::timestamp_ntz as loaded_at_ts
from {{ raw_schema }}.amplitude_events_raw_python
where loaded_at >= dateadd('day', -8, current_timestamp());
