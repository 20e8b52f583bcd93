-- Role: USERADMIN (CREATE USER on the account).
-- TYPE = SERVICE has no password. A person adds the key once (docs/aws/README.md, key rotation):
--   alter user amplitude_pipeline set rsa_public_key = '<public key without its BEGIN and END lines>';
use role useradmin;

-- Secondary roles off: each task has the rights of its own role and no other.
create user if not exists amplitude_pipeline
    type = service
    default_role = amplitude_loader
    default_warehouse = {{ warehouse }}
    default_secondary_roles = ()
    comment = 'Runs the Amplitude pipeline with a key pair. Owner: data engineering';

-- The account's default zone is America/Los_Angeles.
alter user amplitude_pipeline set timezone = 'UTC';

grant role amplitude_loader to user amplitude_pipeline;
grant role amplitude_transformer to user amplitude_pipeline;
