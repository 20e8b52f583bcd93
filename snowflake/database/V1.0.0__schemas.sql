-- RAW_SCHEMA may name a schema that already holds the landing table; it is then left as it is.
create schema if not exists {{ raw_schema }}
    comment = 'Landing: events as Amplitude sent them. Owner: data engineering; written by COPY and pipe only';

create schema if not exists silver
    comment = 'Typed events, minutes fresh. Owner: data engineering; written by its procedures only';

create schema if not exists staging
    comment = 'dbt staging. Owner: data engineering; written by dbt only';

create schema if not exists intermediate
    comment = 'dbt intermediate. Owner: data engineering; written by dbt only';

-- Managed access: only there may the owner of a schema give future grants without MANAGE GRANTS.
create schema if not exists marts with managed access
    comment = 'What reporters read, no personal data. Owner: data engineering; written by dbt only';

create schema if not exists sensitive with managed access
    comment = 'IP addresses, geography, e-mails. Owner: data protection; written by dbt and the SILVER procedures';
