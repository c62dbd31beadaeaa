/** Stands in for the two APIs that give temporary credentials for a database, as the SDK calls them. */
import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

export interface Asked {
  readonly action: string;
  /** By name, as they were sent. */
  readonly parameters: Readonly<Record<string, string>>;
  /** The service and the region that the request was signed for. */
  readonly scope: string;
}

export interface Given {
  readonly user: string;
  readonly password: string;
  readonly validMs: number;
}

export interface Iam {
  readonly endpoint: string;
  readonly asked: Asked[];
  /** What it answers: credentials, the name of an error, or undefined for no answer at all. */
  give: (asked: Asked) => Promise<Given | string | undefined>;
  stop(): void;
}

const ERROR_STATUS = 400;
const NAMESPACE = 'http://redshift.amazonaws.com/doc/2012-12-01/';

export async function startIam(): Promise<Iam> {
  const server = createServer((incoming, outgoing) => void answer(incoming, outgoing));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const iam: Iam = {
    endpoint: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    asked: [],
    give: async () => undefined,
    stop() {
      server.close();
      server.closeAllConnections();
    },
  };

  async function answer(incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> {
    const body = Buffer.concat(await incoming.toArray()).toString();
    const asked = read(incoming, body);
    iam.asked.push(asked);
    const given = await iam.give(asked);
    if (given === undefined) return;
    const isJson = asked.scope.startsWith('redshift-serverless/');
    outgoing.writeHead(typeof given === 'string' ? ERROR_STATUS : 200, {
      'content-type': isJson ? 'application/x-amz-json-1.1' : 'text/xml',
    });
    outgoing.end(isJson ? asJson(given) : asXml(given, asked.action));
  }

  return iam;
}

/** Requests for a cluster use the query protocol, those for a workgroup use JSON. */
function read({ headers }: IncomingMessage, body: string): Asked {
  const [, region, service] =
    /Credential=[^/]+\/\d+\/([^/]+)\/([^/]+)\//.exec(headers.authorization ?? '') ?? [];
  const scope = `${service}/${region}`;
  const target = headers['x-amz-target'];
  if (typeof target === 'string') {
    return { action: target.replace(/.*\./, ''), parameters: JSON.parse(body), scope };
  }
  const { Action = '', Version: _, ...parameters } = Object.fromEntries(new URLSearchParams(body));
  return { action: Action, parameters, scope };
}

function asJson(given: Given | string): string {
  if (typeof given === 'string') return JSON.stringify({ __type: given, message: 'because' });
  const { user, password, validMs } = given;
  return JSON.stringify({ dbUser: user, dbPassword: password, expiration: (Date.now() + validMs) / 1000 });
}

function asXml(given: Given | string, action: string): string {
  if (typeof given === 'string') {
    const error = `<Error><Type>Sender</Type><Code>${given}</Code><Message>because</Message></Error>`;
    return `<ErrorResponse xmlns="${NAMESPACE}">${error}<RequestId>1</RequestId></ErrorResponse>`;
  }
  const { user, password, validMs } = given;
  const expires = new Date(Date.now() + validMs).toISOString();
  const result = `<DbUser>${user}</DbUser><DbPassword>${password}</DbPassword><Expiration>${expires}</Expiration>`;
  return `<${action}Response xmlns="${NAMESPACE}"><${action}Result>${result}</${action}Result></${action}Response>`;
}
