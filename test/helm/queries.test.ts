import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { Telemetry } from '../../src/observe/telemetry.ts';
import { temporaryFolder } from '../../src/servers/server-process.ts';
import { snapshot } from '../../src/service/snapshot.ts';
import { detachedParts } from '../observe/parts.ts';
import { alertQueries, DASHBOARD, dashboardQueries, metricsOf } from './queries.ts';

/** What the service exports before it is attached, which has every name already. */
async function exported(): Promise<readonly string[]> {
  const parts = await detachedParts();
  const text = await new Telemetry(() => snapshot(parts, 0)).text();
  return [...text.matchAll(/^# TYPE (\S+) (\S+)$/gm)].flatMap(([, name, type]) =>
    type === 'histogram' ? ['bucket', 'sum', 'count'].map((part) => `${name}_${part}`) : [name!],
  );
}

test('dashboard and alerts name only metrics that the service or its cluster exports', async () => {
  // Prometheus adds the first itself; the others are those of kube-state-metrics, about the pods of the chart.
  const ofOthers = [
    'up',
    'kube_pod_container_status_last_terminated_exitcode',
    'kube_pod_container_status_ready',
  ];
  const known = [...ofOthers, ...(await exported())];
  const queries = [...dashboardQueries('5m'), ...alertQueries()];
  expect(queries.length).toBeGreaterThan(60);
  for (const { title, expr } of queries) {
    expect(metricsOf(expr).length, title).toBeGreaterThan(0);
    expect(
      metricsOf(expr).filter((name) => !known.includes(name)),
      title,
    ).toEqual([]);
  }
  for (const { definition } of DASHBOARD.templating.list)
    if (definition !== undefined) expect(known).toContain(/^label_values\((\w+)\{/.exec(definition)?.[1]);
});

test('every metric of ours is in the dashboard or an alert, except those that say how reading is shared', async () => {
  const used = new Set([...dashboardQueries('5m'), ...alertQueries()].flatMap(({ expr }) => metricsOf(expr)));
  const ours = (await exported()).filter((name) => name.startsWith('fanout_') && !/_(sum|count)$/.test(name));
  // They say how work is shared, or done again: there is nothing to act on.
  const left = ['fanout_samples_ignored_total', 'fanout_samples_reopened_total'];
  expect(ours.filter((name) => !used.has(name)).sort()).toEqual(
    [...left, 'fanout_source_gap_messages_total'].sort(),
  );
});

test('promtool can read every query of the dashboard', () => {
  const folder = temporaryFolder('queries');
  try {
    const rules = dashboardQueries('5m').map(({ expr }, i) => ({ record: `panel:${i}`, expr }));
    const file = join(folder.path, 'rules.json');
    // JSON is YAML.
    writeFileSync(file, JSON.stringify({ groups: [{ name: 'dashboard', rules }] }));
    const { status, stdout, stderr } = spawnSync('promtool', ['check', 'rules', file], { encoding: 'utf8' });
    expect(stdout + stderr).toContain(`${rules.length} rules found`);
    expect(status).toBe(0);
  } finally {
    folder.remove();
  }
});

test("the dashboard's panels have unique ids and places, and use exactly the variables that it defines", () => {
  const { panels, templating } = DASHBOARD;
  expect(new Set(panels.map(({ id }) => id)).size).toBe(panels.length);
  expect(new Set(panels.map(({ gridPos }) => JSON.stringify(gridPos))).size).toBe(panels.length);
  const variables = templating.list.map(({ name }) => name);
  const named = [...JSON.stringify(panels).matchAll(/\$\{?([a-z]\w*)/g)].map(([, name]) => name!);
  expect([...new Set(named)].sort()).toEqual([...variables].sort());
});
