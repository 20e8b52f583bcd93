{#- After a run: the values behind a warning of a test that has `meta: {show: true}`, ten at most. Only for tests whose
    rows hold no personal data. -#}
{% macro tell_drift(results) -%}
    {%- for result in results if result.status == 'warn' and result.node.config.meta.get('show') -%}
        {%- for row in run_query(result.node.compiled_code ~ ' limit 10') -%}
            {%- do log(result.node.name ~ ': ' ~ (row.values() | join(', ')), info=true) -%}
        {%- endfor -%}
    {%- endfor -%}
{%- endmacro %}
