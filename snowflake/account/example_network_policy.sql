-- Role: {{ account_role }}. An example, not run by a deploy: a wrong list locks the pipeline out; the connector then
-- repeats the refusal (403) until its time limit, which looks like a hang. Put your own addresses in, run it by hand.
create network rule if not exists {{ database }}.ops.pipeline_addresses
    type = ipv4
    mode = ingress
    value_list = ('192.0.2.10/32')
    comment = 'Where the pipeline runs. Owner: data engineering';

create network policy if not exists amplitude_pipeline_policy
    allowed_network_rule_list = ('{{ database }}.ops.pipeline_addresses')
    comment = 'Who may log in as the service user. Owner: data engineering';

-- On the user, not on the account: a policy of the user goes before one of the account.
alter user amplitude_pipeline set network_policy = amplitude_pipeline_policy;
