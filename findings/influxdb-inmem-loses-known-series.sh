#!/usr/bin/env bash
# InfluxDB 1.6 with its index in memory loses points of series that it already has, if a new series of the same batch
# exceeds max-values-per-tag. Its answer names and counts the new one only.
#
# The limit is there to keep new series out; the documented partial write is that the others are stored. A client that
# rejects as many points as `dropped` says, and takes the rest for written, has lost data. With the index `tsi1` this limit
# does not apply: all points are stored. What helps: send the others again, without the series that is named.
#
# Version: InfluxDB 1.6.7 (Debian 12, package influxdb).
# Seen: inmem: "dropped=1", of host=a one of two points, of host=b two of two; tsi1: all points, no error.
# Needs Debian's apt-get and dpkg-deb, curl. Ends with 0 if it is still so.
set -euo pipefail
folder=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; rm -rf "$folder"' EXIT
cd "$folder"
apt-get download -qq influxdb >/dev/null 2>&1
dpkg-deb -x influxdb_*.deb influxdb
version=$(influxdb/usr/bin/influxd version)
port=$((20000 + RANDOM % 10000))
url=http://127.0.0.1:$port

start() { # INDEX
  mkdir "$1"
  cat >"$1.conf" <<CONF
reporting-disabled = true
bind-address = "127.0.0.1:$((port + 1))"
[meta]
  dir = "$folder/$1/meta"
[data]
  dir = "$folder/$1/data"
  wal-dir = "$folder/$1/wal"
  index-version = "$1"
  max-values-per-tag = 2
[monitor]
  store-enabled = false
[http]
  bind-address = "127.0.0.1:$port"
CONF
  influxdb/usr/bin/influxd -config "$1.conf" >"$1.log" 2>&1 &
  for _ in $(seq 300); do curl -sf "$url/ping" && return; sleep 0.1; done
  cat "$1.log"; exit 1
}
write() { curl -s "$url/write?db=metrics&precision=s" --data-binary "$1" | grep -o 'dropped=[0-9]*' || true; }
count() {
  curl -sG "$url/query?db=metrics" --data-urlencode "q=SELECT count(v) FROM m WHERE host='$1'" |
    grep -oE ',[0-9]+\]' | tr -d ',]' || echo 0
}

seen=''
for index in inmem tsi1; do
  start "$index"
  curl -sf "$url/query" --data-urlencode 'q=CREATE DATABASE metrics' >/dev/null
  first=$(write $'m,host=a v=1 1000\nm,host=b v=1 1000')
  second=$(write $'m,host=a v=1 2000\nm,host=b v=1 2000\nm,host=c v=1 2000')
  seen+="$index: ${first:-none} ${second:-none} a=$(count a) b=$(count b) c=$(count c); "
  kill %+; wait %+ 2>/dev/null || true
done
echo "$version: $seen"
[ "$seen" = 'inmem: none dropped=1 a=1 b=2 c=0; tsi1: none none a=2 b=2 c=1; ' ] || { echo 'something has changed'; exit 1; }
