/**
 * The Unix socket over which `ctl` controls the service without a token: only the user that the service runs as can
 * open it. Where a request comes from says less: port-forwards, sidecars and proxies all come from this machine.
 */
import { lstatSync, mkdirSync, unlinkSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { errorText } from '../base/error-text.ts';
import type { Log } from '../base/log.ts';
import type { Config } from '../config/config.ts';
import { isSocketPath } from '../config/socket-path.ts';
import type { ServiceHttp } from '../observe/http-server.ts';
import { ListenError } from '../observe/listen-error.ts';

const FOLDER_MODE = 0o700;
const NOT_OURS = 0o077;
const ADVICE =
  'Set CONTROL_SOCKET to a path in a folder that only this user can write to, or to off; see docs/control.md.';

type Core = Pick<Config['core'], 'controlSocket' | 'pipeline'>;

/** Returns the path for CONTROL_SOCKET=auto, in a folder of the user's own; undefined if the system has no users. */
function defaultPath(pipeline: string, port: number): string | undefined {
  const user = process.getuid?.();
  return user === undefined
    ? undefined
    : join(tmpdir(), `metrics-fanout-${user}`, `${pipeline}-${port}.sock`);
}

/**
 * Serves control on the socket too. If that is impossible, there is no default socket, and the log says so; for a path
 * that was set, it is an error (`ListenError`).
 */
export async function openControlSocket(http: ServiceHttp, core: Core, log: Log): Promise<void> {
  const { controlSocket, pipeline } = core;
  if (controlSocket === 'off') return;
  const path = controlSocket === 'auto' ? defaultPath(pipeline, http.port) : controlSocket;
  try {
    if (path === undefined) throw new Error('this system has no user ids');
    if (controlSocket === 'auto') makeOwnFolder(path);
    await listenAt(http, path);
    log.info({ path }, 'control socket opened');
  } catch (error) {
    if (controlSocket !== 'auto') throw new ListenError(controlSocket, error, ADVICE);
    const reason = errorText(error);
    log.warn({ path, error: reason }, `there is no control socket. ${ADVICE}`);
  }
}

/** Returns the socket of the service with this environment on this machine, if there is one that can be trusted. */
export function findControlSocket(core: Core & Pick<Config['core'], 'httpPort'>): string | undefined {
  const { controlSocket, pipeline, httpPort } = core;
  if (controlSocket === 'off') return undefined;
  const path = controlSocket === 'auto' ? defaultPath(pipeline, httpPort) : controlSocket;
  if (path === undefined || !isSocket(path)) return undefined;
  // Anyone may make a folder of that name in the temporary folder, and listen there in our place.
  return controlSocket === 'auto' && !isOwnFolder(dirname(path)) ? undefined : path;
}

function makeOwnFolder(path: string): void {
  if (!isSocketPath(path)) throw new Error('the path is too long');
  const folder = dirname(path);
  try {
    mkdirSync(folder, { mode: FOLDER_MODE });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  }
  if (!isOwnFolder(folder)) throw new Error(`others than this user may write to ${folder}`);
}

function isOwnFolder(folder: string): boolean {
  const found = lstatSync(folder, { throwIfNoEntry: false });
  return found?.isDirectory() === true && found.uid === process.getuid?.() && (found.mode & NOT_OURS) === 0;
}

function isSocket(path: string): boolean {
  try {
    return lstatSync(path).isSocket();
  } catch {
    return false;
  }
}

/** Replaces a socket that a killed process left. Never removes anything else. */
async function listenAt(http: ServiceHttp, path: string): Promise<void> {
  try {
    await http.listenOn(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EADDRINUSE') throw error;
    if (!isSocket(path)) throw new Error('there is something else at this path');
    if (await isListenedTo(path)) throw new Error('another process listens there');
    unlinkSync(path);
    await http.listenOn(path);
  }
}

/** Only a refused connection proves that nobody listens. */
function isListenedTo(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    socket.on('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.on('error', (error: NodeJS.ErrnoException) => resolve(error.code !== 'ECONNREFUSED'));
  });
}
