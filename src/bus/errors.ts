/** Turns errors of the bus into words for the operator. */

import { ErrorCode, NatsError } from 'nats';
import { errorText } from '../base/error-text.ts';
import type { CoreConfig } from '../config/core-settings.ts';
import { BucketGone, BusError } from './bus-error.ts';
import { NAME_TIMEOUT } from './client.ts';
import { greetingOf } from './server-info.ts';

const REFUSED: readonly string[] = [
  ErrorCode.AuthorizationViolation,
  ErrorCode.AuthenticationExpired,
  ErrorCode.AccountExpired,
  ErrorCode.BadAuthentication,
  ErrorCode.BadCreds,
];

const TLS_VERIFICATION =
  /^(CERT_|DEPTH_ZERO|SELF_SIGNED|UNABLE_TO_(GET|VERIFY)|ERR_(SSL|TLS|OSSL)|HOSTNAME_MISMATCH|INVALID_CA|TLS$)/;

/** What looking up a name ends with. */
const NO_ADDRESS: readonly string[] = ['ENOTFOUND', 'EAI_AGAIN', NAME_TIMEOUT];

/** What OpenSSL makes of a server that begins in the clear. */
const NOT_TLS = 'ERR_SSL_WRONG_VERSION_NUMBER';

function codeOf(error: unknown): string {
  const code = (error as { code?: unknown } | undefined)?.code;
  return typeof code === 'string' ? code : 'UNKNOWN';
}

/** Returns whether the bus refused the sign-in, or its certificate is not to be trusted. */
export function signInRefusal(error: unknown): 'unauthorized' | 'untrusted' | undefined {
  const code = codeOf(error);
  if (REFUSED.includes(code)) return 'unauthorized';
  return TLS_VERIFICATION.test(code) ? 'untrusted' : undefined;
}

/** Returns whether no server could be reached, as opposed to one that refused us. */
function isUnreachable(error: unknown): boolean {
  const code = codeOf(error);
  return (
    !REFUSED.includes(code) && !TLS_VERIFICATION.test(code) && code !== ErrorCode.ServerOptionNotAvailable
  );
}

/** Puts the error of an attempt to connect into our words. Where it says too little, asks the servers. */
export async function connectError(
  error: unknown,
  servers: readonly string[],
  core: CoreConfig,
): Promise<BusError> {
  const code = codeOf(error);
  const where = servers.join(', ');
  if (REFUSED.includes(code)) {
    return new BusError(`the bus at ${where} refused the sign-in (${code})`, signInAdvice(core));
  }
  if (code === ErrorCode.ServerOptionNotAvailable) {
    return new BusError(
      `the bus at ${where} does not offer TLS`,
      'Unset NATS_TLS_* and use nats:// to connect without encryption, or enable TLS on the server.',
    );
  }
  if (core.natsTlsHandshakeFirst && code === NOT_TLS) {
    return new BusError(
      `the bus at ${where} does not begin with TLS`,
      'Unset NATS_TLS_HANDSHAKE_FIRST, or set handshake_first in the tls block of the server.',
    );
  }
  if (TLS_VERIFICATION.test(code)) {
    return new BusError(
      `no TLS connection to the bus at ${where} (${code})`,
      "Set NATS_TLS_CA_FILE to the CA certificates that signed the server's certificate. If the server asks clients for a certificate, also set NATS_TLS_CERT_FILE and NATS_TLS_KEY_FILE.",
    );
  }
  if (NO_ADDRESS.includes(code)) {
    return new BusError(
      `the bus cannot be reached at ${where}: the system finds no address (${code})`,
      'Check the names in NATS_URL, the hosts file, and whether DNS answers.',
    );
  }
  const told = SILENT.includes(code) ? await toldByServers(code, servers, core) : undefined;
  return told ?? unreachable(code, where);
}

function unreachable(code: string, where: string): BusError {
  return new BusError(
    `the bus cannot be reached at ${where} (${code})`,
    'Check NATS_URL, and check that a nats-server listens there.',
  );
}

/** The bus takes this client once somebody changes a setting, and not before. */
class NeedsSetting extends BusError {}

/** Returns whether another attempt may succeed without anyone changing a setting. */
export function isWorthWaiting(error: unknown, explained: BusError): boolean {
  return isUnreachable(error) && !(explained instanceof NeedsSetting);
}

/** The error for a client that has given up, as it does if it cannot even try to sign in. */
export function closedForGood(): BusError {
  return new BusError('the connection to the bus was closed for good', 'Start the service again.');
}

/** What the client also reports if a server hangs up without a word, or does not respond to our sign-in. */
const SILENT: readonly string[] = [ErrorCode.Timeout, ErrorCode.ConnectionRefused];

async function toldByServers(
  code: string,
  servers: readonly string[],
  core: CoreConfig,
): Promise<BusError | undefined> {
  const where = servers.join(', ');
  const greetings = await Promise.all(servers.map(greetingOf));
  const refusal = greetings.find((greeting) => greeting.refusal !== undefined)?.refusal;
  if (refusal !== undefined) {
    return new BusError(
      `the bus at ${where} refuses connections (${refusal})`,
      'End connections that nobody needs, or raise the limit on the server (max_connections).',
    );
  }
  if (!core.natsTlsHandshakeFirst && greetings.some(({ isTlsFirst }) => isTlsFirst)) {
    return new NeedsSetting(
      `the bus at ${where} says nothing before TLS begins`,
      'Set NATS_TLS_HANDSHAKE_FIRST=true, as the server has handshake_first in its tls block.',
    );
  }
  // The server did not accept our certificate, or that we have none.
  if (code !== ErrorCode.Timeout || !greetings.some(({ asksForCertificate }) => asksForCertificate))
    return undefined;
  if (core.natsTlsCertFile === undefined) {
    return new NeedsSetting(
      `the bus at ${where} asks clients for a certificate`,
      'Set NATS_TLS_CERT_FILE and NATS_TLS_KEY_FILE.',
    );
  }
  return new NeedsSetting(
    `the bus at ${where} asks clients for a certificate, and does not respond to ours`,
    'Check that NATS_TLS_CERT_FILE is signed by a CA that the server knows, and has not expired.',
  );
}

/** Returns which settings to check if the bus refuses the sign-in. */
export function signInAdvice(core: CoreConfig): string {
  if (core.natsUser !== undefined) return 'Check NATS_USER and NATS_PASSWORD.';
  if (core.natsToken !== undefined) return 'Check NATS_TOKEN.';
  if (core.natsCredsFile !== undefined) return 'Check the credentials in NATS_CREDS_FILE.';
  if (core.natsNkeySeedFile !== undefined) return 'Check the seed in NATS_NKEY_SEED_FILE.';
  if (core.natsUrl.some((url) => url.includes('@')))
    return 'Check the user and password, or the token, in NATS_URL.';
  return 'Set NATS_USER and NATS_PASSWORD, NATS_TOKEN, NATS_CREDS_FILE or NATS_NKEY_SEED_FILE.';
}

/** JetStream is starting, or electing a leader. */
const JETSTREAM_NOT_YET: readonly number[] = [10008, 10009, 10118];

const TRANSIENT: readonly string[] = [
  ErrorCode.Timeout,
  ErrorCode.Disconnect,
  ErrorCode.ConnectionRefused,
  ErrorCode.ConnectionTimeout,
];

/** Returns whether the same request may well succeed later, without anyone fixing anything. */
export function isTransient(error: unknown): boolean {
  // It is made again after a pause.
  if (error instanceof BucketGone) return true;
  const cause = error instanceof BusError ? error.cause : error;
  const api = apiErrorCode(cause);
  return TRANSIENT.includes(codeOf(cause)) || (api !== undefined && JETSTREAM_NOT_YET.includes(api));
}

/** Returns JetStream's own code of an error; undefined if it has none. */
export function apiErrorCode(error: unknown): number | undefined {
  return error instanceof NatsError ? error.api_error?.err_code : undefined;
}

/** Returns JetStream's own words, if it has any: the client's are no more than a number for some errors. */
export function reasonInWords(error: unknown): string {
  const own = error instanceof NatsError ? error.api_error?.description : undefined;
  return own ?? errorText(error);
}

const MAX_CONSUMERS = 10026;
const JETSTREAM_NOT_ENABLED: readonly number[] = [10039, 10076];

/** Returns whether nobody answers for JetStream: it is not there, or the server that answered is gone. */
export function isJetStreamAway(error: unknown): boolean {
  const cause = error instanceof BusError ? error.cause : error;
  const api = apiErrorCode(cause);
  // JetStream answers 503 itself too, when it has no room, say.
  return api === undefined
    ? codeOf(cause) === ErrorCode.JetStreamNotEnabled
    : JETSTREAM_NOT_ENABLED.includes(api);
}

/** Puts the error of a request to JetStream's API into our words. `doing`: what the request was for. */
export function jetstreamError(error: unknown, doing: string): BusError {
  if (error instanceof BusError) return error;
  const api = apiErrorCode(error);
  const code = codeOf(error);
  if (api !== undefined && JETSTREAM_NOT_YET.includes(api)) {
    return new BusError(
      `${doing}: JetStream is not ready yet`,
      'Wait until the servers have elected a leader.',
      {
        cause: error,
      },
    );
  }
  if (isJetStreamAway(error)) {
    return new BusError(
      `${doing}: the bus offers no JetStream to this account`,
      'Enable JetStream on the server and for the account, or set METRICS_SOURCE=core. If it is in a domain or in another account, check NATS_JETSTREAM_DOMAIN and NATS_JETSTREAM_API_PREFIX.',
      { cause: error },
    );
  }
  if (api === MAX_CONSUMERS) {
    return new BusError(
      `${doing}: the stream, or the account, may have no more consumers`,
      'Raise max_consumers of the stream (with older versions of nats-server a stream keeps it: make another), or the limit of the account. The service needs one, and one more for each sink that catches up, each verification and each command.',
      { cause: error },
    );
  }
  if (code === ErrorCode.PermissionsViolation) {
    return new BusError(
      `${doing}: the bus does not permit it`,
      'Give the user the permissions that examples/nats/metrics-fanout.conf gives the service, and set NATS_INBOX_PREFIX to the inboxes that it may use. To create the stream and the bucket, run once as the user setup, as that file describes.',
    );
  }
  if (code === ErrorCode.Timeout) {
    return new BusError(
      `${doing}: JetStream did not answer in time`,
      'Check the health of the server. Check that the user has the permissions that examples/nats/metrics-fanout.conf gives the service, and that its inboxes begin with NATS_INBOX_PREFIX.',
      { cause: error },
    );
  }
  return new BusError(`${doing}: ${reasonInWords(error)}`, 'Check the server and its log.', { cause: error });
}
