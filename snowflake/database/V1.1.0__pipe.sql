-- The select form: only it can put the whole line and its origin side by side. Its text is fixed for good, names its
-- database because it runs in its owner's context; `python -m scripts.maintain replace-pipe` changes it.
-- LOADED_AT is the scan's start: CURRENT_TIMESTAMP in a pipe is evaluated when it compiles (known fault B13).
-- The pattern leaves the flat `.json` objects of the first design alone.
create pipe if not exists {{ database }}.{{ raw_schema }}.amplitude_events_pipe
    auto_ingest = true
    comment = 'S3 parts to the landing table. Owner: data engineering; fed by S3 notifications of the parts prefix'
as
copy into {{ database }}.{{ raw_schema }}.amplitude_events_raw_python (json_data, source_file, source_row, loaded_at)
from (
    select
        $1,
        metadata$filename,
        metadata$file_row_number,
        metadata$start_scan_time
    from @{{ database }}.{{ raw_schema }}.amplitude_events_stage
)
pattern = '.*[.]json[.]gz'
file_format = (format_name = '{{ database }}.{{ raw_schema }}.amplitude_json')
on_error = skip_file;
