# In place of the official image: Debian's Postgres with gosu and a first process that knows POSTGRES_*.
FROM amplitude-check-debian
COPY ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
RUN apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends postgresql-15 gosu \
 && ln -s /usr/lib/postgresql/15/bin/* /usr/local/bin/ && install -d -o postgres /var/lib/postgresql/data
COPY postgres-entrypoint.sh /usr/local/bin/docker-entrypoint.sh
ENV PGDATA=/var/lib/postgresql/data
