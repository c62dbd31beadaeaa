/** The settings of the service, except those of the sinks. */

import { EVERY_ADDRESS } from '../base/every-address.ts';
import { LOG_FORMATS } from '../base/log-line.ts';
import { parseStart } from '../base/time-text.ts';
import { FORMATS } from '../decode/formats.ts';
import { OTLP_ATTRIBUTES } from '../decode/otlp.ts';
import { NAME_TAGS, type NameTags } from '../decode/statsd.ts';
import { setting } from '../settings/builders.ts';
import type { Values } from '../settings/setting.ts';
import { MASK } from '../settings/url-secrets.ts';
import { parseAllowedHosts } from './allowed-hosts.ts';
import { shownBusUrls, withScheme } from './bus-urls.ts';
import { parseCallbackHosts } from './callback-hosts.ts';
import { rules } from './rule-setting.ts';
import { CONTROL_SOCKET_EXPECTED, parseControlSocket } from './socket-path.ts';

export interface Slice {
  readonly index: number;
  readonly of: number;
}

const MIN_WINDOW_MS = 100;

const MAX_WINDOW_MS = 86_400_000;

const MAX_SLICES = 1024;

/** Anyone who reaches the port can try tokens. */
const MIN_TOKEN_CHARACTERS = 16;

const begin = { meaning: 'where a pipeline begins if it has no checkpoint', default: 'now' } as const;
export const CORE_SETTINGS = {
  natsUrl: setting.custom(
    parseServers,
    'NATS servers, comma-separated, such as nats://host:4222, with %25 for a % in a password',
    { meaning: 'NATS servers, comma-separated', default: 'nats://127.0.0.1:4222' },
    (text) => shownBusUrls(text.split(',')).join(','),
  ),
  natsUser: setting.text({ meaning: 'user to sign in as' }),
  natsPassword: setting.secret({ meaning: 'password of that user' }),
  natsToken: setting.secret({ meaning: 'token to sign in with' }),
  natsCredsFile: setting.text({
    meaning: 'file with a user JWT and its seed (decentralized authentication)',
  }),
  natsNkeySeedFile: setting.text({ meaning: 'file with an NKey seed' }),
  natsInboxPrefix: setting.custom(parseInboxPrefix, 'a subject without wildcards', {
    meaning:
      'how the subjects on which this user gets answers begin; with a prefix of its own, no other user can read them',
    default: '_INBOX.fanout',
  }),
  natsJetstreamDomain: setting.custom(parseToken, 'a name: letters, digits, - and _', {
    meaning:
      'JetStream domain that has, or gets, the stream and the checkpoints; without one, that of the server',
  }),
  natsJetstreamApiPrefix: setting.custom(parseApiPrefix, 'a subject without wildcards, such as hub.js', {
    meaning: "prefix under which this account imports another account's JetStream API",
  }),
  natsTlsCaFile: setting.text({
    meaning: "file with the certificate authorities that may sign the server's certificate; turns TLS on",
  }),
  natsTlsCertFile: setting.text({ meaning: 'file with the client certificate (mutual TLS)' }),
  natsTlsKeyFile: setting.text({ meaning: 'file with the private key of that certificate' }),
  natsTlsHandshakeFirst: setting.boolean({
    meaning:
      'true: begins with TLS, before the server says anything, as one with handshake_first wants it; turns TLS on',
    default: 'false',
  }),
  metricsSource: setting.choice(['jetstream', 'core'], {
    meaning: 'jetstream: counts are exact; core: plain NATS, each message counts at most once',
    default: 'jetstream',
  }),
  metricsSubjects: setting.custom(parseSubjects, 'comma-separated NATS subjects that do not overlap', {
    meaning: 'subjects to read, comma-separated',
    default: 'metrics,metrics.>',
  }),
  metricsStream: setting.custom(parseToken, 'a stream name: letters, digits, - and _', {
    meaning: 'the stream; created if it is missing, never changed if it exists',
    default: 'METRICS',
  }),
  metricsStreamMaxAge: setting.duration({
    meaning: 'age limit of the stream, if we create it',
    default: '24h',
  }),
  metricsStreamMaxBytes: setting.bytes({
    meaning: 'size limit of the stream, if we create it',
    default: '8GiB',
  }),
  metricsStreamNoAck: setting.boolean({
    meaning:
      'true: the stream, if we create it, acknowledges no message, because a producer says where its acknowledgement goes; producers that wait for one wait in vain',
    default: 'false',
  }),
  metricsStart: setting.custom(parseStart, 'now, earliest or an RFC 3339 time', begin),
  metricsFormat: setting.choice(FORMATS, {
    meaning:
      'format of the messages. json: that of nats_metrics; influx: line protocol; statsd: with the tags of DogStatsD; number: a number and nothing else, of the series that the subject names; otlp: OpenTelemetry, as protobuf or JSON; counter: the counters of NATS, by their header Nats-Incr; auto: detected from the beginning of each message',
    default: 'auto',
  }),
  metricsCounters: setting.list({
    meaning:
      'for line protocol, and for number: the names of the series that are counters (* matches any text, ? one character); all others are gauges',
  }),
  metricsStatsdTags: setting.custom(parseNameTags, `a comma-separated list of ${NAME_TAGS.join(', ')}`, {
    meaning:
      'for StatsD: how names may hold tags. influx: name,tag=value; hash: name#tag=value; brackets: name[tag=value]. The tags of DogStatsD are always read',
  }),
  metricsStatsdSignedGauges: setting.boolean({
    meaning:
      'for StatsD: true: a gauge with a sign (-5) is a value, as DogStatsD has it; false: it would change an earlier value, and is rejected',
    default: 'false',
  }),
  metricsOtlpAttributes: setting.custom(parseGlobs, 'a comma-separated list, or none', {
    meaning:
      'for OTLP: which attributes of resources and scopes become dimensions (* matches any text, ? one character); none: only those of the data points',
    default: OTLP_ATTRIBUTES.join(','),
  }),
  metricsNames: rules('names', 'comma-separated globs, such as http.*, !http.debug.*', {
    meaning:
      'which names are taken at all, as they are published (* matches any text, ? one character); ! excludes; samples of all others are counted and left out. Without it, all',
  }),
  metricsDropDimensions: rules(
    'dimensions',
    'names: keys, separated by semicolons, such as http.*: host, pod; *: pid',
    {
      meaning:
        'which dimensions are dropped before anything is counted: by globs of names, and after a colon and a space by globs of keys, as they are published. Series that become one are added up',
    },
  ),
  metricsKeepDimensions: rules(
    'dimensions',
    'names: keys, separated by semicolons, such as http.*: app, status',
    {
      meaning:
        'which dimensions the series of these names keep: all others are dropped, as by METRICS_DROP_DIMENSIONS. Names that no rule has keep all',
    },
  ),
  metricsRename: rules(
    'rename',
    'old=new, old.*=new.*, names: key=new key, separated by semicolons, such as old.*=new.*; http.*: hostname=host',
    {
      meaning:
        'what names and, after names with a colon and a space, keys of dimensions become: exactly, or with a * at the end of both sides all that begin so. The first that fits counts',
    },
  ),
  metricsSubjectDimensions: rules(
    'subjects',
    'comma-separated subjects with keys in braces, such as metrics.{app}.{env}.>',
    {
      meaning:
        'which tokens of the subject become dimensions: the first pattern counts that the subject of a message fits (* is any token, > at the end the rest)',
    },
  ),
  metricsSubjectWins: setting.boolean({
    meaning:
      'true: of a dimension that the message has too, the value of METRICS_SUBJECT_DIMENSIONS counts; false: that of the message',
    default: 'false',
  }),
  metricsReceive: setting.choice(['frames', 'plain'], {
    meaning:
      'frames: takes messages from the connection before the NATS client makes objects of them, at half the cost; plain: takes them from the client',
    default: 'frames',
  }),
  metricsQueueGroup: setting.custom(parseToken, 'a queue group name', {
    meaning: 'for core mode: instances of one group share the load',
  }),
  pipeline: setting.custom(parseToken, 'a name: letters, digits, - and _', {
    meaning: 'name of the pipeline; also names its checkpoints',
    default: 'default',
  }),
  window: setting.custom(parseWindow, 'a duration from 100ms to 24h', {
    meaning: 'length of a window',
    default: '10s',
  }),
  lateness: setting.duration({
    meaning: 'how long after its end a window still takes samples that belong in it',
    default: '2s',
  }),
  maxAhead: setting.duration({ meaning: "how far a sample's time may be ahead of the bus", default: '1s' }),
  idleSlack: setting.duration({
    meaning: "how far behind the server's clock windows close when no message is pending",
    default: '500ms',
  }),
  maxSeries: setting.integer(1, 50_000_000, {
    meaning: 'series per window; each further series is folded into the overflow series of its name',
    default: '1000000',
  }),
  maxSeriesBytes: setting.bytesFrom('1MB', {
    meaning:
      'memory for the series of a window, and for percentiles; what does not fit is folded as with MAX_SERIES. The process may need several times as much',
    default: '48MB',
  }),
  maxSeriesByName: rules('limits', 'globs with limits, comma-separated, such as http.*=1000, *=20000', {
    meaning:
      'series per window of each name that a glob matches; the first that matches counts. Each further series is folded into the overflow series of its name, so that one name cannot use up MAX_SERIES. Longer windows of a sink may have more',
  }),
  recentBytes: setting.custom(parseRecentBytes, 'a size such as 64MB, at least 1MB; or 0', {
    meaning:
      'memory for the closed windows of the last hour, of which `ask` and `cardinality` know; when it is full, the oldest go first; 0: none are kept',
    default: '64MB',
  }),
  changeDelay: setting.timeout({
    meaning:
      'how long after it is announced to the other instances a new WINDOW, LATENESS, MAX_AHEAD, MAX_SERIES, MAX_SERIES_BYTES, MAX_SERIES_BY_NAME or METRICS_FORMAT (and what else says how messages are read, or which series come of them) takes effect; if the checkpoints are out of reach for this long, windows wait',
    default: '2m',
  }),
  // What JetStream is asked for at a time. A message that long already holds the thread for longer than others like.
  maxMessageBytes: setting.bytesUpTo('8MiB', { meaning: 'larger messages are rejected', default: '1MiB' }),
  slice: setting.custom(parseSlice, 'a time slice and how many there are, such as 0/1 or 2/3', {
    meaning: 'the time slice of this instance, and how many slices there are',
    default: '0/1',
    advice: adviceOnSlice,
  }),
  httpHost: setting.text({
    meaning:
      'address on which health, Prometheus metrics and status are served; :: is every address, of IPv4 and of IPv6',
    default: EVERY_ADDRESS,
  }),
  httpPort: setting.integer(0, 65_535, {
    meaning: 'port of that address; 0 takes a free one',
    default: '9464',
  }),
  httpAllowedHosts: setting.custom(
    parseAllowedHosts,
    'comma-separated names or addresses without ports, such as metrics.example.com',
    {
      meaning:
        'names that a request may have as its Host, in addition to localhost, 127.0.0.1 and [::1]; without a list, any Host is answered, unless HTTP_HOST is a loopback address',
    },
  ),
  probeInterval: setting.interval({
    meaning: 'how often each store is asked two questions and its size, to compare the stores; 0s: never',
    default: '30s',
  }),
  logLevel: setting.choice(['debug', 'info', 'warn', 'error'], {
    meaning: 'lowest level to log; the log is on stderr',
    default: 'info',
  }),
  logFormat: setting.choice(LOG_FORMATS, {
    meaning: 'lines of the log as JSON or as text for people; auto: text if stderr is a terminal',
    default: 'auto',
  }),
  stopTimeout: setting.timeout({ meaning: 'how long a graceful stop waits for the sinks', default: '10s' }),
  verifyShare: setting.custom(parseShare, 'a share from 0 to 1', {
    meaning: 'share of the confirmed windows to read back from each store and compare with what was written',
    default: '0.1',
  }),
  verifyDelay: setting.timeout({
    meaning: 'how long after its confirmation a window is read back',
    default: '30s',
  }),
  verifyReplayShare: setting.custom(parseShare, 'a share from 0 to 1', {
    meaning: 'share of the confirmed windows to also compute again from the stream; at most VERIFY_SHARE',
    default: '0.01',
  }),
  watchShare: setting.custom(parseShare, 'a share from 0 to 1', {
    meaning:
      'share of the time in which the service also listens to METRICS_SUBJECTS by plain NATS, to count messages that the stream does not store; 0: never, 1: always',
    default: '0.0167',
  }),
  fanoutRejected: setting.boolean({
    meaning: 'true: publishes points that a store refused for good on fanout.rejected.<sink>',
    default: 'false',
  }),
  controlEnabled: setting.boolean({
    meaning:
      'false: nobody can control the service over the bus or over HTTP; true: anyone who may publish on fanout.control.> controls it',
    default: 'true',
  }),
  controlReplyPrefixes: setting.custom(
    parseReplyPrefixes,
    'comma-separated subjects without wildcards, such as _INBOX.operator',
    {
      meaning:
        'how the subject of an answer must begin, comma-separated, in whole tokens; requests over the bus that want it elsewhere, or none, are ignored and counted',
      default: '_INBOX.',
    },
  ),
  controlToken: setting.custom(
    (text) => (text.length >= MIN_TOKEN_CHARACTERS ? text : undefined),
    `a secret of at least ${MIN_TOKEN_CHARACTERS} characters`,
    {
      meaning:
        'token that anyone must send to control the service over HTTP; without one, only CONTROL_SOCKET gives control',
    },
    () => MASK,
  ),
  controlSocket: setting.custom(parseControlSocket, CONTROL_SOCKET_EXPECTED, {
    meaning:
      'Unix socket over which only the user of the service can control it, without a token; `ctl` uses it unasked. auto: `metrics-fanout-<user id>/<PIPELINE>-<HTTP_PORT>.sock` in the temporary folder; off: none',
    default: 'auto',
  }),
  controlCallbackHosts: setting.custom(
    parseCallbackHosts,
    'comma-separated hosts, with or without a port, such as ci.example.com or http://10.0.0.7:8080',
    {
      meaning: 'hosts to which reports of tasks may be sent: over https, unless the host begins with http://',
    },
  ),
  controlCallbackSecret: setting.secret({ meaning: 'key that signs these reports (HMAC-SHA256)' }),
  controlProfileDir: setting.text({
    meaning: 'folder for CPU profiles and heap snapshots; without one, the service takes none',
  }),
};

function parseServers(text: string): readonly string[] | undefined {
  const servers = text.split(',').map((server) => server.trim());
  const bad = servers.some((server) => {
    const url = withScheme(server);
    if (server === '' || !URL.canParse(url)) return true;
    const { protocol, hostname, username, password } = new URL(url);
    return !/^(nats|tls):$/.test(protocol) || hostname === '' || !isEncoded(username + password);
  });
  return bad ? undefined : servers;
}

function isEncoded(text: string): boolean {
  try {
    decodeURIComponent(text);
    return true;
  } catch {
    return false;
  }
}

const SUBJECT = /^(?:[^\s.*>$]+|\*)(?:\.(?:[^\s.*>]+|\*))*(?:\.>)?$/;

function parseSubjects(text: string): readonly string[] | undefined {
  const subjects = text.split(',').map((subject) => subject.trim());
  const bad = subjects.some(
    (subject, i) => !SUBJECT.test(subject) || subjects.some((other, j) => j > i && overlap(subject, other)),
  );
  return bad ? undefined : subjects;
}

/** Whether some subject matches both patterns: two subscriptions would count its messages twice. */
export function overlap(a: string, b: string): boolean {
  const left = a.split('.');
  const right = b.split('.');
  for (let i = 0; ; i++) {
    if (i === left.length || i === right.length) return left.length === right.length;
    if (left[i] === '>' || right[i] === '>') return true;
    if (left[i] !== '*' && right[i] !== '*' && left[i] !== right[i]) return false;
  }
}

/** What the service hears, or publishes for others, whatever the settings are. */
const SERVICE_SUBJECTS = ['fanout.control.>', 'fanout.rejected.>'];

/** Returns the pattern by which the service itself reads something of `subject`; undefined if it does not. */
export function readBySelf(
  { metricsSubjects, natsInboxPrefix }: Pick<CoreConfig, 'metricsSubjects' | 'natsInboxPrefix'>,
  subject: string,
): string | undefined {
  const read = [...metricsSubjects, ...SERVICE_SUBJECTS, `${natsInboxPrefix}.>`];
  return read.find((other) => overlap(other, subject));
}

/** Returns the prefix without a dot at its end. */
function parseApiPrefix(text: string): string | undefined {
  const prefix = text.replace(/\.$/, '');
  return /^[^\s.*>]+(\.[^\s.*>]+)*$/.test(prefix) ? prefix : undefined;
}

function parseInboxPrefix(text: string): string | undefined {
  return /^[A-Za-z0-9_-]{1,64}(\.[A-Za-z0-9_-]{1,64}){0,3}$/.test(text) ? text : undefined;
}

/** Returns the prefixes, each with a dot at its end. */
function parseReplyPrefixes(text: string): readonly string[] | undefined {
  const prefixes = text.split(',').map((part) => parseInboxPrefix(part.trim().replace(/\.$/, '')));
  return prefixes.includes(undefined) ? undefined : prefixes.map((prefix) => `${prefix}.`);
}

function parseGlobs(text: string): readonly string[] | undefined {
  if (text.trim() === 'none') return [];
  const globs = text.split(',').map((glob) => glob.trim());
  return globs.includes('') ? undefined : globs;
}

function parseNameTags(text: string): readonly NameTags[] | undefined {
  const styles = text.split(',').map((style) => style.trim());
  return styles.every((style) => NAME_TAGS.some((known) => known === style))
    ? (styles as NameTags[])
    : undefined;
}

function parseToken(text: string): string | undefined {
  return /^[A-Za-z0-9_-]{1,64}$/.test(text) ? text : undefined;
}

export function parseWindow(text: string): number | undefined {
  const ms = setting.duration({ meaning: '', required: true }).parse(text);
  return ms !== undefined && ms >= MIN_WINDOW_MS && ms <= MAX_WINDOW_MS ? ms : undefined;
}

function parseRecentBytes(text: string): number | undefined {
  return text.trim() === '0' ? 0 : setting.bytesFrom('1MB', { meaning: '', required: true }).parse(text);
}

function parseShare(text: string): number | undefined {
  const share = /^\d*\.?\d+$/.test(text) ? Number(text) : Number.NaN;
  return share >= 0 && share <= 1 ? share : undefined;
}

function parseSlice(text: string): Slice | undefined {
  const match = /^(\d+)\/(\d+)$/.exec(text);
  const [index, of] = [Number(match?.[1]), Number(match?.[2])];
  return match && of >= 1 && of <= MAX_SLICES && index < of ? { index, of } : undefined;
}

/** A pod that `kubectl scale` added has a number, but its template does not know of it. */
function adviceOnSlice(text: string): string | undefined {
  const [, index, of] = /^(\d+)\/([1-9]\d*)$/.exec(text) ?? [];
  if (index === undefined || Number(index) < Number(of)) return undefined;
  return `Slices are numbered from 0. In Kubernetes, do not use kubectl scale: the chart's value replicas is the number of pods and the number of slices. Scale back to ${of}, then set it with helm upgrade.`;
}

export type CoreConfig = Values<typeof CORE_SETTINGS>;
