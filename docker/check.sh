#!/bin/bash
# Proves docker-compose.yml with a Docker engine and without a registry: our image on a locally made base image.
#   docker/check.sh      run by hand, as root (debootstrap), in a clean checkout; writes docs/compose-check.md
# Needs: docker with compose, debootstrap, a JDK; PYTHON (default .venv/bin/python: make .venv/local.stamp).
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-.venv/bin/python}
CHECKOUT=$PWD
WORK=$(mktemp -d)
RESULTS=$WORK/results
export COMPOSE_PROJECT_NAME=amplitude-check DOCKER_BUILDKIT=${DOCKER_BUILDKIT:-0} COMPOSE_BAKE=false
export SECRET='P@$$w0rd $HOME "q" `id` č # x' KEY_PASSWORD=open-sesame

say() { echo "== $*" >&2; }

# check NAME COMMAND...: one line of the report; what the command says goes beside it when it fails.
check() {
  local name=$1 said
  shift
  if said=$("$@" 2>&1); then
    say "ok    $name"
    echo "| $name | ok |" >>"$RESULTS"
  else
    say "FAIL  $name: $said"
    echo "| $name | **failed**: $(tail -n 3 <<<"$said" | tr '\n|' '  ') |" >>"$RESULTS"
  fi
}

compose() { docker compose --project-directory "$WORK/checkout" -f "$WORK/checkout/docker-compose.yml" -f "$WORK/checkout/docker/check/compose.yml" --env-file "$WORK/checkout/.env" "$@"; }
demo() { compose --profile demo "$@"; }
inside() { compose exec -T "$@"; }
# What a task inherits: the environment of the server's process, not of a new one in the container.
server_environment() { inside kestra sh -c 'cat /proc/$(pgrep -f check/server.py | head -n 1)/environ'; }
value() { server_environment | tr '\0' '\n' | sed -n "s/^$1=//p"; }

prepare() {
  say "a checkout of $(git rev-parse --short HEAD), as a team would have it"
  git clone -q . "$WORK/checkout" 2>/dev/null
  cp -r local/kestra/target "$WORK/checkout/local/kestra/"
  chmod -R a+rwX "$WORK/checkout/local/kestra/target"
  openssl genrsa 2048 2>/dev/null |
    openssl pkcs8 -topk8 -v2 aes256 -passout "pass:$KEY_PASSWORD" -out "$WORK/checkout/key.p8"
  chmod a+r "$WORK/checkout/key.p8"
  touch "$WORK/checkout/.env"
}

base_images() {
  if ! docker image inspect amplitude-check-debian >/dev/null 2>&1; then
    say "a base image by debootstrap (some minutes, once)"
    debootstrap --variant=minbase --include=python3,python3-pip,curl,ca-certificates,procps bookworm "$WORK/debian" >"$WORK/debootstrap.log"
    tar -C "$WORK/debian" -c . | docker import - amplitude-check-debian >/dev/null
  fi
  mkdir "$WORK/base"
  cp /etc/ssl/certs/ca-certificates.crt docker/check/*ockerfile docker/check/postgres-entrypoint.sh "$WORK/base"
  chmod +x "$WORK/base/postgres-entrypoint.sh"
  for name in kestra postgres; do
    docker build -q -t "amplitude-check-$name" -f "$WORK/base/$name.Dockerfile" "$WORK/base" >/dev/null 2>&1
  done
}

filled_in() {
  cat >"$WORK/checkout/.env" <<EOF
KESTRA_ADMIN_USER=admin@example.com
KESTRA_ADMIN_PASSWORD='Admin password 1'
KESTRA_ENCRYPTION_KEY=$(openssl rand -base64 32)
POSTGRES_PASSWORD=$1
AMP_API_KEY=an-api-key-of-check
AMP_SECRET_KEY='$SECRET'
AMP_PROJECT_ID=100001
AWS_BUCKET_NAME=bucket
SNOWFLAKE_ACCOUNT=org-account
SNOWFLAKE_USER=PIPELINE
SNOWFLAKE_WAREHOUSE=AMPLITUDE_WH
SNOWFLAKE_DATABASE=AMPLITUDE
SNOWFLAKE_PRIVATE_KEY_FILE=key.p8
SNOWFLAKE_PRIVATE_KEY_FILE_PWD=$KEY_PASSWORD
EOF
}

config_is_quiet() {
  local said
  for file in "$WORK/checkout/.env.example" /dev/null; do
    for profile in "" demo cluster; do
      said=$(COMPOSE_PROFILES=$profile docker compose -f "$WORK/checkout/docker-compose.yml" --env-file "$file" config -q 2>&1)
      [ -z "$said" ] || { echo "$said"; return 1; }
    done
  done
}

refuses_an_empty_env() {
  : >"$WORK/checkout/.env"
  local said
  ! compose up --detach postgres kestra >/dev/null 2>&1 || { echo "it started"; return 1; }
  said=$(compose logs --no-log-prefix settings 2>&1)
  [ "$(docker inspect "$(compose ps -aq settings)" --format '{{.State.ExitCode}}')" = 78 ] || { echo "$said"; return 1; }
  [ -z "$(compose ps -q postgres kestra)" ] || { echo "something runs"; return 1; }
  for name in KESTRA_ADMIN_PASSWORD POSTGRES_PASSWORD AMP_API_KEY AWS_BUCKET_NAME SNOWFLAKE_ACCOUNT SNOWFLAKE_PRIVATE_KEY_FILE; do
    grep -q "$name is missing" <<<"$said" || { echo "$name is not named: $said"; return 1; }
  done
}

# What one-shot service $1 ends with; what it said when that is not 0.
ends_well() {
  local code
  code=$(docker wait "$(demo ps -aq "$1")")
  [ "$code" = 0 ] || { echo "$1 ended with $code"; demo logs --no-log-prefix --tail 40 "$1" kestra; return 1; }
}
up() { compose up --detach && ends_well settings && ends_well loader; }

secrets_arrive() {
  [ "$(value SECRET_AMP_SECRET_KEY | base64 -d)" = "$SECRET" ] || { echo "AMP_SECRET_KEY is another one"; return 1; }
  [ "$(value AMP_PROJECT_ID) $(value ENV_AMP_PROJECT_ID)" = "100001 100001" ] || { echo "AMP_PROJECT_ID"; return 1; }
  [ "$(value SECRET_AWS_ACCESS_KEY | base64 -d)" = unset ] || { echo "an optional secret is not unset"; return 1; }
  ! server_environment | tr '\0' '\n' | grep -E '^(AMP_SECRET_KEY|KESTRA_ADMIN_PASSWORD|POSTGRES_PASSWORD)='
}

# Neither a secret nor its base64 in what many can read.
no_secret_in() {
  printf '%s\n' "$SECRET" "$(base64 -w0 < <(printf %s "$SECRET"))" w0rd an-api-key-of-check "Admin password 1" \
    "$KEY_PASSWORD" "$POSTGRES" >"$WORK/secrets"
  "$@" >"$WORK/said" 2>&1 || { tail -n 3 "$WORK/said"; return 1; }
  [ -s "$WORK/said" ] || { echo "there is nothing to look at"; return 1; }
  ! grep -aqFf "$WORK/secrets" "$WORK/said" || { echo "found one"; return 1; }
}
all_containers() { docker inspect $(compose ps -aq); }
process_lists() { for id in $(compose ps -q); do docker top "$id" -eo pid,args; done; }
image_layers() { docker history --no-trunc amplitude-check-pipeline; docker save amplitude-check-pipeline; }
image_holds_no_code_of_ours() { ! docker run --rm --entrypoint find amplitude-check-pipeline / -xdev \( -name 'amplitude_daily*' -o -name entrypoint.py -o -name .env -o -path '*/scripts/pipeline' \) -not -path '/proc/*' | grep .; }

runs_with_few_rights() {
  inside kestra sh -ec '
    [ "$(id -un)" = kestra ] && [ ! -e /var/run/docker.sock ]
    grep -q "^NoNewPrivs:.1" /proc/1/status && grep -q "^CapEff:.0*$" /proc/1/status && grep -q "^CapBnd:.0*$" /proc/1/status'
}
volumes_are_writable() {
  inside kestra sh -ec 'for folder in /pipeline/data /pipeline/logs /app/storage /tmp/kestra-wd/tmp; do
    [ "$(stat -c %U $folder)" = kestra ]; echo kept >$folder/check; done; ! touch /repository/scripts/x 2>/dev/null'
}
environment_works() { inside kestra python -c 'import boto3, dbt.cli.main, snowflake.connector, schemachange, kestra, isal, msgspec, requests, sys; assert sys.prefix == "/opt/pipeline"'; }
no_zombies() {
  inside kestra sh -c '(sleep 1 & exec true); (setsid sh -c "sleep 0.2" &); sleep 2; ! ps -eo stat= | grep -q Z'
}

restart_keeps_and_rereads() {
  POSTGRES=$1
  filled_in "$POSTGRES"
  sed -i 's/100001/100002/' "$WORK/checkout/.env"
  compose restart postgres kestra >/dev/null 2>&1
  compose up --detach --wait --no-recreate postgres kestra >/dev/null 2>&1
  [ "$(value AMP_PROJECT_ID)" = 100002 ] || { echo ".env was not read again"; return 1; }
  inside kestra sh -c 'cat /pipeline/data/check /pipeline/logs/check /app/storage/check' | grep -c kept | grep -qx 3
}
# As docs/runbook.md says: the logs name it, and the server comes back by itself once the file is right.
restart_with_a_bad_env_says_so() {
  sed -i 's/^AMP_PROJECT_ID=.*/AMP_PROJECT_ID=abc/' "$WORK/checkout/.env"
  compose restart kestra >/dev/null 2>&1
  within 60 kestra_says "AMP_PROJECT_ID input should be a valid integer" || { echo "the logs do not say it"; return 1; }
  filled_in "$1"
  within 180 kestra_is_healthy || { echo "it did not come back"; return 1; }
}
kestra_says() { compose logs --no-log-prefix --tail 20 kestra 2>&1 | grep -q "$1"; }
kestra_is_healthy() { [ "$(docker inspect "$(compose ps -q kestra)" --format '{{.State.Health.Status}}')" = healthy ]; }
within() {
  local end=$((SECONDS + $1))
  until "${@:2}"; do
    ((SECONDS < end)) || return 1
    sleep 2
  done
}
# By TCP from another container, where the password counts.
database_login() {
  docker run --rm --network amplitude-check_default -e PGPASSWORD="$1" --entrypoint psql amplitude-check-postgres \
    -h postgres -U kestra -d kestra -Atc 'select 1'
}
old_password_is_refused() { local said; ! said=$(database_login "$1" 2>&1) && grep -q "password authentication failed" <<<"$said"; }
killed_database_comes_back() {
  compose kill postgres >/dev/null 2>&1 && compose up --detach --wait --no-recreate postgres >/dev/null 2>&1 && database_login "$1"
}
only_loopback() { docker inspect "$(compose ps -q kestra)" --format '{{json .NetworkSettings.Ports}}' | tee /dev/stderr | grep -q '"HostIp":"127.0.0.1"' && ! docker inspect $(compose ps -q) --format '{{json .NetworkSettings.Ports}}' | grep -q '0\.0\.0\.0'; }

stops_within_the_grace() {
  local begin=$SECONDS
  compose stop kestra >/dev/null 2>&1
  ((SECONDS - begin < 60)) || { echo "took $((SECONDS - begin)) s"; return 1; }
  compose logs kestra >"$WORK/said" 2>&1
  grep -q "stopped in order" "$WORK/said" || { echo "it was killed"; return 1; }
  local grace
  grace=$(compose config --format json | "$PYTHON" -c 'import json, sys; print(json.load(sys.stdin)["services"]["kestra"]["stop_grace_period"])')
  [ "$grace" = 6m0s ] && grep -q "termination-grace-period: 5m" docker/kestra.yml
}

key_that_cannot_be_read_is_named() {
  chmod 600 "$WORK/checkout/key.p8"
  local said
  said=$(compose run --rm -T --no-deps kestra server standalone 2>&1) && return 1
  chmod a+r "$WORK/checkout/key.p8"
  grep -q "SNOWFLAKE_PRIVATE_KEY_FILE cannot be read by the container's user" <<<"$said"
}

stand_ins_serve() {
  server_environment >"$WORK/environment"
  inside kestra python - <<'EOF'
import base64, os, pathlib, subprocess
import boto3, requests, snowflake.connector
from botocore.config import Config

pid = subprocess.run(["pgrep", "-f", "check/server.py"], capture_output=True, text=True).stdout.split()[0]
seen = dict(line.split("=", 1) for line in pathlib.Path(f"/proc/{pid}/environ").read_text().split("\0") if line)
secret = lambda name: base64.b64decode(seen[f"SECRET_{name}"]).decode()
hour = "20260101T00"
answer = requests.get(f"{seen['AMP_BASE_URL']}/api/2/export", params={"start": hour, "end": hour},
                      auth=(secret("AMP_API_KEY"), secret("AMP_SECRET_KEY")), timeout=60)
assert answer.status_code == 200 and answer.content[:2] == b"PK", answer.status_code
s3 = boto3.client("s3", endpoint_url=seen["AWS_ENDPOINT_URL_S3"], aws_access_key_id=secret("AWS_ACCESS_KEY"),
                  aws_secret_access_key=secret("AWS_ACCESS_SECRET_KEY"), region_name=seen["AWS_REGION"],
                  config=Config(s3={"addressing_style": seen["S3_ADDRESSING_STYLE"]}))
assert seen["AWS_BUCKET_NAME"] in [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]]
with snowflake.connector.connect(account=seen["SNOWFLAKE_ACCOUNT"], user=seen["SNOWFLAKE_USER"],
                                 host=seen["SNOWFLAKE_HOST"], port=int(seen["SNOWFLAKE_PORT"]),
                                 protocol=seen["SNOWFLAKE_PROTOCOL"],
                                 private_key_file=seen["SNOWFLAKE_PRIVATE_KEY_FILE"]) as connection:
    assert connection.cursor().execute("select 1").fetchone() == (1,)
EOF
}
demo_run_is_green() { ends_well demo-run; }
# A plain down leaves the demo's containers, and with them the settings that they hand over.
accounts_never_run_on_a_demo_that_is_left() {
  compose down >/dev/null 2>&1
  filled_in "$1"
  local said
  ! compose up --detach postgres kestra >/dev/null 2>&1 || { echo "it started"; return 1; }
  said=$(compose logs --no-log-prefix settings 2>&1)
  grep -q "docker compose --profile demo down" <<<"$said" || { echo "$said"; return 1; }
}
missing_env_file_is_named() {
  local said
  rm "$WORK/checkout/.env"
  said=$(docker compose --project-directory "$WORK/checkout" -f "$WORK/checkout/docker-compose.yml" -f "$WORK/checkout/docker/check/compose.yml" up --detach settings 2>&1) && return 1
  [ ! -e "$WORK/checkout/.env" ] || { echo "there is a folder .env now"; return 1; }
  grep -q "path does not exist: $WORK/checkout/.env" <<<"$said" || { echo "$said"; return 1; }
}
# What a command of ours reads in the container, as the runbook says: the same as the server was given.
READ='from scripts.pipeline.settings import *; s = load(AmplitudeSettings); b = load(BackupSettings)
print(s.amp_secret_key.get_secret_value(), s.amp_base_url, b.data_dir)'
commands_read_what_the_server_reads() {
  local read server
  read=$(inside --workdir /repository kestra python -c "$READ")
  server="$(value SECRET_AMP_SECRET_KEY | base64 -d) $(value AMP_BASE_URL) $(value DATA_DIR)"
  [ "$read" = "${server/  / None }" ] || { echo "they differ"; return 1; }
}
accounts_start_with_state_of_their_own() {
  filled_in "$1"
  up >/dev/null 2>&1 || { echo "it did not start"; return 1; }
  database_login "$1" >/dev/null
  [ "$(inside kestra sh -c 'ls -A /app/storage; ls -A /pipeline/data; ls -A /pipeline/logs' | sort -u)" = demo ]
}
demo_is_no_setting_afterwards() {
  demo down >/dev/null 2>&1
  : >"$WORK/checkout/.env"
  refuses_an_empty_env
}

report() {
  local commit
  commit=$(git -C "$WORK/checkout" rev-parse --short HEAD)
  {
    echo "# What docker/check.sh proved"
    echo
    echo "Written by \`docker/check.sh\`; run it again after a change of \`docker/\` or \`docker-compose.yml\`."
    echo
    echo "- Commit $commit, $(date -u +%F), Docker $(docker version --format '{{.Server.Version}}'), Compose $(docker compose version --short), $(uname -m)"
    echo "- Base images made here: Debian with the official images' user, paths and first process. In place of Kestra's server:"
    echo "  the API of \`tests/kestra_server.py\` over the real engine (\`docker/check/server.py\`). What that leaves open stands in"
    echo "  [unproven.md](unproven.md)."
    echo
    echo "| check | result |"
    echo "|---|---|"
    cat "$RESULTS"
  } >docs/compose-check.md
}

clean_up() {
  demo down --volumes --remove-orphans >/dev/null 2>&1 || true
  rm -rf "$WORK"
}

main() {
  command -v debootstrap >/dev/null || docker image inspect amplitude-check-debian >/dev/null 2>&1 || { echo "check.sh needs debootstrap (apt-get install debootstrap)" >&2; exit 2; }
  "$PYTHON" -c 'from local.java import ensure_engine; ensure_engine()'
  CHECK_JDK=$("$PYTHON" -c 'from local.java import find_jdk; print(find_jdk().resolve())')
  export CHECK_JDK
  prepare
  trap clean_up EXIT
  base_images
  POSTGRES=first-password-of-check

  check "\`config -q\` says nothing: default, demo and cluster, .env.example and an empty .env" config_is_quiet
  check "the image builds from hashed requirements" compose build --quiet kestra
  check "the image holds packages only: no code of ours, no .env" image_holds_no_code_of_ours
  check "no .env: Docker names the file and makes no folder" missing_env_file_is_named
  : >"$WORK/checkout/.env"
  check "an empty .env: nothing starts, code 78, all missing settings named" refuses_an_empty_env
  filled_in "$POSTGRES"
  check "a private key that the container's user cannot read is named" key_that_cannot_be_read_is_named
  check "up: Postgres and Kestra healthy, the loader puts flows and files and ends with 0" up
  check "secrets arrive byte for byte (\$, quotes, backticks, UTF-8), none of the server's own reaches a task" secrets_arrive
  check "a command in the container reads the settings that the server reads" commands_read_what_the_server_reads
  check "no secret in \`docker compose config\`" no_secret_in compose config
  check "no secret in \`docker inspect\`" no_secret_in all_containers
  check "no secret in the logs" no_secret_in compose logs
  check "no secret in the process lists" no_secret_in process_lists
  check "no secret in the image's layers" no_secret_in image_layers
  check "not root, no docker socket, no capability, no new privileges" runs_with_few_rights
  check "ports on 127.0.0.1 only" only_loopback
  check "volumes belong to the container's user, the repository is read-only" volumes_are_writable
  check "the Python environment imports what flows import" environment_works
  check "orphans are reaped (init)" no_zombies
  check "the database takes the password of .env by TCP" database_login "$POSTGRES"
  check "restart: data kept, an edited .env read again" restart_keeps_and_rereads second-password-of-check
  check "a changed POSTGRES_PASSWORD counts after a restart" database_login second-password-of-check
  check "and the old one no longer" old_password_is_refused "$POSTGRES"
  check "a killed database comes back" killed_database_comes_back second-password-of-check
  check "a restart on a bad .env: \`logs kestra\` names it, and the server comes back once it is right" restart_with_a_bad_env_says_so second-password-of-check
  check "SIGTERM reaches the server, it stops within the grace, which is above Kestra's" stops_within_the_grace
  compose down --volumes >/dev/null 2>&1

  : >"$WORK/checkout/.env"
  check "demo: the image of the stand-ins builds" demo build --quiet demo
  check "demo with an empty .env: stand-ins, Postgres and Kestra healthy" demo up --detach
  check "demo: Amplitude, S3 and Snowflake serve Kestra's container" stand_ins_serve
  check "demo: \`snowflake_deploy\` and \`amplitude_daily\` are green on the real engine in our image" demo_run_is_green
  check "demo: a command in the container reads the settings that the server reads" commands_read_what_the_server_reads
  check "demo left by a plain \`down\`: nothing starts on accounts" accounts_never_run_on_a_demo_that_is_left first-password-of-check
  check "demo stopped: its settings are gone, with an empty .env nothing starts" demo_is_no_setting_afterwards
  check "and accounts start beside what the demo left: a database, storage and backup of their own" accounts_start_with_state_of_their_own first-password-of-check

  report
  ! grep -q "failed" "$RESULTS"
}

main "$@"
