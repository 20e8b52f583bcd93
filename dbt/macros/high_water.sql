{#- The largest value of a time column of this model so far, minus some hours, as a literal; none on a first build.
    A literal and not a sub-query: Snowflake prunes no micro-partitions by a sub-query, even one that is constant
    (docs.snowflake.com/en/user-guide/tables-clustering-micropartitions). -#}
{% macro high_water(column, hours_back=0) -%}
    {%- if not (execute and is_incremental()) -%}{{ return(none) }}{%- endif -%}
    {%- set query -%}
        select to_char(
            dateadd('hour', -{{ hours_back }}, convert_timezone('UTC', max({{ column }}))::timestamp_ntz),
            'YYYY-MM-DD HH24:MI:SS.FF9'
        ) from {{ this }}
    {%- endset -%}
    {{ return(run_query(query).columns[0].values()[0]) }}
{%- endmacro %}
