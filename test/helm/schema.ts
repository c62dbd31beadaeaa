/** The schema of the chart's values. What a setting accepts comes from the service's own settings. */

import { SINKS } from '../../sinks/index.ts';
import { CORE_SETTINGS } from '../../src/config/core-settings.ts';
import { SINK_SETTINGS, settingsOf } from '../../src/config/sink-config.ts';
import { setting } from '../../src/settings/builders.ts';
import type { Setting, Settings } from '../../src/settings/setting.ts';

type Schema = Readonly<Record<string, unknown>>;
type Properties = Readonly<Record<string, Schema>>;

/** What the chart sets by itself, from other values. */
const OF_THE_CHART = ['slice', 'httpPort', 'stopTimeout', 'controlSocket', 'controlProfileDir'];

const text = { type: 'string' };
const filled = { type: 'string', minLength: 1 };
const flag = { type: 'boolean' };
const whole = (minimum: number) => ({ type: 'integer', minimum });
const texts = { type: 'object', additionalProperties: text };
/** As Kubernetes defines it: a validation of our own would only lag behind. */
const open = { type: 'object' };
const openList = { type: 'array', items: open };

function object(properties: Properties, more: Schema = {}): Schema {
  return { type: 'object', additionalProperties: false, properties, ...more };
}

/** Without these the chart cannot render. `null` for one of them removes it, and is refused by its name. */
function needing(properties: Properties, ...keys: string[]): Schema {
  return object(properties, { required: keys });
}

/** The schema of a setting's text, as users write it in YAML. */
function accepts({ expected, meaning }: Setting<unknown>): Schema {
  return { description: meaning, ...shapeOf(expected) };
}

function shapeOf(expected: string): Schema {
  const [, min, max] = /^a whole number from (-?\d+) to (\d+)$/.exec(expected) ?? [];
  if (min !== undefined) {
    return { type: ['integer', 'string'], pattern: '^-?\\d+$', minimum: Number(min), maximum: Number(max) };
  }
  const [, choices] = /^one of (.*)$/.exec(expected) ?? [];
  if (choices !== undefined) return { enum: choices.split(', ') };
  switch (expected) {
    case setting.boolean({ meaning: '' }).expected:
      return { enum: [true, false, 'true', 'false'] };
    case setting.duration({ meaning: '' }).expected:
    case setting.interval({ meaning: '' }).expected:
    case setting.timeout({ meaning: '' }).expected:
    case CORE_SETTINGS.window.expected:
      return { type: 'string', pattern: '^\\d+(\\.\\d+)?\\s*(ms|s|m|h|d)$' };
    case setting.bytes({ meaning: '' }).expected:
    case CORE_SETTINGS.maxSeriesBytes.expected:
      return { type: 'string', pattern: '^\\d+(\\.\\d+)?\\s*([KMGT]i?)?B$' };
    case setting.httpUrl({ meaning: '' }).expected:
      return { type: 'string', pattern: '^https?://' };
    case CORE_SETTINGS.verifyShare.expected:
      return { type: ['number', 'string'], minimum: 0, maximum: 1, pattern: '^\\d*\\.?\\d+$' };
    default:
      // An amount may be a number; so may a name that looks like one.
      return expected.startsWith('an amount') ? { type: ['number', 'string'], minimum: 0 } : filled;
  }
}

/** Addresses may contain a password, so they can be secrets too. What else is masked can only be a secret. */
const isAddress = ({ expected }: Setting<unknown>) =>
  /^(a URL that starts with http|NATS servers)/.test(expected);
const namesFile = (key: string) => key.endsWith('File');

/** A text or a reference to one. A text may have a minimum length. */
function secretShape({ expected }: Setting<unknown>): Schema {
  const secret = { $ref: '#/definitions/secret' };
  const [, length] = /^a secret of at least (\d+) characters$/.exec(expected) ?? [];
  if (length === undefined) return secret;
  return { if: text, else: secret, ...thenText(Number(length)) };
}

// biome-ignore lint/suspicious/noThenProperty: JSON Schema calls it that.
const thenText = (minLength: number) => ({ then: { minLength } });

/** Settings, secrets and files of the service, or of a kind of sink. */
function partsOf(all: Settings): { settings: Schema; secrets: Schema; files: Schema } {
  const entries = Object.entries(all).filter(([key]) => !OF_THE_CHART.includes(key));
  const pick = (
    wanted: (key: string, one: Setting<unknown>) => boolean,
    of: (one: Setting<unknown>) => Schema,
  ) =>
    object(
      Object.fromEntries(
        entries.filter(([key, one]) => wanted(key, one)).map(([key, one]) => [key, of(one)]),
      ),
    );
  return {
    settings: pick((key, one) => !namesFile(key) && (one.mask === undefined || isAddress(one)), accepts),
    secrets: pick((_, one) => one.mask !== undefined, secretShape),
    files: pick(namesFile, () => ({ $ref: '#/definitions/file' })),
  };
}

/** If the sink is on, the settings that its kind needs are required. */
function required(all: Settings): Schema {
  const keys = Object.entries(all)
    .filter(([, one]) => one.default === undefined && !one.optional)
    .map(([key]) => key);
  if (keys.length === 0) return {};
  const given = (part: string, key: string) => ({
    required: [part],
    properties: { [part]: { required: [key] } },
  });
  return {
    if: { required: ['enabled'], properties: { enabled: { const: true } } },
    // biome-ignore lint/suspicious/noThenProperty: JSON Schema calls it that.
    then: { allOf: keys.map((key) => ({ anyOf: [given('settings', key), given('secrets', key)] })) },
  };
}

/** Without `enabled` and `kind`, which the chart has outside of the settings. */
const { enabled: _enabled, kind: _kind, ...EVERY_SINK } = SINK_SETTINGS;

async function sinksSchema(): Promise<Schema> {
  const kinds = await Promise.all(
    Object.entries(SINKS).map(async ([kind, load]) => {
      const all = { ...EVERY_SINK, ...settingsOf(await load()) };
      const parts = partsOf(all);
      if (kind === 'sqlite') {
        const { properties } = parts.settings as { properties: Properties };
        parts.settings = object({ ...properties, path: { type: 'string', pattern: '^/data/' } });
      }
      if (kind === 'parquet') {
        const { properties } = parts.settings as { properties: Properties };
        parts.settings = object({
          ...properties,
          url: { type: 'string', pattern: '^(s3://|file:///data/)' },
        });
      }
      return { kind, parts, needs: required(all) };
    }),
  );
  const secret = { $ref: '#/definitions/secret' };
  const file = { $ref: '#/definitions/file' };
  const map = (values: Schema) => ({
    type: 'object',
    propertyNames: { pattern: '^[a-z][a-zA-Z0-9]*$' },
    additionalProperties: values,
  });
  const further = {
    ...object(
      {
        enabled: flag,
        kind: filled,
        settings: map({ type: ['string', 'number', 'boolean'] }),
        secrets: map(secret),
        files: map(file),
      },
      { required: ['kind'] },
    ),
    allOf: kinds.map(({ kind, parts, needs }) => ({
      if: { required: ['kind'], properties: { kind: { const: kind } } },
      // biome-ignore lint/suspicious/noThenProperty: JSON Schema calls it that.
      then: { properties: parts, ...(Object.keys(needs).length > 0 ? { allOf: [needs] } : {}) },
    })),
  };
  return {
    ...object(
      Object.fromEntries(
        kinds.map(({ kind, parts, needs }) => [kind, { ...object({ enabled: flag, ...parts }), ...needs }]),
      ),
    ),
    propertyNames: { pattern: '^[a-z][a-z0-9_]*$' },
    additionalProperties: further,
  };
}

const probe = object({
  initialDelaySeconds: whole(0),
  periodSeconds: whole(1),
  timeoutSeconds: whole(1),
  failureThreshold: whole(1),
  successThreshold: whole(1),
});

const duration = { type: 'string', pattern: '^\\d+(ms|s|m|h)$' };
const quantity = { type: 'string', pattern: '^\\d+(\\.\\d+)?([KMGTPE]i?)?$' };

const pullSecrets = { type: 'array', items: object({ name: filled }, { required: ['name'] }) };
const named = { type: 'array', items: { ...open, required: ['name'], properties: { name: filled } } };
const monitor = object({
  enabled: flag,
  interval: duration,
  scrapeTimeout: duration,
  labels: texts,
  annotations: texts,
  relabelings: openList,
  metricRelabelings: openList,
});

const path = { type: 'string', pattern: '^/' };

/** What more holds if the object is made. */
const whenEnabled = (properties: Properties): Schema => ({
  if: { properties: { enabled: { const: true } }, required: ['enabled'] },
  // biome-ignore lint/suspicious/noThenProperty: JSON Schema calls it that.
  then: { properties, required: Object.keys(properties) },
});

/** The objects that take more fields from the value `merge`. */
const MERGED = [
  'statefulSet',
  'service',
  'podsService',
  'networkPolicy',
  'podDisruptionBudget',
  'serviceMonitor',
  'podMonitor',
  'prometheusRule',
  'ingress',
  'httpRoute',
  'check',
];

export async function valuesSchema(): Promise<Schema> {
  const core = partsOf(CORE_SETTINGS);
  const inSecret = object({ secretName: filled, key: filled }, { required: ['secretName', 'key'] });
  const inConfigMap = object({ configMapName: filled, key: filled }, { required: ['configMapName', 'key'] });
  return {
    $schema: 'http://json-schema.org/draft-07/schema#',
    definitions: {
      secret: { anyOf: [filled, inSecret] },
      file: { anyOf: [filled, inSecret, inConfigMap] },
    },
    if: { properties: { dnsPolicy: { const: 'None' } }, required: ['dnsPolicy'] },
    // biome-ignore lint/suspicious/noThenProperty: JSON Schema calls it that.
    then: { properties: { dnsConfig: { minProperties: 1 } } },
    ...needing(
      {
        // Helm's own, for charts that are part of others.
        global: {
          ...open,
          properties: { imageRegistry: text, imagePullSecrets: pullSecrets },
        },
        replicas: { type: 'integer', minimum: 1, maximum: 1024 },
        standby: { type: 'integer', minimum: 0, maximum: 3 },
        partitions: { type: 'integer', minimum: 1, maximum: 64 },
        partitioning: needing(
          {
            subjects: { type: 'string', pattern: '^[^*\\s]*\\*[^\\s]*$' },
            tokens: { type: 'array', minItems: 1, items: whole(1) },
            prefix: { type: 'string', pattern: '^[A-Za-z0-9_-]+(\\.[A-Za-z0-9_-]+)*$' },
          },
          'subjects',
          'tokens',
          'prefix',
        ),
        image: needing(
          {
            registry: text,
            repository: filled,
            tag: text,
            digest: { type: 'string', pattern: '^(sha256:[0-9a-f]{64})?$' },
            pullPolicy: { enum: ['Always', 'IfNotPresent', 'Never'] },
          },
          'repository',
          'pullPolicy',
        ),
        imagePullSecrets: pullSecrets,
        nameOverride: text,
        fullnameOverride: text,
        namespaceOverride: text,
        commonLabels: texts,
        ...core,
        sinks: await sinksSchema(),
        persistence: needing(
          {
            enabled: flag,
            size: quantity,
            storageClassName: text,
            accessModes: {
              type: 'array',
              minItems: 1,
              items: { enum: ['ReadWriteOnce', 'ReadWriteOncePod', 'ReadWriteMany'] },
            },
            whenDeleted: { enum: ['Retain', 'Delete'] },
            whenScaled: { enum: ['Retain', 'Delete'] },
          },
          'enabled',
          'size',
          'accessModes',
          'whenDeleted',
          'whenScaled',
        ),
        profiles: object(
          { enabled: flag, sizeLimit: quantity },
          { dependencies: { enabled: ['sizeLimit'] } },
        ),
        stopTimeoutSeconds: { type: 'integer', minimum: 1, maximum: 3600 },
        service: needing(
          {
            type: { enum: ['ClusterIP', 'NodePort', 'LoadBalancer'] },
            port: { type: 'integer', minimum: 1, maximum: 65_535 },
            annotations: texts,
            podsAnnotations: texts,
            ipFamilyPolicy: { enum: ['', 'SingleStack', 'PreferDualStack', 'RequireDualStack'] },
            trafficDistribution: text,
            appProtocol: text,
          },
          'type',
          'port',
        ),
        ingress: object({
          enabled: flag,
          className: text,
          labels: texts,
          annotations: texts,
          hosts: { type: 'array', items: filled },
          path,
          tls: openList,
        }),
        httpRoute: {
          ...object({
            enabled: flag,
            labels: texts,
            annotations: texts,
            parentRefs: openList,
            hostnames: { type: 'array', items: filled },
            path,
          }),
          ...whenEnabled({ parentRefs: { minItems: 1 } }),
        },
        serviceAccount: object({ create: flag, name: text, annotations: texts }),
        serviceMonitor: monitor,
        podMonitor: monitor,
        prometheusRule: object({
          enabled: flag,
          labels: texts,
          annotations: texts,
          runbooks: filled,
          disabled: { type: 'array', items: filled },
          extraRules: openList,
        }),
        dashboard: object({ enabled: flag, labels: texts, annotations: texts }),
        podDisruptionBudget: object(
          {
            enabled: flag,
            maxUnavailable: { anyOf: [whole(0), { type: 'string', pattern: '^\\d+%$' }] },
          },
          { dependencies: { enabled: ['maxUnavailable'] } },
        ),
        networkPolicy: object({ enabled: flag, from: openList, egress: openList }),
        topologySpread: object({ enabled: flag, constraints: openList }),
        probes: object({ startup: probe, liveness: probe, readiness: probe }),
        resources: open,
        podSecurityContext: open,
        securityContext: open,
        nodeSelector: texts,
        tolerations: openList,
        affinity: open,
        priorityClassName: text,
        runtimeClassName: text,
        schedulerName: text,
        dnsPolicy: { enum: ['', 'ClusterFirst', 'ClusterFirstWithHostNet', 'Default', 'None'] },
        dnsConfig: open,
        hostAliases: openList,
        podAnnotations: texts,
        podLabels: texts,
        statefulSetAnnotations: texts,
        updateStrategy: open,
        minReadySeconds: whole(0),
        revisionHistoryLimit: whole(0),
        lifecycle: open,
        resizePolicy: openList,
        initContainers: named,
        extraContainers: named,
        extraEnv: named,
        extraEnvFrom: openList,
        extraVolumes: named,
        extraVolumeMounts: openList,
        extraObjects: { type: 'array', items: { type: ['string', 'object'] } },
        merge: object(Object.fromEntries(MERGED.map((key) => [key, open]))),
        test: object({ enabled: flag }),
      },
      'replicas',
      'partitioning',
      'image',
      'persistence',
      'stopTimeoutSeconds',
      'service',
    ),
  };
}
