/** The adapters directory itself, and what may be said to lie in it. */
import { realpath, stat } from 'node:fs/promises';
import path from 'node:path';
import { PapillonError } from '../errors.js';

/**
 * The directory's resolved path.
 *
 * @throws PapillonError CONFIG_INVALID where it is no readable directory
 */
export async function resolveAdaptersDirectory(directory: string): Promise<string> {
  const resolved = await realpath(directory).catch(() => null);
  const isDirectory = resolved !== null && (await stat(resolved)).isDirectory();
  if (resolved !== null && isDirectory) return resolved;
  throw new PapillonError('CONFIG_INVALID', 'The adapters directory does not exist or is not a directory.');
}

/**
 * A load request's source, normalised: a relative path without `..`. Links are followed and checked where it is read.
 *
 * @throws PapillonError ADAPTER_PATH_ESCAPES
 */
export function checkSource(source: string): string {
  const parts = source.split(/[/\\]/);
  if (source === '' || source.includes('\0') || path.isAbsolute(source) || parts.includes('..')) {
    throw new PapillonError(
      'ADAPTER_PATH_ESCAPES',
      'The source must be a path relative to the adapters directory, without "..".',
    );
  }
  return path.normalize(source);
}
