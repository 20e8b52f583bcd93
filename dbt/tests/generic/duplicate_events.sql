{#- Every event that has the event_id of the event before it in its session, at another time: a server-side event whose
    counter restarts, or one click recorded twice. Some are normal; many at once are news. -#}
{% test duplicate_events(model) %}

with

compared as (

    select
        session_key,
        event_id,
        event_time,
        lag(event_time) over (partition by session_key order by event_time, event_id, uuid) as previous_event_time,
        lag(event_id) over (partition by session_key order by event_time, event_id, uuid) as previous_event_id
    from {{ model }}
    where session_key is not null

)

select
    session_key,
    event_id,
    event_time
from compared
where
    event_id = previous_event_id
    and event_time != previous_event_time

{% endtest %}
