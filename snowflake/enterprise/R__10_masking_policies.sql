-- Role: {{ deploy_role }} (owns OPS and the tables). Needs Enterprise Edition.
-- Readers of SILVER see no personal value unless AMPLITUDE_PII_READER is in their session; the deploy role inherits it,
-- so the tasks and procedures, which run with its rights, see everything.
create masking policy if not exists ops.mask_text as (value varchar) returns varchar -- noqa: LT01
-> case when is_role_in_session('AMPLITUDE_PII_READER') then value end
comment = 'Hides a text (IP address, place, e-mail). Owner: data protection; set by enterprise/';

create masking policy if not exists ops.mask_number as (value float) returns float -- noqa: LT01
-> case when is_role_in_session('AMPLITUDE_PII_READER') then value end
comment = 'Hides a coordinate. Owner: data protection; set by enterprise/';

alter masking policy ops.mask_text set body
-> case when is_role_in_session('AMPLITUDE_PII_READER') then value end;

alter masking policy ops.mask_number set body
-> case when is_role_in_session('AMPLITUDE_PII_READER') then value end;
