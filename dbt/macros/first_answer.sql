{#- Before the models: one answer with rows, read by one thread. The connector (4.8.1) makes its logger at the first Arrow
    result under a C++ lock while it may let go of Python's; two threads that come to it at once wait for ever. -#}
{% macro first_answer() -%}
    {%- if execute -%}
        {%- do run_query('select 1') -%}
    {%- endif -%}
{%- endmacro %}
