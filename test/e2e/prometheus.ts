/** Owns reading Prometheus' text format, strictly: a line that is none of its forms is an error. */
import { probe } from './client.js';

export interface Sample {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

const HELP = /^# HELP [a-zA-Z_:][\w:]* .+$/;
const TYPE = /^# TYPE ([a-zA-Z_:][\w:]*) (counter|gauge|histogram|summary|untyped)$/;
const SAMPLE = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)$/;
const LABEL = /([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*)"(?:,|$)/y;

function readLabels(text: string): Record<string, string> {
  const labels: Record<string, string> = {};
  LABEL.lastIndex = 0;
  while (LABEL.lastIndex < text.length) {
    const match = LABEL.exec(text);
    if (match === null) throw new Error(`not a list of labels: ${text}`);
    const [, name = '', value = ''] = match;
    labels[name] = value;
  }
  return labels;
}

/** As Go's ParseFloat has it, which Prometheus reads with. */
function readNumber(text: string): number {
  if (/^nan$/i.test(text)) return Number.NaN;
  const value = Number(text.replace(/^([+-]?)Inf$/, '$1Infinity'));
  if (text === '' || Number.isNaN(value)) throw new Error(`not a number: ${text}`);
  return value;
}

function readSample(line: string): Sample {
  const match = SAMPLE.exec(line);
  if (match === null) throw new Error(`not a sample: ${line}`);
  const [, name = '', labels = '', value = ''] = match;
  return { name, labels: readLabels(labels), value: readNumber(value) };
}

export class Scrape {
  readonly samples: readonly Sample[];
  readonly #types = new Map<string, string>();

  constructor(text: string) {
    if (!text.endsWith('\n')) throw new Error('the text must end in a line feed');
    const samples: Sample[] = [];
    for (const line of text.split('\n')) {
      const [, family = '', type = ''] = TYPE.exec(line) ?? [];
      if (family !== '') this.#types.set(family, type);
      else if (line !== '' && !HELP.test(line)) samples.push(readSample(line));
    }
    this.samples = samples;
  }

  /** Type of the family that a series belongs to, by the series' name. */
  typeOf(name: string): string | undefined {
    return this.#types.get(name) ?? this.#types.get(name.replace(/_(?:bucket|sum|count)$/, ''));
  }

  /** Sum over the series with these labels; 0 where there is none. */
  sum(name: string, labels: Readonly<Record<string, string>> = {}): number {
    return this.samples
      .filter((sample) => sample.name === name)
      .filter((sample) => Object.entries(labels).every(([key, value]) => sample.labels[key] === value))
      .reduce((total, { value }) => total + value, 0);
  }
}

export async function scrape(url: string): Promise<Scrape> {
  const { status, text } = await probe(url, '/metrics');
  if (status !== 200) throw new Error(`/metrics answers ${status}`);
  return new Scrape(text);
}

/** Inference requests that wait or run now. */
export async function inHouse(url: string): Promise<number> {
  const now = await scrape(url);
  return now.sum('papillon_queue_length') + now.sum('papillon_running_requests');
}
