-- SILVER_TASKS is the one switch. Children first, the root last: what the function does.
{% if silver_tasks == "on" %}
select system$task_dependents_enable('{{ database }}.SILVER.AMPLITUDE_BASE_UPDATE_TASK');
-- Rows from before the streams trigger no task (and EXECUTE TASK asks WHEN as well): one run now.
call silver.amplitude_base_update();
call silver.amplitude_normalised_update();
{% else %}
alter task if exists silver.amplitude_base_update_task suspend;
{% endif %}
