/** What the documents and the deployment files name exists: files, npm scripts, options, routes, metrics. */
import assert from 'node:assert/strict';
import { existsSync, readdirSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { test } from 'node:test';
import { OPTION_KEYS, environmentOf, flagOf } from '#dist/config.js';
import { ERROR_CODES } from '#dist/errors.js';
import { ROOT, codeBlocks, documents, readPackage, readText } from './support/files.js';

const DEPLOYMENT = readdirSync(join(ROOT, 'deploy')).map((name) => join('deploy', name));
const FLAGS = new Set([...OPTION_KEYS.map(flagOf), '--config', '--help', '--json', '--model', '--cache-dir']);
const VARIABLES = new Set([...OPTION_KEYS.map(environmentOf), 'PAPILLON_CONFIG', 'PAPILLON_URL']);

function matches(text: string, pattern: RegExp): string[] {
  return [...text.matchAll(pattern)].map((match) => match.at(1) ?? match[0]);
}

test('links between documents lead somewhere', () => {
  for (const name of documents()) {
    for (const target of matches(readText(name), /\]\(([^)#\s]+)[^)]*\)/g)) {
      if (/^[a-z]+:/.test(target)) continue;
      const file = normalize(join(dirname(name), target));
      assert.ok(existsSync(join(ROOT, file)), `${name} links to ${target}`);
    }
  }
});

test('source files that documents name exist', () => {
  const sources = ['src', 'test', 'bench'].flatMap((folder) =>
    readdirSync(join(ROOT, folder), { recursive: true, encoding: 'utf8' }).map(
      (name) => `/${folder}/${name}`,
    ),
  );
  for (const name of documents()) {
    for (const file of matches(readText(name), /`([\w./-]+\.ts)`/g)) {
      assert.ok(
        sources.some((source) => source.endsWith(`/${file}`)),
        `${name}: ${file}`,
      );
    }
  }
});

test('npm scripts that documents name exist', () => {
  const { scripts } = readPackage();
  for (const name of documents()) {
    for (const script of matches(readText(name), /\bnpm run ([a-z][\w:-]*)/g)) {
      assert.ok(script in scripts, `${name}: npm run ${script}`);
    }
  }
});

test('options that documents and deployment files name exist', () => {
  const served = [...documents(), ...DEPLOYMENT, 'Dockerfile'];
  for (const name of served) {
    const text = readText(name);
    for (const variable of matches(text, /\bPAPILLON_[A-Z_]+\b/g)) {
      assert.ok(VARIABLES.has(variable), `${name}: ${variable}`);
    }
    for (const line of text.split('\n').filter((l) => /\bserve\b|'--|- --/.test(l) && !l.includes('npm '))) {
      for (const flag of matches(line, /(?<![\w-])(--[a-z][a-z-]+)/g)) {
        assert.ok(FLAGS.has(flag), `${name}: ${flag}`);
      }
    }
  }
});

test('probes ask routes that exist', () => {
  const routes = new Set(['/healthz', '/readyz', '/v2/health/live', '/v2/health/ready', '/metrics']);
  for (const name of DEPLOYMENT.filter((file) => file.endsWith('.yaml'))) {
    const paths = matches(readText(name), /\bpath: (\/\S+)/g);
    assert.ok(paths.length > 0, name);
    for (const path of paths) assert.ok(routes.has(path), `${name}: ${path}`);
  }
});

test('dashboard and alerts use metrics, labels and outcomes that exist', () => {
  const rows = matches(readText('docs/metrics.md'), /^\| `(papillon_.*)$/gm).map((row) => row.split(' | '));
  const metrics = new Map(
    rows.map(([name = '', type, , labels = '']) => [
      name.replace('`', ''),
      { type, labels: new Set(matches(labels, /`(\w+)`/g)) },
    ]),
  );
  const added = new Set(['instance', 'le', 'job']);
  for (const name of ['deploy/grafana-dashboard.json', 'deploy/prometheus-rules.yml']) {
    const text = readText(name).replaceAll('\\"', '"');
    for (const [, series = '', selector = ''] of text.matchAll(/\b(papillon_\w+)(?:\{([^}]*)\})?/g)) {
      const part = /^(.*)_(bucket|sum|count)$/.exec(series);
      const metric = metrics.get(series) ?? metrics.get(part?.[1] ?? '');
      assert.ok(metric, `${name}: ${series}`);
      if (part && !metrics.has(series)) assert.equal(metric.type, 'histogram', `${name}: ${series}`);
      for (const label of matches(selector, /(\w+)\s*(?:=|!=|=~|!~)"/g)) {
        assert.ok(added.has(label) || metric.labels.has(label), `${name}: ${series}{${label}}`);
      }
      for (const outcomes of matches(selector, /outcome=~?"([^"]*)"/g)) {
        for (const code of outcomes.split('|')) assert.ok(code in ERROR_CODES, `${name}: ${code}`);
      }
    }
  }
});

test('the dashboard is valid JSON, its panels are numbered and do not overlap', () => {
  const { panels } = JSON.parse(readText('deploy/grafana-dashboard.json')) as {
    panels: { id: number; gridPos: { x: number; y: number; w: number; h: number } }[];
  };
  assert.equal(new Set(panels.map(({ id }) => id)).size, panels.length);
  const cells = new Set<string>();
  for (const { gridPos } of panels) {
    for (let x = gridPos.x; x < gridPos.x + gridPos.w; x++) {
      for (let y = gridPos.y; y < gridPos.y + gridPos.h; y++) {
        assert.ok(x < 24 && !cells.has(`${x},${y}`), `panels overlap at ${x},${y}`);
        cells.add(`${x},${y}`);
      }
    }
  }
});

test('JSON in documents is JSON', () => {
  for (const name of documents()) {
    for (const { language, text } of codeBlocks(readText(name))) {
      if (language === 'json') assert.doesNotThrow(() => JSON.parse(text) as unknown, `${name}: ${text}`);
    }
  }
});

test('CHANGELOG has the version of package.json', () => {
  assert.ok(readText('CHANGELOG.md').includes(`## ${readPackage().version}`));
});
