#!/bin/bash
# Starts Postgres with the password of .env (of the stand-ins under the profile `demo`), also when it was changed since.
set -euo pipefail

demo=${PIPELINE_ROOT:-}/run/demo/settings.json
if [ -e "$demo" ]; then
  password=$(sed -nE 's/.*"POSTGRES_PASSWORD": "([^"]*)".*/\1/p' "$demo")
else
  password=$(sed -nE "s/^[[:space:]]*(export[[:space:]]+)?POSTGRES_PASSWORD[[:space:]]*=[[:space:]]*['\"]?([^'\"#[:space:]]*).*/\2/p" \
    "$(dirname "$0")/../.env" | tail -n 1)
fi
# The same rule as in docker/entrypoint.py; no letter of it needs quoting in SQL.
if [[ ! $password =~ ^[A-Za-z0-9._~-]{12,}$ ]]; then
  echo "postgres: not started: POSTGRES_PASSWORD in .env is missing or not 12 or more of A-Z a-z 0-9 . _ ~ - (openssl rand -hex 24)" >&2
  exit 78
fi
if [ -s "$PGDATA/PG_VERSION" ]; then
  gosu postgres postgres --single -D "$PGDATA" postgres >/dev/null <<<"alter role kestra password '$password'"
fi
export POSTGRES_PASSWORD=$password
exec docker-entrypoint.sh postgres
