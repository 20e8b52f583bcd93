{#- Where an incremental model goes on, as a literal; none on a first build and on an empty table. A literal and not a
    sub-query: Snowflake prunes no micro-partitions by a sub-query, even by a constant one
    (docs.snowflake.com/en/user-guide/tables-clustering-micropartitions). -#}

{#- Of a model fed by staging: a day before its newest load, because a load may commit up to a day after the scan time
    that it stamped. TIMESTAMP_LTZ, so the literal carries its offset and holds under any session time zone. -#}
{% macro loaded_since() -%}
    {{ return(_newest(
        "dateadd('hour', -24, convert_timezone('UTC', max(loaded_at))::timestamp_ntz)",
        "to_timestamp_tz('{} +00:00', 'YYYY-MM-DD HH24:MI:SS.FF9 TZH:TZM')"
    )) }}
{%- endmacro %}

{#- Of a model below int_amplitude__events: the newest build that it has taken in. A model that takes rows from two
    models asks for each kind of rows: when it is built alone, one of them can be a build behind. -#}
{% macro processed_since(rows="true") -%}
    {{ return(_newest(
        "max(iff(" ~ rows ~ ", processed_at, null))", "to_timestamp_ntz('{}', 'YYYY-MM-DD HH24:MI:SS.FF9')"
    )) }}
{%- endmacro %}

{#- The oldest `value` (a date) among the rows of a relation that a model has not taken in yet, as text; none on a first
    build, and when one has no date (1970-01-01). What is older need not be read. -#}
{% macro oldest_since(processed_from, relation, value) -%}
    {%- if not processed_from -%}{{ return(none) }}{%- endif -%}
    {%- set query -%}
        select to_char(min({{ value }}), 'YYYY-MM-DD') from {{ relation }} where processed_at > {{ processed_from }}
    {%- endset -%}
    {%- set oldest = run_query(query).columns[0].values()[0] -%}
    {{ return(oldest if oldest and oldest > '1970-01-01' else none) }}
{%- endmacro %}

{#- What this build stamps its new rows with: its start (UTC), or, when the clock of this machine is behind that of the
    last build's, a moment after that. -#}
{% macro build_stamp(newest) -%}
    {%- set now = run_started_at.strftime('%Y-%m-%d %H:%M:%S.%f') -%}
    {%- set start = "to_timestamp_ntz('" ~ now ~ "', 'YYYY-MM-DD HH24:MI:SS.FF9')" -%}
    {{ return("greatest(" ~ start ~ ", dateadd('microsecond', 1, " ~ newest ~ "))" if newest else start) }}
{%- endmacro %}

{% macro _newest(expression, literal) -%}
    {%- if not (execute and is_incremental()) -%}{{ return(none) }}{%- endif -%}
    {%- set query -%}
        select to_char({{ expression }}, 'YYYY-MM-DD HH24:MI:SS.FF9') from {{ this }}
    {%- endset -%}
    {%- set newest = run_query(query).columns[0].values()[0] -%}
    {{ return(literal.format(newest) if newest else none) }}
{%- endmacro %}
