-- The page columns that the first design made by a dynamic PIVOT, whose columns depended on the batch.
create or replace view silver.amplitude_events_base2_pages (
    uuid comment 'Event',
    page_counter comment '[Amplitude] Page Counter',
    page_domain comment '[Amplitude] Page Domain',
    page_location comment '[Amplitude] Page Location',
    page_path comment '[Amplitude] Page Path',
    page_title comment '[Amplitude] Page Title',
    page_url comment '[Amplitude] Page URL'
)
copy grants
comment = 'One row per event with a page property. Owner: data engineering; over AMPLITUDE_EVENTS_BASE2'
as
select
    uuid,
    max(iff(key = '[Amplitude] Page Counter', value, null)) as page_counter,
    max(iff(key = '[Amplitude] Page Domain', value, null)) as page_domain,
    max(iff(key = '[Amplitude] Page Location', value, null)) as page_location,
    max(iff(key = '[Amplitude] Page Path', value, null)) as page_path,
    max(iff(key = '[Amplitude] Page Title', value, null)) as page_title,
    max(iff(key = '[Amplitude] Page URL', value, null)) as page_url
from silver.amplitude_events_base2
where startswith(key, '[Amplitude] Page ')
group by uuid;
