-- SILVER_TASKS is the one switch. Children first, the root last: what the function does.
{% if silver_tasks == "on" %}
select system$task_dependents_enable('{{ database }}.SILVER.AMPLITUDE_BASE_UPDATE_TASK');
{% else %}
alter task if exists silver.amplitude_base_update_task suspend;
{% endif %}
