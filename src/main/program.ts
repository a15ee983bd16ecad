/** The program's frame: name, version, help, and one-line errors with an exit code. */
import { readFileSync } from 'node:fs';
import { Command } from 'commander';
import { ConfigError } from '../config.js';
import { PapillonError } from '../errors.js';

interface PackageFile {
  readonly name: string;
  readonly version: string;
}

function readPackage(): PackageFile {
  return JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as PackageFile;
}

export const VERSION = readPackage().version;

/** Exit codes: 2 for a command line or configuration that cannot be used, 1 for everything else. */
const EXIT_USAGE = 2;
const EXIT_FAILURE = 1;

export function createProgram(): Command {
  return new Command('papillon')
    .description(
      'Serves one frozen ONNX base model with a BOFT or OFT adapter per request, different adapters in one batch.',
    )
    .version(VERSION)
    .showHelpAfterError('(papillon --help lists the commands, papillon COMMAND --help their options)')
    .addHelpText(
      'after',
      `
Examples:
  papillon serve --model models/demo-router --adapters adapters
  papillon inspect models/demo-router
  papillon inspect adapters/acme-retail --model models/demo-router`,
    );
}

/** Prints one line for errors that a person can mend, a stack only for defects; ends the process. */
export function failWith(error: unknown): never {
  if (error instanceof ConfigError) {
    process.stderr.write(`papillon: ${error.message}\n`);
    process.exit(EXIT_USAGE);
  }
  if (error instanceof PapillonError && error.code !== 'INTERNAL') {
    process.stderr.write(`papillon: ${error.message}\n`);
    process.exit(error.code === 'CONFIG_INVALID' ? EXIT_USAGE : EXIT_FAILURE);
  }
  process.stderr.write(
    `papillon: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`,
  );
  process.exit(EXIT_FAILURE);
}
