{#- A model's query_tag gets the execution's id at run time: written into the config, every run would look modified. -#}
{% macro set_query_tag() -%}
    {% set query_tag = config.get('query_tag') %}
    {% if not query_tag %}{{ return(none) }}{% endif %}
    {% set original = get_current_query_tag() %}
    {% set run = env_var('QUERY_TAG', 'dbt') | replace("'", '') %}
    {% do run_query("alter session set query_tag = '" ~ query_tag ~ " " ~ run ~ "'") %}
    {{ return(original) }}
{%- endmacro %}
