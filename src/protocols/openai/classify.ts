/**
 * Owns the wire format of `POST /v1/classify`: JSON in, checked and frozen values inward; labelled scores out.
 * Pure.
 */
import { z } from 'zod';
import { PapillonError } from '../../errors.js';

/** Texts in one call. */
export const MAX_CLASSIFY_INPUTS = 1024;
/** UTF-16 code units in one text. */
export const MAX_CLASSIFY_CHARACTERS = 65_536;

export interface ClassifyRequest {
  /** At least one text. */
  readonly inputs: readonly string[];
  /** The base's or an adapter's id, as the body's `model` names it. */
  readonly model?: string;
  /** The body's `parameters.adapter_id`. */
  readonly adapterId?: string;
  /** The body's `strength`, or `parameters.strength`; both only where they agree. */
  readonly strength?: number;
  /** How many labels to tell; all of them where absent. */
  readonly topK?: number;
}

export interface LabelScore {
  readonly label: string;
  /** 0 to 1. */
  readonly score: number;
}

export interface ClassifyResponse {
  readonly object: 'list';
  readonly model: string;
  readonly data: readonly {
    readonly index: number;
    readonly label: string;
    readonly score: number;
    readonly scores: readonly LabelScore[];
  }[];
}

const id = (field: string) =>
  z
    .string({ error: `${field} must be a string` })
    .min(1, { error: `${field} must not be empty; leave it out to use the base` });

const strength = (field: string) => z.number({ error: `${field} must be a number` }).nullish();

const requestSchema = z.looseObject(
  {
    input: z.preprocess(
      (value) => (typeof value === 'string' ? [value] : value),
      z
        .array(
          z.string({ error: 'must be a string' }).max(MAX_CLASSIFY_CHARACTERS, {
            error: `is longer than ${MAX_CLASSIFY_CHARACTERS} characters; shorten or split the text`,
          }),
          { error: 'input must be a string or a list of strings' },
        )
        .min(1, { error: 'input is an empty list; give at least one text' })
        .max(MAX_CLASSIFY_INPUTS, {
          error: `input holds more than ${MAX_CLASSIFY_INPUTS} texts; send several requests`,
        }),
    ),
    model: id('model').nullish(),
    parameters: z
      .looseObject(
        { adapter_id: id('parameters.adapter_id').nullish(), strength: strength('parameters.strength') },
        { error: 'parameters must be an object' },
      )
      .nullish(),
    strength: strength('strength'),
    top_k: z
      .number({ error: 'top_k must be a whole number of at least 1' })
      .int({ error: 'top_k must be a whole number of at least 1' })
      .min(1, { error: 'top_k must be a whole number of at least 1' })
      .nullish(),
  },
  { error: 'The body must be a JSON object such as {"input": "some text"}' },
);

/** One sentence for the first thing that is wrong; positions within `input` are named. */
function describe(issue: z.core.$ZodIssue): string {
  const field = issue.path.at(0);
  const position = issue.path.at(1);
  return field === 'input' && position !== undefined
    ? `input[${String(position)}] ${issue.message}`
    : issue.message;
}

/**
 * Checks a parsed JSON body. Fields that are not known are ignored, null counts as absent.
 * Throws INVALID_REQUEST naming the field, CONFLICTING_ADAPTERS for two strengths.
 */
export function decodeClassifyRequest(body: unknown): ClassifyRequest {
  const parsed = requestSchema.safeParse(body);
  if (!parsed.success) {
    const issue = parsed.error.issues.at(0);
    throw new PapillonError(
      'INVALID_REQUEST',
      issue === undefined ? 'The body is not valid' : describe(issue),
    );
  }
  const { input, model, parameters, top_k: topK } = parsed.data;
  const adapterId = parameters?.adapter_id;
  const atStrength = parsed.data.strength ?? parameters?.strength;
  if (atStrength != null && (parameters?.strength ?? atStrength) !== atStrength) {
    throw new PapillonError(
      'CONFLICTING_ADAPTERS',
      'The request names two strengths, in strength and in parameters.strength; name one',
    );
  }
  return Object.freeze({
    inputs: Object.freeze(input),
    ...(model == null ? {} : { model }),
    ...(adapterId == null ? {} : { adapterId }),
    ...(atStrength == null ? {} : { strength: atStrength }),
    ...(topK == null ? {} : { topK }),
  });
}

/**
 * The answer to a call: `results[i]` are all labels of text i in any order, at least one.
 * Best label first, ties in the order given; `topK` limits `scores`, not the choice of `label`.
 */
export function encodeClassifyResponse(
  model: string,
  results: readonly (readonly LabelScore[])[],
  topK?: number,
): ClassifyResponse {
  const data = results.map((labels, index) => {
    const scores = labels
      .map(({ label, score }) => ({ label, score }))
      .sort((a, b) => b.score - a.score)
      .slice(0, topK);
    const best = scores.at(0);
    if (best === undefined) throw new PapillonError('INTERNAL', `Text ${index} has no labels`);
    return { index, label: best.label, score: best.score, scores };
  });
  return { object: 'list', model, data };
}
