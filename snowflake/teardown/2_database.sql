-- Role: {{ deploy_role }}. The order in which objects hang on each other. Tables and schemas can be undropped within
-- the retention time; pipe, streams and tasks cannot.
use role {{ deploy_role }};
drop task if exists {{ database }}.silver.amplitude_normalised_update_task;
drop task if exists {{ database }}.silver.amplitude_base_update_task;
drop pipe if exists {{ database }}.{{ raw_schema }}.amplitude_events_pipe;
drop stream if exists {{ database }}.silver.amplitude_events_base1_stream;
drop stream if exists {{ database }}.{{ raw_schema }}.amplitude_events_stream;
drop database if exists {{ database }};
