#!/bin/bash
# What the official image does with POSTGRES_*, as far as docker/postgres.sh relies on it.
set -euo pipefail
install -d -o postgres -m 700 "$PGDATA"
install -d -o postgres /var/run/postgresql
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  install -o postgres -m 600 /dev/null /run/first
  echo "$POSTGRES_PASSWORD" >/run/first
  gosu postgres initdb -D "$PGDATA" -U "$POSTGRES_USER" --auth-host=scram-sha-256 --auth-local=trust --pwfile=/run/first >/dev/null
  echo "host all all all scram-sha-256" >>"$PGDATA/pg_hba.conf"
  gosu postgres postgres --single -D "$PGDATA" postgres >/dev/null <<<"create database $POSTGRES_DB"
fi
exec gosu postgres "$@" -c "listen_addresses=*"
