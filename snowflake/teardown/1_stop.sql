-- Role: {{ deploy_role }}. Run by `python -m scripts.maintain teardown`, never by a deploy.
-- First remove the S3 event notification by hand (docs/aws/README.md, step 6), or its messages go nowhere.
use role {{ deploy_role }};
alter task if exists {{ database }}.silver.amplitude_base_update_task suspend;
alter pipe if exists {{ database }}.{{ raw_schema }}.amplitude_events_pipe set pipe_execution_paused = true;
