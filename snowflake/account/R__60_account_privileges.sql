-- Role: {{ account_role }} (grants on the account and on the integration are its own).
grant usage on integration {{ database }}_s3 to role {{ deploy_role }};

-- The tasks of SILVER run with the rights of their owner, the deploy role.
grant execute task on account to role {{ deploy_role }};

-- The service user runs the routine deploys of database/; never {{ account_role }}.
grant role {{ deploy_role }} to user amplitude_pipeline;
