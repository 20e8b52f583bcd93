-- Said in full, because an account's defaults are not ours to rely on: nulls stay (the 55 keys are a contract),
-- a repeated key or broken UTF-8 is an error and not a silent repair.
create file format if not exists {{ raw_schema }}.amplitude_json
    type = json
    compression = gzip
    allow_duplicate = false
    strip_outer_array = false
    strip_null_values = false
    replace_invalid_characters = false
    comment = 'One event a line, gzip. Owner: data engineering; used by COPY and pipe';

-- A part as text, to find the lines that JSON reading refused.
create file format if not exists {{ raw_schema }}.amplitude_text_lines
    type = csv
    compression = gzip
    record_delimiter = '\n'
    field_delimiter = none
    field_optionally_enclosed_by = none
    escape = none
    escape_unenclosed_field = none
    comment = 'One line a row, unparsed. Owner: data engineering; used by the load check';

-- The trailing slash matters: without it {{ prefix }}-ledger would be inside the stage.
create stage if not exists {{ raw_schema }}.amplitude_events_stage
    url = 's3://{{ bucket }}/{{ prefix }}/'
    storage_integration = {{ database }}_s3
    file_format = (format_name = '{{ raw_schema }}.amplitude_json')
    comment = 'The parts prefix of the bucket. Owner: data engineering; written by the upload task';
