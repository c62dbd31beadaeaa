/** The queries of dashboard and alerts. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parse } from 'yaml';
import { CHART } from './chart.ts';

export interface Query {
  /** Of the panel or alert. */
  readonly title: string;
  readonly expr: string;
}

interface Panel {
  readonly title: string;
  readonly type: string;
  readonly targets?: readonly { readonly expr: string; readonly legendFormat: string }[];
}

export interface Dashboard {
  readonly panels: readonly (Panel & { readonly id: number; readonly gridPos: object })[];
  readonly templating: { readonly list: readonly { readonly name: string; readonly definition?: string }[] };
}

export const DASHBOARD: Dashboard = JSON.parse(
  readFileSync(join(CHART, 'dashboards', 'metrics-fanout.json'), 'utf8'),
);

/** As Grafana would send them. */
export function dashboardQueries(rateInterval: string): Query[] {
  return DASHBOARD.panels.flatMap(({ title, targets = [] }) =>
    targets.map(({ expr }) => ({
      title,
      expr: expr.replaceAll('$__rate_interval', rateInterval).replace(/\$(instance|sink)/g, '.*'),
    })),
  );
}

export function alertQueries(): Query[] {
  const { groups } = parse(readFileSync(join(CHART, 'rules', 'metrics-fanout.yaml'), 'utf8'));
  return groups.flatMap(({ rules }: { rules: { alert: string; expr: string }[] }) =>
    rules.map(({ alert, expr }) => ({ title: alert, expr })),
  );
}

const LABEL_LISTS = /\b(?:by|on|without|group_left|group_right)\s*\([^)]*\)/g;
const WORDS_OF_PROMQL = ['or', 'and', 'unless', 'offset'];

/** Every word that is not a label, function, keyword, number or duration. */
export function metricsOf(expr: string): string[] {
  const bare = expr
    .replace(/\{[^}]*\}|\[[^\]]*\]/g, '')
    .replace(LABEL_LISTS, '')
    .replace(/\boffset \w+/g, '');
  const words = [...bare.matchAll(/(?<![\w.])([a-zA-Z_]\w*)\b(?!\s*\()/g)].map(([, word]) => word!);
  return words.filter((word) => !WORDS_OF_PROMQL.includes(word));
}
