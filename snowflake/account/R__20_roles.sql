-- Role: USERADMIN (CREATE ROLE on the account). Functional roles: what a person or a task is.
-- Privileges come from the access roles of the database (database/A__10_grants.sql), never directly.
use role useradmin;

create role if not exists amplitude_loader
    comment = 'Loads parts from S3 into the landing table. Owner: data engineering; used by the load task';

create role if not exists amplitude_transformer
    comment = 'Builds the dbt models. Owner: data engineering; used by the dbt tasks';

create role if not exists amplitude_reporter
    comment = 'Reads the marts, which hold no personal data. Owner: data engineering; granted to analysts';

create role if not exists amplitude_pii_reader
    comment = 'Reads SENSITIVE, SILVER and the marts. Owner: data protection; granted by name and for a reason';

-- Under the deploy role, so that nobody needs ACCOUNTADMIN to use or repair what these roles own.
grant role amplitude_loader to role {{ deploy_role }};
grant role amplitude_transformer to role {{ deploy_role }};
grant role amplitude_reporter to role {{ deploy_role }};
grant role amplitude_pii_reader to role {{ deploy_role }};
