/**
 * InfluxDB's own client, as CommonJS. Its other form imports Node.js's HTTP, and with it Node.js's client for fetch and
 * web sockets, which takes 4 MB in each thread and is not used.
 */
import { createRequire } from 'node:module';

type Client = typeof import('@influxdata/influxdb-client');

export const {
  AbortError,
  escape: escapeLineProtocol,
  HttpError,
  InfluxDB,
  setLogger,
}: Client = createRequire(import.meta.url)('@influxdata/influxdb-client');
