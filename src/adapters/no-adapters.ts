/** The registry of a server without an adapters directory: every name is unknown. */
import { PapillonError } from '../errors.js';
import type { AdapterInfo, AdapterLease, AdapterSource, AdapterTarget } from '../types.js';

function unknown(id: string): PapillonError {
  return new PapillonError(
    'UNKNOWN_MODEL',
    `There is no model or adapter "${id}": the server was started without an adapters directory (--adapters).`,
  );
}

export class NoAdapters implements AdapterSource {
  lease(id: string): AdapterLease {
    throw unknown(id);
  }

  resolve(id: string): AdapterTarget {
    throw unknown(id);
  }

  list(): readonly AdapterInfo[] {
    return [];
  }

  info(): undefined {
    return undefined;
  }

  load(id: string): Promise<AdapterInfo> {
    return Promise.reject(unknown(id));
  }

  unload(id: string): Promise<void> {
    return Promise.reject(unknown(id));
  }

  configure(id: string): Promise<AdapterInfo> {
    return Promise.reject(unknown(id));
  }
}
