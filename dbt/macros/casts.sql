{#- Casts of JSON values that never raise: what does not fit becomes NULL (JSON null is NULL as well). -#}

{#- A whole number, exact to 38 digits. TRY_TO_NUMBER alone would round '1.5' to 2. -#}
{% macro whole_number(value) -%}
    try_to_number(regexp_substr({{ value }}::varchar, '^-?[0-9]+$'), 38, 0)
{%- endmacro %}

{#- A time as TIMESTAMP_NTZ in UTC under any session time zone. The Export API writes `2026-09-24 03:03:07.203000`;
    connectors and old exports write RFC 3339, with T, Z or an offset, with or without a fraction. Fixed formats:
    the automatic one would take a text of digits for an epoch. -#}
{% macro utc_timestamp(value) -%}
    {%- set text = value ~ '::varchar' -%}
    {%- set zoned = "replace(replace(" ~ text ~ ", 'T', ' '), 'Z', '+00:00')" -%}
    coalesce(
        try_to_timestamp_ntz({{ text }}, 'YYYY-MM-DD HH24:MI:SS.FF9'),
        try_to_timestamp_ntz({{ zoned }}, 'YYYY-MM-DD HH24:MI:SS'),
        try_to_timestamp_ntz({{ zoned }}, 'YYYY-MM-DD HH24:MI:SS.FF9'),
        convert_timezone('UTC', try_to_timestamp_tz({{ zoned }}, 'YYYY-MM-DD HH24:MI:SS.FF9TZH:TZM'))::timestamp_ntz,
        convert_timezone('UTC', try_to_timestamp_tz({{ zoned }}, 'YYYY-MM-DD HH24:MI:SSTZH:TZM'))::timestamp_ntz
    )
{%- endmacro %}
