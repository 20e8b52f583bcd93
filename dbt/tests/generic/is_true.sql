{#- An invariant: fails with every row for which the expression is not true (unknown is not true either). -#}
{% test is_true(model, expression) %}

select *
from {{ model }}
where not coalesce({{ expression }}, false)

{% endtest %}
