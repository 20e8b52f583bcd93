-- Role: {{ account_role }}. What the account folder made. Roles and user are shared by all databases of the account:
-- run this last, with the last one.
use role {{ account_role }};
drop storage integration if exists {{ database }}_s3;
drop warehouse if exists {{ warehouse }};
drop resource monitor if exists {{ warehouse }}_monitor;
drop user if exists amplitude_pipeline;
drop role if exists amplitude_pii_reader;
drop role if exists amplitude_reporter;
drop role if exists amplitude_transformer;
drop role if exists amplitude_loader;
revoke execute task on account from role {{ deploy_role }};
