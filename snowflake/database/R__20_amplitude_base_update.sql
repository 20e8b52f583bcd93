{% from "macros/event_keys.jinja" import event_keys -%}
{% from "macros/utc_time.jinja" import utc_time -%}
{% from "macros/since_last_run.jinja" import new_stream, rows_of -%}
{% set landed_rows = rows_of(
    raw_schema ~ ".amplitude_events_stream",
    raw_schema ~ ".amplitude_events_raw_python",
    "json_data, loaded_at, source_file, source_row"
) %}
-- Landing rows to typed events and their properties. Both MERGEs stand in one transaction with the read of the stream:
-- a failure keeps the rows in it. No DDL inside, because DDL would commit (a fault of the first design).
create or replace procedure silver.amplitude_base_update()
copy grants
returns varchar
language sql
comment = 'Landing stream to BASE1 and BASE2. Owner: data engineering; called by AMPLITUDE_BASE_UPDATE_TASK'
execute as owner
as
$$
declare
    v_started timestamp_ntz(9) default sysdate();
    v_read number(38, 0) default 0;
    v_without_uuid number(38, 0) default 0;
    v_stored number(38, 0) default 0;
    v_malformed number(38, 0) default 0;
    v_problem varchar default '';
    v_whole boolean default false;
begin
    begin transaction;

    {{ new_stream("AMPLITUDE_BASE_UPDATE") | indent(4) }}

    select
        count(*),
        count_if(json_data:"uuid"::varchar is null)
    into :v_read, :v_without_uuid
    from {{ landed_rows | indent(4) }};

    -- A stored event never changes: the first landing row of a uuid wins. JSON null and SQL NULL are one (fault B14).
    merge into silver.amplitude_events_base1 as target
    using (
        with landed as (
            select
                json_data,
                loaded_at,
                source_file,
                source_row
            from {{ landed_rows | indent(12) }}
            where json_data:"uuid"::varchar is not null
            qualify row_number() over (
                partition by json_data:"uuid"::varchar
                order by loaded_at nulls first, source_file nulls first, source_row nulls first
            ) = 1
        ),

        texts as (
            select
                {%- for key, type in event_keys.items() %}
                {%- if type == "object" %}
                as_object(json_data:"{{ key }}") as "{{ key }}",
                coalesce(typeof(json_data:"{{ key }}") not in ('OBJECT', 'NULL_VALUE'), false) as "bad {{ key }}",
                {%- else %}
                json_data:"{{ key }}"::varchar as "{{ key }}",
                {%- endif %}
                {%- endfor %}
                loaded_at,
                source_file,
                source_row
            from landed
        ),

        typed as (
            select
                {%- for key, type in event_keys.items() %}
                {%- if type == "number" %}
                try_to_number(regexp_substr("{{ key }}", '^-?[0-9]+$'), 38, 0) as "{{ key }}",
                {%- elif type == "time" %}
                {{ utc_time('"' ~ key ~ '"') | indent(16) }} as "{{ key }}",
                {%- elif type == "boolean" %}
                try_to_boolean("{{ key }}") as "{{ key }}",
                {%- elif type == "float" %}
                try_to_double("{{ key }}") as "{{ key }}",
                {%- else %}
                "{{ key }}",
                {%- endif %}
                {%- if type in ("number", "time", "boolean", "float") %}
                "{{ key }}" as "text {{ key }}",
                {%- elif type == "object" %}
                "bad {{ key }}",
                {%- endif %}
                {%- endfor %}
                loaded_at,
                source_file,
                source_row
            from texts
        )

        select
            *,
            0
            {%- for key, type in event_keys.items() if type != "varchar" %}
            {%- if type == "object" %}
            + iff("bad {{ key }}", 1, 0)
            {%- else %}
            + iff("text {{ key }}" is not null and "{{ key }}" is null, 1, 0)
            {%- endif %}
            {%- endfor %} as malformed
        from typed
    ) as source
        on target."uuid" = source."uuid"
    when not matched then insert (
        {%- for key in event_keys %}
        "{{ key }}",
        {%- endfor %}
        malformed,
        loaded_at,
        source_file,
        source_row,
        processed_at
    ) values (
        {%- for key in event_keys %}
        source."{{ key }}",
        {%- endfor %}
        source.malformed,
        source.loaded_at,
        source.source_file,
        source.source_row,
        :v_started
    );
    v_stored := sqlrowcount;

    -- From the events that were just stored, so that a repeat with other properties adds none.
    merge into silver.amplitude_events_base2 as target
    using (
        select
            base1."uuid" as uuid,
            property.key,
            property.value::varchar as value,
            typeof(property.value) as value_type,
            base1.processed_at
        from silver.amplitude_events_base1 as base1,
            lateral flatten(input => base1."event_properties") as property
        where base1.processed_at = :v_started
    ) as source
        on target.uuid = source.uuid and target.key = source.key
    when not matched then insert (uuid, key, value, value_type, processed_at)
        values (source.uuid, source.key, source.value, source.value_type, source.processed_at);

    select coalesce(sum(malformed), 0)
    into :v_malformed
    from silver.amplitude_events_base1
    where processed_at = :v_started;

    insert into ops.silver_audit (
        procedure_name, started_at, finished_at, status, rows_read, rows_stored, malformed, without_uuid
    ) values (
        'AMPLITUDE_BASE_UPDATE', :v_started, sysdate(), 'ok', :v_read, :v_stored, :v_malformed, :v_without_uuid
    );

    commit;
    return 'BASE TABLES UPDATED: ' || v_stored || ' of ' || v_read || ' rows';
exception
    when other then
        -- Code and state only: the text of an error may quote a value of an event.
        v_problem := sqlcode || ' ' || sqlstate;
        rollback;
        insert into ops.silver_audit (procedure_name, started_at, finished_at, status, problem)
        values ('AMPLITUDE_BASE_UPDATE', :v_started, sysdate(), 'failed', :v_problem);
        raise;
end;
$$;
