/** Values for the chart's tests: every sink with usual settings, everything that can be added, every toggle. */
import { SINKS } from '../../sinks/index.ts';
import { merged, type Values } from './chart.ts';

/** What each kind of sink needs; secrets in the values. */
export const SINK_VALUES: Readonly<Record<string, Values>> = {
  influxdb: {
    settings: { url: 'http://influxdb:8086', org: 'acme', bucket: 'metrics', timeout: '20s', priceMonth: 80 },
    secrets: { token: 'a token: "quoted" $(NOT_EXPANDED) $HOME' },
  },
  postgres: {
    settings: { table: 'metrics.points', partition: 'day', keep: '90d' },
    secrets: { url: 'postgres://user:pa%24s@postgres:5432/metrics' },
    files: { caFile: '-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n' },
  },
  redshift: {
    settings: { table: 'metrics.points' },
    secrets: { url: 'postgres://user:pa%24s@redshift:5439/metrics' },
    files: { caFile: '-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n' },
  },
  dynamodb: { settings: { region: 'eu-west-1', ttl: '30d', create: false, backlog: '128MB' } },
  sqlite: { settings: { priceGbMonth: 0.1 } },
  clickhouse: { settings: { url: 'http://clickhouse:8123', user: 'fanout' }, secrets: { password: 'p' } },
  prometheus: {
    settings: { url: 'http://prometheus:9090/api/v1/write' },
    secrets: { headers: 'x-scope-orgid=a' },
  },
  otlp: {
    settings: { url: 'http://collector:4318', sums: 'gauge' },
    secrets: { headers: 'api-key=k,b=c%2Cd' },
  },
  nats: { settings: { subject: 'windows', format: 'influx' } },
  parquet: { settings: { url: 's3://acme-lake/metrics', region: 'eu-west-1' } },
  blackhole: { settings: { delay: '5ms' } },
};

/** The same secrets, but in Secrets and ConfigMaps that exist. */
export const FROM_CLUSTER: Values = {
  secrets: { natsPassword: { secretName: 'nats', key: 'password' }, controlToken: 'a token in the values' },
  files: {
    natsTlsCaFile: { configMapName: 'ca', key: 'ca.crt' },
    natsTlsCertFile: { secretName: 'nats-tls', key: 'tls.crt' },
    natsTlsKeyFile: { secretName: 'nats-tls', key: 'tls.key' },
  },
  settings: { natsUser: 'fanout' },
  sinks: {
    influxdb: { secrets: { token: { secretName: 'influx', key: 'token' } } },
    redshift: {
      secrets: { url: { secretName: 'redshift', key: 'url' } },
      files: { caFile: { configMapName: 'ca', key: 'redshift.pem' } },
    },
    // A second sink of a kind, and one of a module.
    old_flux: {
      enabled: true,
      kind: 'influxdb',
      settings: { api: 'v1', url: 'http://old:8086', database: 'metrics', user: 'fanout' },
      secrets: { password: { secretName: 'influx', key: 'old' } },
    },
    archive: { enabled: true, kind: 'sqlite' },
  },
};

/** The contents of those. */
export const CLUSTER: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  'secret nats': { password: 'the password' },
  'secret nats-tls': { 'tls.crt': 'a certificate', 'tls.key': 'a key' },
  'secret influx': { token: 'the token', old: 'old' },
  'secret redshift': { url: 'postgres://u:p@redshift:5439/metrics' },
  'secret aws': { AWS_ACCESS_KEY_ID: 'id', AWS_SECRET_ACCESS_KEY: 'key' },
  'configMap ca': { 'ca.crt': 'an authority', 'redshift.pem': 'another' },
};

/** Everything that is off, or empty, by default. */
export const EXTRAS: Values = {
  image: { registry: 'registry.example.com', digest: `sha256:${'0'.repeat(64)}` },
  imagePullSecrets: [{ name: 'registry' }],
  // Some are the chart's own too.
  commonLabels: { team: 'platform', tier: 'all', 'app.kubernetes.io/instance': 'other' },
  settings: { window: '1m', maxSeries: 2_000_000, verifyShare: 0.5, metricsSubjects: 'metrics.>' },
  service: {
    type: 'LoadBalancer',
    port: 8080,
    annotations: { a: 'b' },
    podsAnnotations: { c: 'd' },
    ipFamilyPolicy: 'PreferDualStack',
    trafficDistribution: 'PreferClose',
    appProtocol: 'http',
  },
  serviceAccount: { annotations: { 'eks.amazonaws.com/role-arn': 'arn:aws:iam::1:role/fanout' } },
  serviceMonitor: {
    labels: { release: 'prometheus', 'app.kubernetes.io/name': 'other' },
    annotations: { a: 'b' },
    relabelings: [{ sourceLabels: ['__meta_kubernetes_pod_node_name'], targetLabel: 'node' }],
    metricRelabelings: [{ action: 'drop', sourceLabels: ['__name__'], regex: 'nodejs_.*' }],
  },
  podMonitor: { enabled: true, labels: { release: 'prometheus' }, relabelings: [{ targetLabel: 'a' }] },
  prometheusRule: {
    labels: { release: 'prometheus' },
    annotations: { a: 'b' },
    runbooks: 'https://wiki.example.com/runbooks',
    disabled: ['FanoutNoMessages'],
    extraRules: [{ alert: 'Own', expr: 'vector(1)' }],
  },
  dashboard: { annotations: { grafana_folder: 'NATS' } },
  podDisruptionBudget: { maxUnavailable: '50%' },
  networkPolicy: {
    from: [{ namespaceSelector: { matchLabels: { 'kubernetes.io/metadata.name': 'monitoring' } } }],
    egress: [{ to: [{ podSelector: {} }], ports: [{ port: 4222, protocol: 'TCP' }] }],
  },
  persistence: { storageClassName: 'fast', size: '20Gi', whenDeleted: 'Delete' },
  ingress: {
    enabled: true,
    className: 'nginx',
    annotations: { 'nginx.ingress.kubernetes.io/auth-type': 'basic' },
    hosts: ['a.example.com', '*.example.org'],
    path: '/fanout',
    tls: [{ hosts: ['a.example.com'], secretName: 'tls' }],
  },
  nodeSelector: { 'kubernetes.io/arch': 'amd64' },
  tolerations: [{ key: 'metrics', operator: 'Exists', effect: 'NoSchedule' }],
  affinity: {
    podAntiAffinity: {
      requiredDuringSchedulingIgnoredDuringExecution: [
        { topologyKey: 'kubernetes.io/hostname', labelSelector: { matchLabels: { a: 'b' } } },
      ],
    },
  },
  priorityClassName: 'high',
  runtimeClassName: 'gvisor',
  schedulerName: 'own',
  dnsPolicy: 'None',
  dnsConfig: { nameservers: ['10.0.0.10'] },
  hostAliases: [{ ip: '10.0.0.7', hostnames: ['nats'] }],
  podAnnotations: { 'sidecar.istio.io/inject': 'false' },
  podLabels: { tier: 'metrics', 'app.kubernetes.io/component': 'other' },
  statefulSetAnnotations: { 'reloader.stakater.com/auto': 'true' },
  updateStrategy: { type: 'RollingUpdate', rollingUpdate: { maxUnavailable: 2 } },
  minReadySeconds: 5,
  revisionHistoryLimit: 2,
  lifecycle: { preStop: { sleep: { seconds: 5 } } },
  resizePolicy: [{ resourceName: 'cpu', restartPolicy: 'NotRequired' }],
  initContainers: [{ name: 'wait', image: 'busybox:1', command: ['true'] }],
  extraContainers: [{ name: 'proxy', image: 'proxy:1', ports: [{ containerPort: 5432 }] }],
  merge: {
    statefulSet: { spec: { template: { spec: { preemptionPolicy: 'Never' } } } },
    service: { spec: { loadBalancerClass: 'internal' } },
    check: { spec: { activeDeadlineSeconds: 60 } },
  },
  extraEnv: [{ name: 'NODE_OPTIONS', value: '--max-old-space-size=512' }],
  extraEnvFrom: [{ secretRef: { name: 'aws' } }],
  extraVolumes: [{ name: 'modules', configMap: { name: 'modules' } }],
  extraVolumeMounts: [{ name: 'modules', mountPath: '/modules', readOnly: true }],
  extraObjects: [
    'apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {{ include "fanout.fullname" . }}-text\ndata: {a: b}\n',
    { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: '{{ .Release.Name }}-map' }, data: { a: 'b' } },
  ],
};

const TOGGLES = [
  ['serviceMonitor', 'enabled'],
  ['prometheusRule', 'enabled'],
  ['dashboard', 'enabled'],
  ['podDisruptionBudget', 'enabled'],
  ['networkPolicy', 'enabled'],
  ['topologySpread', 'enabled'],
  ['serviceAccount', 'create'],
  ['persistence', 'enabled'],
  ['profiles', 'enabled'],
  ['test', 'enabled'],
] as const;

const kinds = Object.keys(SINKS);
const isSet = (number: number, bit: number) => ((number >> bit) & 1) === 1;

/** Every kind of sink. Each is enabled if its bit of `number` is set. */
export function sinksOf(number: number): Values {
  return Object.fromEntries(
    kinds.map((kind, i) => [kind, { ...SINK_VALUES[kind], enabled: isSet(number, i) }]),
  );
}

/** Enough for every sink, and for those of FROM_CLUSTER. */
const ROOM: Values = { resources: { limits: { memory: '2Gi' } } };

export const EVERY_SINK: Values = { ...ROOM, sinks: sinksOf(2 ** kinds.length - 1) };

/** Every combination of toggles, each with other sinks, so that every set of sinks occurs at least once. */
export function combinations(): Values[] {
  return Array.from({ length: 2 ** TOGGLES.length }, (_, number) => {
    const toggles = TOGGLES.map(([part, key], i) => ({ [part]: { [key]: isSet(number, i) } }));
    const sets = 2 ** kinds.length;
    const sinks = { sinks: sinksOf(number % sets) };
    // 3 and 5 share no factor with the powers of two that the others follow.
    const more = [...(number % 3 === 0 ? [EXTRAS] : []), ...(number % 5 === 0 ? [FROM_CLUSTER] : [])];
    // A sqlite sink has no standby.
    const hasFiles = number % sets === 0 || isSet(number, kinds.indexOf('sqlite')) || number % 5 === 0;
    const pods = { replicas: 1 + (number % 7), standby: hasFiles ? 0 : number % 4 };
    return [ROOM, sinks, ...more, ...toggles, pods].reduce(merged, {});
  });
}
