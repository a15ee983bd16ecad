/** Owns reading Prometheus' text format, strictly: a line that is none of its forms is an error. */

export interface Sample {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

const COMMENT =
  /^# (?:HELP [a-zA-Z_:][\w:]* .*|TYPE [a-zA-Z_:][\w:]* (?:counter|gauge|histogram|summary|untyped))$/;
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

export class Scrape {
  readonly samples: readonly Sample[];

  constructor(text: string) {
    if (!text.endsWith('\n')) throw new Error('the text must end in a line feed');
    this.samples = text
      .split('\n')
      .filter((line) => line !== '' && !COMMENT.test(line))
      .map((line) => {
        const match = SAMPLE.exec(line);
        if (match === null) throw new Error(`not a sample: ${line}`);
        const [, name = '', labels = '', value = ''] = match;
        return { name, labels: readLabels(labels), value: readNumber(value) };
      });
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
  const answer = await fetch(`${url}/metrics`);
  if (answer.status !== 200) throw new Error(`/metrics answers ${answer.status}`);
  return new Scrape(await answer.text());
}
