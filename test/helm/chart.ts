/** Renders the chart in helm/ with values on top of its own, as helm does, and checks values against its schema. */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Ajv } from 'ajv';
import { parse, parseAllDocuments } from 'yaml';
import { temporaryFolder } from '../../src/servers/server-process.ts';

export const CHART = fileURLToPath(new URL('../../helm', import.meta.url));
const RENDERER = fileURLToPath(new URL('./render/main.go', import.meta.url));
/** Where Debian has the sources of Go's libraries. */
const LIBRARIES = '/usr/share/gocode';
const MAX_OUTPUT_BYTES = 2 ** 30;

const NOTES = 'templates/NOTES.txt';

/** By name, the index of the text. */
type Files = Readonly<Record<string, number>>;

interface Answer {
  readonly texts: readonly string[];
  readonly results: readonly { readonly files?: Files; readonly error?: string }[];
}

export type Values = Readonly<Record<string, unknown>>;

export interface Release {
  readonly name: string;
  readonly namespace: string;
}

export const RELEASE: Release = { name: 'shop', namespace: 'metrics' };

/** What every object has; the rest is looked at where it matters. */
export interface KubernetesObject {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly labels?: Readonly<Record<string, string>> };
  // biome-ignore lint/suspicious/noExplicitAny: of any kind; validated by the models of Kubernetes.
  readonly [key: string]: any;
}

export interface Rendered {
  /** Results share equal objects: do not change them. */
  readonly objects: readonly KubernetesObject[];
  readonly notes: string;
}

export interface Renderer {
  /** For files of the test. `remove` deletes it. */
  readonly folder: string;
  /** In the order of the values. A string says what is wrong with them. `cluster`: what an upgrade finds there. */
  render(values: readonly Values[], cluster?: readonly KubernetesObject[]): (Rendered | string)[];
  remove(): void;
}

export const DEFAULTS: Values = parse(readFileSync(join(CHART, 'values.yaml'), 'utf8'));

/** Compiles the renderer. */
export function startRenderer(): Renderer {
  const folder = temporaryFolder('helm');
  const program = join(folder.path, 'render');
  // Some releases of Debian leave out the folder of the version.
  const sprig = 'src/github.com/Masterminds/sprig';
  const versioned = join(LIBRARIES, sprig, 'v3');
  mkdirSync(join(folder.path, sprig), { recursive: true });
  symlinkSync(existsSync(versioned) ? versioned : join(LIBRARIES, sprig), join(folder.path, sprig, 'v3'));
  const env = { GO111MODULE: 'off', GOPATH: `${folder.path}:${LIBRARIES}`, CGO_ENABLED: '0', GOFLAGS: '' };
  const built = spawnSync('go', ['build', '-o', program, RENDERER], {
    encoding: 'utf8',
    env: { ...process.env, ...env },
  });
  if (built.status !== 0) throw new Error(`go build: ${built.stderr ?? built.error}`);
  return {
    folder: folder.path,
    remove: folder.remove,
    render(values, cluster = []) {
      const renders = values.map((given) => ({
        ...RELEASE,
        values: merged(DEFAULTS, given),
        isUpgrade: cluster.length > 0,
        cluster: Object.fromEntries(cluster.map((one) => [`${one.kind} ${one.metadata.name}`, one])),
        kubeVersion: 'v1.33.0',
        apiVersions: ['v1', 'apps/v1', 'monitoring.coreos.com/v1'],
      }));
      const input = JSON.stringify({ chart: CHART, renders });
      const { status, stdout, stderr } = spawnSync(program, {
        input,
        encoding: 'utf8',
        maxBuffer: MAX_OUTPUT_BYTES,
        // It ends soon: collecting garbage often is not worth it.
        env: { GOGC: '400' },
      });
      if (status !== 0) throw new Error(stderr);
      const { texts, results } = JSON.parse(stdout) as Answer;
      return results.map(({ files, error }) => (files === undefined ? error! : renderedOf(files, texts)));
    },
  };
}

/** As helm does it: maps are merged, everything else is replaced, and null removes a key. */
export function merged(base: Values, over: Values): Values {
  const result: Record<string, unknown> = { ...base };
  for (const [key, value] of Object.entries(over)) {
    if (value === null) delete result[key];
    else result[key] = isMap(value) && isMap(base[key]) ? merged(base[key], value) : value;
  }
  return result;
}

function isMap(value: unknown): value is Values {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** Most files are the same whatever the values. */
const parsed = new Map<string, readonly KubernetesObject[]>();

function renderedOf({ [NOTES]: notes, ...files }: Files, texts: readonly string[]): Rendered {
  const objects = Object.values(files).flatMap((index) => {
    const text = texts[index]!;
    const known = parsed.get(text) ?? objectsOf(text);
    parsed.set(text, known);
    return known;
  });
  return { objects, notes: texts[notes!]! };
}

/** Throws if the text is not YAML, or has a key twice. */
export function objectsOf(text: string): KubernetesObject[] {
  const documents = parseAllDocuments(text, { uniqueKeys: true });
  return (Array.isArray(documents) ? documents : []).flatMap((document) => {
    const [error] = document.errors;
    if (error) throw new Error(`${error.message}\n${text}`);
    const value = document.toJSON() as KubernetesObject | null;
    return value === null ? [] : [value];
  });
}

/** What the schema says is wrong with values on top of the chart's own. */
export function schemaErrors(): (values: Values) => readonly string[] {
  const validate = new Ajv({ allErrors: true, strict: false }).compile(
    JSON.parse(readFileSync(join(CHART, 'values.schema.json'), 'utf8')),
  );
  return (values) => {
    validate(merged(DEFAULTS, values));
    return (validate.errors ?? []).map(
      ({ instancePath, message, params }) => `${instancePath} ${message} ${JSON.stringify(params)}`,
    );
  };
}
