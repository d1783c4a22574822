/** export/vectors: what the Python runtime answers. */

import { readFileSync } from 'node:fs';
import { VECTORS } from './site';

export interface Vector {
  model: string;
  sound: string;
  samples: number;
  probabilities?: number[];
  log_probs?: number[][];
  text: string;
  confidence: number;
  threshold?: number;
  chunks?: number[];
  events?: { text: string; time_s: number; confidence: number }[];
}

const document = JSON.parse(readFileSync(`${VECTORS}vectors.json`, 'utf8')) as {
  models: Record<string, { file: string }>;
  vectors: Vector[];
};

export const MODELS_OF_VECTORS = document.models;
export const ALL = document.vectors;
export const STREAMED = ALL.filter((vector) => vector.events);
// Another WebAssembly, another order of sums; int8 weights make a little difference larger.
export const TOLERANCE = 1e-3;
