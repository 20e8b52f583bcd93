{#- Schemas are named STAGING, INTERMEDIATE, MARTS, SENSITIVE in every environment; environments are databases. -#}
{% macro generate_schema_name(custom_schema_name, node) -%}
    {{ (custom_schema_name or target.schema) | trim | upper }}
{%- endmacro %}
