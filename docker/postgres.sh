#!/bin/bash
# Starts Postgres with the password of .env (of the stand-ins under the profile `demo`), also when it was changed since.
set -euo pipefail
export LC_ALL=C

file=$(dirname "$0")/../.env
if [ -e "${PIPELINE_ROOT:-}/run/demo/settings.env" ]; then
  file=${PIPELINE_ROOT:-}/run/demo/settings.env
  export PGDATA=${PGDATA%/*}/demo
fi
# The same rule as in docker/entrypoint.py, which lets no other form of the line pass; no letter needs quoting in SQL.
password=${POSTGRES_PASSWORD:-$(sed -nE '1s/^\xef\xbb\xbf//; s/^POSTGRES_PASSWORD=([A-Za-z0-9._~-]{12,})\r?$/\1/p' "$file")}
if [[ ! $password =~ ^[A-Za-z0-9._~-]{12,}$ ]]; then
  echo "postgres: not started: POSTGRES_PASSWORD must stand in .env once, on a line of its own: 12 or more of A-Z a-z 0-9 . _ ~ - without quotes (openssl rand -hex 24)" >&2
  exit 78
fi
if [ -s "$PGDATA/PG_VERSION" ]; then
  gosu postgres postgres --single -D "$PGDATA" postgres >/dev/null <<<"alter role kestra password '$password'"
fi
export POSTGRES_PASSWORD=$password
unset LC_ALL
exec docker-entrypoint.sh postgres
