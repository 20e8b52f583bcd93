-- The first design's columns first, in its order; then what a reader needs. No IP address and no geography here.
create table if not exists silver.amplitude_events (
    event_type varchar comment 'What happened',
    event_id number(38, 0) comment 'Counter of the sending client; not unique',
    event_time timestamp_ntz(9) comment 'When it happened, UTC, corrected by Amplitude for the clock of the device',
    session_id number(38, 0) comment 'Start of the session in ms since 1970; -1: in no session',
    page_counter number(38, 0) comment 'Pages seen so far in the session, as the client counts',
    page_title varchar comment 'Title of the page',
    url varchar comment 'Address of the page, with its query string',
    uuid varchar not null comment 'The event',
    amplitude_id number(38, 0) comment 'The person, as Amplitude knows them',
    device_id varchar comment 'The device',
    platform varchar comment 'Sending platform',
    library varchar comment 'Sending library and version',
    server_upload_time timestamp_ntz(9) comment 'When Amplitude received it, UTC',
    processed_at timestamp_ntz(9) not null comment 'Start of the run that stored it, UTC'
)
comment = 'One row per event. Owner: data engineering; written by AMPLITUDE_NORMALISED_UPDATE';

create table if not exists silver.amplitude_session (
    user_id number(38, 0) not null comment 'The person (amplitude_id)',
    session_id number(38, 0) not null comment 'Start of the session in ms since 1970; never -1',
    device_id varchar comment 'Device of the first event',
    session_start timestamp_ntz(9) comment 'Time of the first event, UTC',
    session_end timestamp_ntz(9) comment 'Time of the last event, UTC; may move months later',
    events number(38, 0) not null comment 'Events',
    pages number(38, 0) not null comment 'Page views'
)
comment = 'One row per person and session. Owner: data engineering; written by AMPLITUDE_NORMALISED_UPDATE';

create table if not exists silver.amplitude_users (
    email varchar comment 'Newest user_id of the person that is known; an e-mail on most sites',
    user_id number(38, 0) not null comment 'The person (amplitude_id)',
    first_seen timestamp_ntz(9) comment 'Time of the first event, UTC',
    last_seen timestamp_ntz(9) comment 'Time of the last event, UTC'
)
comment = 'One row per person. Owner: data engineering; written by AMPLITUDE_NORMALISED_UPDATE';

create table if not exists silver.amplitude_devices (
    user_id number(38, 0) not null comment 'The person (amplitude_id)',
    device_id varchar not null comment 'The device',
    device_type varchar comment 'As of the newest event',
    device_family varchar comment 'Operating system on websites, as of the newest event',
    os_name varchar comment 'Browser on websites, as of the newest event',
    os_version varchar comment 'Browser version on websites, as of the newest event',
    language varchar comment 'As of the newest event',
    first_seen timestamp_ntz(9) comment 'Time of the first event, UTC',
    last_seen timestamp_ntz(9) comment 'Time of the last event, UTC'
)
comment = 'One row per person and device. Owner: data engineering; written by AMPLITUDE_NORMALISED_UPDATE';

create table if not exists sensitive.amplitude_locations (
    user_id number(38, 0) not null comment 'The person (amplitude_id)',
    ip_address varchar not null comment 'Address that events came from; empty when unknown',
    country varchar comment 'As of the newest event from the address',
    region varchar comment 'As of the newest event from the address',
    city varchar comment 'As of the newest event from the address',
    location_lat float comment 'As of the newest event from the address',
    location_lng float comment 'As of the newest event from the address',
    first_seen timestamp_ntz(9) comment 'Time of the first event, UTC',
    last_seen timestamp_ntz(9) comment 'Time of the last event, UTC'
)
comment = 'One row per person and IP address. Owner: data protection; written by AMPLITUDE_NORMALISED_UPDATE';
