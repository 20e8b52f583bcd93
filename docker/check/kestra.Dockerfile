# In place of the official image: the same user, paths and first process, with docker/check/server.py as the server.
FROM amplitude-check-debian
COPY ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
ENV SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt PIP_CERT=/etc/ssl/certs/ca-certificates.crt
RUN groupadd kestra && useradd -m -g kestra kestra && install -d -o kestra -g kestra /app \
 && printf '#!/usr/bin/env bash\nexec /app/kestra "$@"\n' >/usr/local/bin/docker-entrypoint.sh \
 && printf '#!/bin/sh\nexec python -B /repository/docker/check/server.py "$@"\n' >/app/kestra \
 && chmod +x /usr/local/bin/docker-entrypoint.sh /app/kestra
WORKDIR /app
USER kestra
ENTRYPOINT ["docker-entrypoint.sh"]
