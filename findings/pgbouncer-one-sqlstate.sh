#!/usr/bin/env bash
# PgBouncer gives its own errors one SQLSTATE, 08P01 (protocol_violation): a wrong password, a database that it does not
# have and a server that it cannot reach are not told apart by the code. PostgreSQL's own are 28P01 and 3D000.
#
# A client that retries by class treats all of them alike: as an outage that passes (class 08), so a wrong password is
# tried for ever; or as a protocol error that does not, so an outage ends it. Only the text, which is not meant for
# programs, tells them apart.
#
# Versions: PgBouncer 1.18.0 (Debian 12, package pgbouncer), pg 8.16.3 (npm).
# Seen: 08P01 "password authentication failed", 08P01 "no such database: absent", 08P01 "query_wait_timeout" or "server
# login has been failing".
# Needs Debian's apt-get and dpkg-deb, node with npm; libraries of PgBouncer (libevent, libc-ares). Ends with 0 if so.
set -euo pipefail
folder=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; rm -rf "$folder"' EXIT
cd "$folder"; export PORT=$((20000 + RANDOM % 10000))
apt-get download -qq pgbouncer libevent-2.1-7 libc-ares2 >/dev/null 2>&1
for package in *.deb; do dpkg-deb -x "$package" root; done
chmod -R a+rX "$folder"
npm init -y >/dev/null && npm install --silent pg@8.16.3
library=$(dirname "$(find "$folder/root" -name 'libevent-2.1.so.7*' | head -n 1)")
cat >pgbouncer.ini <<CONF
[databases]
metrics = host=127.0.0.1 port=1
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = $PORT
unix_socket_dir =
auth_type = md5
auth_file = $folder/users.txt
query_wait_timeout = 2
CONF
echo '"reader" "right"' >users.txt
user=(); [ "$(id -u)" != 0 ] || user=(setpriv --reuid=65534 --regid=65534 --clear-groups)
LD_LIBRARY_PATH=$library "${user[@]}" root/usr/sbin/pgbouncer pgbouncer.ini >pgbouncer.log 2>&1 &
version=$(LD_LIBRARY_PATH=$library root/usr/sbin/pgbouncer --version | head -n 1)

cat >errors.cjs <<'JS'
const { setTimeout: sleep } = require('node:timers/promises');
const { Client } = require('pg');
const at = (database, password) =>
  new Client({ host: '127.0.0.1', port: Number(process.env.PORT), user: 'reader', database, password });
async function errorOf(database, password) {
  for (let tries = 0; ; tries++) {
    const client = at(database, password);
    client.on('error', () => {});
    const error = await client.connect().then(() => ({ message: 'none' }), (thrown) => thrown);
    await client.end().catch(() => {});
    const isEarly = error.code === 'ECONNREFUSED';
    if (!isEarly || tries > 100) return `${error.code} ${error.message}`;
    await sleep(100);
  }
}
async function main() {
  const seen = [await errorOf('metrics', 'wrong'), await errorOf('absent', 'right'), await errorOf('metrics', 'right')];
  console.log(seen.join('; '));
}
void main();
JS
seen=$(node errors.cjs)
echo "$version: $seen"
codes=$(grep -oE '08P01 (password|no such|query_wait|server login)' <<<"$seen" | wc -l)
[ "$codes" = 3 ] || { cat pgbouncer.log; echo 'something has changed'; exit 1; }
