/** The project's own files as the tests of its documents see them. */
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The repository's root; the compiled tests lie in build/test/project/support. */
export const ROOT = fileURLToPath(new URL('../../../../', import.meta.url));

export function readText(path: string): string {
  return readFileSync(join(ROOT, path), 'utf8');
}

interface Package {
  readonly version: string;
  readonly scripts: Readonly<Record<string, string>>;
}

export function readPackage(): Package {
  return JSON.parse(readText('package.json')) as Package;
}

/** The project's documents, by path from the root. */
export function documents(): string[] {
  const inFolder = (folder: string): string[] =>
    readdirSync(join(ROOT, folder))
      .filter((name) => name.endsWith('.md'))
      .map((name) => join(folder, name));
  return ['.', 'docs', 'deploy', 'models', 'adapters'].flatMap(inFolder);
}

export interface CodeBlock {
  readonly language: string;
  /** What follows the language on the fence, as in ```sh run. */
  readonly note: string;
  readonly text: string;
}

/** The fenced blocks of a document, in order. */
export function codeBlocks(markdown: string): CodeBlock[] {
  return [...markdown.matchAll(/^```(\w*)[ ]?(.*)\n([^]*?)^```$/gm)].map(
    ([, language = '', note = '', text = '']) => ({ language, note, text }),
  );
}
